"""A conversation in Cohere's words: one system turn at the start, text beside tool calls as their plan."""

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
from pointsman.canonical.request import Message
from pointsman.errors import GatewayError, Kind
from pointsman.providers.leftovers import Leftovers
from pointsman.wire.cohere import WIRE

Block = dict[str, Any]

_DETAILS: Final = ("auto", "low", "high")
_SYSTEM: Final = ("system", "developer")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Messages:
    """Writes messages; documents that the answer shall cite are collected in ``documents``.

    ``cites``: whether documents may be sent, which Cohere takes only where the answer is free text.
    """

    def __init__(self, left: Leftovers, fidelity: Fidelity, *, cites: bool) -> None:
        self.documents: list[Block] = []
        self._left = left
        self._fidelity = fidelity
        self._cites = cites

    def write(self, messages: list[Message]) -> list[Block]:
        """All messages. Raises GatewayError(INVALID_REQUEST) for a call whose arguments are no JSON object."""
        leading = 0
        while leading < len(messages) and messages[leading].role in _SYSTEM:
            leading += 1
        system = [block for message in messages[:leading] for block in self._system(message)]
        written = [{"role": "system", "content": _plain(system)}] if system else []
        for message in messages[leading:]:
            written += self._message(message)
        return written

    def _system(self, message: Message) -> list[Block]:
        self._left.message(message)
        return [block for part in message.parts for block in self._block(part)]

    def _message(self, message: Message) -> list[Block]:
        if message.role == "assistant":
            return self._assistant(message)
        own = self._left.message(message)
        results = [self._result(part) for part in message.parts if isinstance(part, ToolResultPart)]
        others = [part for part in message.parts if not isinstance(part, ToolResultPart)]
        blocks = [block for part in others for block in self._block(part)]
        if message.role in _SYSTEM:
            self._fidelity.approximated(message.path, "Cohere has its system text first: sent as a user's")
            for block in blocks:
                if block["type"] == "text":
                    block["text"] = f"<system>\n{block['text']}\n</system>"
        if not blocks and not results:
            self._fidelity.dropped(message.path, "Cohere takes no empty messages")
        return [*results, *([{"role": "user", "content": _plain(blocks), **own}] if blocks else [])]

    def _assistant(self, message: Message) -> list[Block]:
        own = self._left.message(message)
        calls = [self._call(part) for part in message.parts if isinstance(part, ToolCallPart)]
        thoughts = [
            thought for part in message.parts if isinstance(part, ReasoningPart) for thought in self._thought(part)
        ]
        others = [part for part in message.parts if not isinstance(part, ToolCallPart | ReasoningPart)]
        texts = [block for part in others for block in self._block(part)]
        for block in [one for one in texts if one["type"] != "text"]:
            texts.remove(block)
            self._fidelity.dropped(message.path, "Cohere's own turns hold no pictures")
        written: Block = {"role": "assistant", **own}
        if calls:
            written["tool_calls"] = calls
            if texts:
                written["tool_plan"] = "\n".join(block["text"] for block in texts)
            texts = []
        if content := [*thoughts, *texts]:
            written["content"] = _plain(content)
        if citations := _citations(message):
            written["citations"] = citations
        if not calls and not content:
            self._fidelity.dropped(message.path, "Cohere takes no empty messages")
            return []
        return [written]

    def _block(self, part: AnyPart) -> list[Block]:
        match part:
            case TextPart():
                self._left.part(part, cited=all(one.wire == WIRE for one in part.citations or ()))
                return [{"type": "text", "text": part.text}] if part.text else []
            case RefusalPart():
                self._fidelity.approximated(part.path, "told as text")
                self._left.part(part)
                return [{"type": "text", "text": part.text}] if part.text else []
            case ImagePart():
                return self._image(part)
            case FilePart(text=str()):
                return self._document(part)
            case _:
                kind = type(part).__name__.removesuffix("Part").lower()
                self._left.whole(part, f"Cohere takes text, pictures and documents in text, no {kind} parts")
                return []

    def _image(self, part: ImagePart) -> list[Block]:
        source = part.source
        url = source.url
        if source.data is not None:
            url = f"data:{source.media_type or 'image/png'};base64,{source.data}"
        if url is None:
            self._left.whole(part, "the file is not at Cohere")
            return []
        self._left.part(part)
        image: Block = {"url": url}
        if part.detail in _DETAILS:
            image["detail"] = part.detail
        elif part.detail is not None:
            image["detail"] = "high"
            self._fidelity.approximated(f"{part.path}.detail", f"{part.detail} becomes high")
        return [{"type": "image_url", "image_url": image}]

    def _document(self, part: FilePart) -> list[Block]:
        self._left.part(part)
        title = part.title or part.filename
        if part.citations and self._cites:
            data = {"text": part.text, "title": title, "context": part.context}
            document = {"id": f"doc:{len(self.documents)}", "data": {k: v for k, v in data.items() if v is not None}}
            self.documents.append(document)
            self._fidelity.mapped(part.path, "sent as a document to cite")
            return []
        self._fidelity.approximated(part.path, "told as text")
        texts = [text for text in (title, part.context, part.text) if text]
        return [{"type": "text", "text": "\n".join(texts)}] if texts else []

    def _thought(self, part: ReasoningPart) -> list[Block]:
        text = part.text or "\n".join(part.summary or ())
        if not text:
            self._left.whole(part, "there is nothing in it that Cohere could read")
            return []
        self._left.part(part)
        return [{"type": "thinking", "thinking": text}]

    def _call(self, part: ToolCallPart) -> Block:
        if part.namespace is not None:
            self._fidelity.mapped(f"{part.path}.namespace", "it stands before the name")
        function = {"name": part.name, "arguments": self._arguments(part)}
        return {"id": part.id, "type": "function", "function": function, **self._left.part(part)}

    def _arguments(self, part: ToolCallPart) -> str:
        if part.kind == "custom":
            self._fidelity.approximated(part.path, "a custom tool's text is sent as the argument 'input'")
            return _encode({"input": part.arguments}).decode()
        if not part.arguments.strip():
            return "{}"
        try:
            value = _decode(part.arguments)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            value = None
        if not isinstance(value, dict):
            message = f"'{part.path}' has arguments that are no JSON object, and Cohere takes nothing else"
            raise GatewayError(Kind.INVALID_REQUEST, message, param=part.path)
        return part.arguments

    def _result(self, part: ToolResultPart) -> Block:
        blocks = []
        for inner in part.content:
            blocks += [block for block in self._block(inner) if self._is_text(block, inner)]
        if part.is_error is not None:
            self._fidelity.dropped(f"{part.path}.is_error", "Cohere has no mark for failed tools")
        if not blocks:
            self._fidelity.synthesised(part.path, "Cohere takes no empty results: {}")
        own = self._left.part(part)
        return {"role": "tool", "tool_call_id": part.call_id, "content": _plain(blocks) or "{}", **own}

    def _is_text(self, block: Block, part: AnyPart) -> bool:
        if block["type"] != "text":
            self._left.whole(part, "Cohere's tool results hold no pictures")
        return bool(block["type"] == "text")


def _plain(blocks: list[Block]) -> str | list[Block]:
    """A single text as text, anything else as blocks."""
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        text: str = blocks[0]["text"]
        return text
    return blocks


def _citations(message: Message) -> list[Block]:
    """Cohere's own citations in an earlier answer, as it wrote them."""
    texts = [part for part in message.parts if isinstance(part, TextPart)]
    found = [one for part in texts for one in part.citations or () if one.wire == WIRE]
    return [one.native for one in found if one.native is not None]
