"""Reads the messages of a Chat Completions request into our own words."""

from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    ImagePart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pointsman.canonical.request import Message
from pointsman.wire.members import Members, plain_text
from pointsman.wire.openai_chat_parts import read_cache, read_call, read_part, read_source
from pointsman.wire.openai_chat_reasoning import attach_signatures, read_history

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class MessageReader:
    """Reads messages one after the other; knows the calls that results belong to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._names: dict[str, str] = {}  # call id -> the tool's name
        self._legacy: dict[str, str] = {}  # function name -> the id given to its last call

    def read(self, item: Members) -> None:
        """Take in the next message. Raises GatewayError(INVALID_REQUEST)."""
        role = item.one_of("role", *ROLES)
        if role is None:
            raise item.wrong("role", "is missing")
        if role == "tool" or role == "function":
            self._read_result(item, role)
            return
        number = len(self.messages)
        parts = self._read_assistant(item, number) if role == "assistant" else _read_content(item)
        if not parts and role != "assistant":
            raise item.wrong("content", "is missing")
        if _is_bare(item):
            self.messages.append(Message(role=role, parts=parts, path=item.path))  # type: ignore[arg-type]
            return
        _mark_last(item, parts)
        message = Message(role=role, parts=parts, name=item.string("name"), path=item.path)  # type: ignore[arg-type]
        message.extra = item.rest()
        self.messages.append(message)

    def _read_assistant(self, item: Members, number: int) -> list[AnyPart]:
        """Parts in the order in which they were made: reasoning, text, refusal, sound, pictures, calls."""
        if _is_bare(item):
            return _read_content(item)
        parts: list[AnyPart] = [*read_history(item), *_read_content(item)]
        for name in item.value:
            if name in ("refusal", "audio", "images"):
                _read_beside(item, name, parts)
        if "tool_calls" in item.value:
            for place, call in enumerate(item.objects("tool_calls")):
                part = read_call(call, f"call_{number}_{place}")
                self._names[part.id] = part.name
                parts.append(part)
        if "function_call" in item.value and (legacy := item.object("function_call")) is not None:
            parts.append(self._read_function_call(legacy, f"call_{number}_0"))
        return attach_signatures(parts) if "reasoning_details" in item.value else parts

    def _read_function_call(self, call: Members, identifier: str) -> ToolCallPart:
        name = call.text("name")
        self._legacy[name] = identifier
        self._names[identifier] = name
        return ToolCallPart(id=identifier, name=name, arguments=call.string("arguments") or "", path=call.path)

    def _read_result(self, item: Members, role: str) -> None:
        """A tool message: a part of the user's next words, together with the results right before it."""
        name: str | None
        if role == "function":
            name = item.text("name")
            identifier = self._legacy.get(name, f"call_{name}")
        else:
            identifier = item.text("tool_call_id")
            name = self._names.get(identifier)
        content = _read_content(item)
        part = ToolResultPart(call_id=identifier, content=content, name=name, path=item.path, cache=read_cache(item))
        part.extra = item.rest()
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "user" and all(isinstance(one, ToolResultPart) for one in last.parts):
            last.parts.append(part)
        else:
            self.messages.append(Message(role="user", parts=[part], path=item.path))


def _is_bare(item: Members) -> bool:
    """Whether a message is a role and content, and no more."""
    return len(item.value) == 2 and "content" in item.value


def _read_beside(item: Members, name: str, parts: list[AnyPart]) -> None:
    """What an assistant message has beside its content."""
    if name == "refusal":
        refusal = item.string("refusal")
        if refusal is not None:
            parts.append(RefusalPart(text=refusal, path=item.at("refusal")))
    elif name == "audio":
        audio = item.object("audio")
        if audio is not None:
            parts.append(AudioPart(source=Source(), id=audio.text("id"), path=audio.path, extra=audio.rest()))
    else:
        for image in item.objects("images"):
            inner = image.object("image_url")
            if inner is not None:
                parts.append(ImagePart(source=read_source(inner.text("url")), path=image.path))


def _read_content(item: Members) -> list[AnyPart]:
    content = item.value.get("content")
    item.ignore("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(text=content, path=item.at("content"))]
    if not isinstance(content, list):
        raise item.wrong("content", "must be a string or a list of parts")
    place = item.at("content")
    parts: list[AnyPart] = []
    for number, part in enumerate(content):
        path, text = f"{place}[{number}]", plain_text(part)
        parts.append(read_part(item.inner(part, path)) if text is None else TextPart(text=text, path=path))
    return parts


def _mark_last(item: Members, parts: list[AnyPart]) -> None:
    """LiteLLM's clients put ``cache_control`` on a message: it stands for its last part."""
    mark = read_cache(item)
    if mark is not None and parts:
        parts[-1].cache = mark
