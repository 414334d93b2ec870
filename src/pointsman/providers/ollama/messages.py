"""A conversation in Ollama's words: text, pictures and calls beside each other, no parts."""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    FilePart,
    ImagePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pointsman.canonical.request import Message, Request
from pointsman.errors import GatewayError, Kind
from pointsman.providers.leftovers import Leftovers

API: Final = "Ollama"

# What stands in ``extra`` of a prompt's request and means nothing to a chat.
PROMPT_MEMBERS: Final = ("suffix", "template", "context", "raw", "width", "height", "steps")

_BETWEEN: Final = "\n"
_decode: Final = msgspec.json.Decoder().decode


class Messages:
    """Writes messages. Several texts of one message become lines of one text."""

    def __init__(self, left: Leftovers, fidelity: Fidelity) -> None:
        self._left = left
        self._fidelity = fidelity
        self._names: dict[str, str] = {}  # of calls, by id: results name the tool

    def write(self, messages: list[Message]) -> list[dict[str, Any]]:
        """All messages. Raises GatewayError(INVALID_REQUEST) for a call whose arguments are no JSON object."""
        return [written for message in messages for written in self._message(message)]

    def _message(self, message: Message) -> list[dict[str, Any]]:
        own = self._left.message(message)
        results = [self._result(part) for part in message.parts if isinstance(part, ToolResultPart)]
        others: list[AnyPart] = [part for part in message.parts if not isinstance(part, ToolResultPart)]
        if results and not others:
            results[0] |= own
            return results
        role = "system" if message.role == "developer" else message.role
        return [*results, {"role": role, **self._content(others), **own}]

    def _content(self, parts: list[AnyPart]) -> dict[str, Any]:
        texts: list[str] = []
        thoughts: list[str] = []
        images: list[str] = []
        calls: list[dict[str, Any]] = []
        own: dict[str, Any] = {}
        for part in parts:
            match part:
                case ToolCallPart():
                    calls.append(self._call(part))
                    continue
                case ReasoningPart():
                    thoughts += self._thoughts(part)
                case ImagePart():
                    images += self._image(part)
                case _:
                    texts += self._text(part)
            own |= self._left.part(part)
        content: dict[str, Any] = {"content": _BETWEEN.join(texts)}
        if thoughts:
            content["thinking"] = _BETWEEN.join(thoughts)
        if images:
            content["images"] = images
        if calls:
            content["tool_calls"] = calls
        return content | own

    def _text(self, part: AnyPart) -> list[str]:
        match part:
            case TextPart():
                return [part.text]
            case RefusalPart():
                self._fidelity.approximated(part.path, "told as text")
                return [part.text]
            case FilePart(text=str() as text):
                self._fidelity.approximated(part.path, "told as text")
                return [f"{name}:\n{text}" if (name := part.title or part.filename) else text]
            case _:
                kind = type(part).__name__.removesuffix("Part").lower()
                self._left.whole(part, f"Ollama takes text and pictures, no {kind} parts")
                return []

    def _thoughts(self, part: ReasoningPart) -> list[str]:
        if not part.text and not part.summary:
            self._left.whole(part, "there is nothing in it that Ollama could read")
        return [part.text] if part.text else list(part.summary or ())

    def _image(self, part: ImagePart) -> list[str]:
        data = _base64_of(part)
        if data is None:
            self._left.whole(part, "Ollama takes pictures as bytes, no addresses")
            return []
        if part.detail is not None:
            self._fidelity.dropped(f"{part.path}.detail", "Ollama has no such option")
        return [data]

    def _call(self, part: ToolCallPart) -> dict[str, Any]:
        self._names[part.id] = part.name
        function: dict[str, Any] = {"name": part.name, "arguments": self._arguments(part)}
        if part.namespace is not None:
            self._fidelity.mapped(f"{part.path}.namespace", "it stands before the name")
        call: dict[str, Any] = {"id": part.id, "function": function}
        for key, value in self._left.part(part).items():
            if key.startswith("function."):
                function[key.removeprefix("function.")] = value
            else:
                call[key] = value
        return call

    def _arguments(self, part: ToolCallPart) -> dict[str, Any]:
        if part.kind == "custom":
            self._fidelity.approximated(part.path, "a custom tool's text is sent as the argument 'input'")
            return {"input": part.arguments}
        try:
            value = _decode(part.arguments) if part.arguments.strip() else {}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            value = None
        if not isinstance(value, dict):
            message = f"'{part.path}' has arguments that are no JSON object, and Ollama takes nothing else"
            raise GatewayError(Kind.INVALID_REQUEST, message, param=part.path)
        return value

    def _result(self, part: ToolResultPart) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "tool", **self._content(part.content)}
        if (name := part.name or self._names.get(part.call_id)) is not None:
            message["tool_name"] = name
        message["tool_call_id"] = part.call_id
        if part.is_error is not None:
            self._fidelity.dropped(f"{part.path}.is_error", "Ollama has no mark for failed tools")
        return message | self._left.part(part)


def prompt_of(request: Request, left: Leftovers) -> dict[str, Any] | None:
    """A generate request's own members, while its messages are still a system text and one prompt; None otherwise."""
    messages = request.messages
    system = messages[0] if len(messages) == 2 and messages[0].role == "system" else None
    if len(messages) != (1 if system is None else 2) or messages[-1].role != "user" or request.tools:
        return None
    texts = [part.text for part in messages[-1].parts if isinstance(part, TextPart)]
    images = [_base64_of(part) for part in messages[-1].parts if isinstance(part, ImagePart)]
    if len(texts) != 1 or None in images or len(texts) + len(images) != len(messages[-1].parts):
        return None
    body: dict[str, Any] = {"prompt": texts[0]}
    if images:
        body["images"] = images
    if system is not None:
        if not all(isinstance(part, TextPart) for part in system.parts):
            return None
        body["system"] = _BETWEEN.join(part.text for part in system.parts if isinstance(part, TextPart))
    for message in messages:
        left.message(message)
        for part in message.parts:
            left.part(part)
    return body


def _base64_of(part: ImagePart) -> str | None:
    source = part.source
    if source.data is not None:
        return source.data
    head, comma, data = (source.url or "").partition(",")
    return data if comma and head.startswith("data:") and head.endswith(";base64") else None
