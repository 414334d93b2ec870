"""A conversation in Bedrock's words: blocks in turns that alternate, cache points behind what they cover."""

import hashlib
import re
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
    FilePart,
    ImagePart,
    NativePart,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.canonical.request import Message
from pointsman.errors import GatewayError, Kind
from pointsman.providers.leftovers import Leftovers
from pointsman.wire.bedrock import (
    AUDIO_FORMATS,
    DOCUMENT_FORMATS,
    IMAGE_FORMATS,
    NAME,
    VIDEO_FORMATS,
    WIRE,
)

Block = dict[str, Any]

_SYSTEM: Final = ("system", "developer")
_IN_RESULTS: Final = frozenset(("text", "image", "document", "video", "json"))
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9 ()\[\]-]+")
_NAME_LENGTH: Final = 200
_decode: Final = msgspec.json.Decoder().decode


class Messages:
    """Writes system text and messages. ``signs``: the model takes reasoning back only with its signature."""

    def __init__(self, left: Leftovers, fidelity: Fidelity, *, signs: bool) -> None:
        self.system: list[Block] = []
        self.messages: list[Block] = []
        self._left = left
        self._fidelity = fidelity
        self._signs = signs

    def write(self, messages: list[Message]) -> None:
        """Read all messages. Raises GatewayError(INVALID_REQUEST) for a call whose arguments are no JSON object."""
        for message in messages:
            own = self._left.message(message)
            blocks = [block for part in message.parts for block in self._part(part)]
            if message.role in _SYSTEM and not self.messages:
                self.system += blocks
                continue
            if message.role in _SYSTEM:
                self._fidelity.approximated(message.path, "Bedrock has its system text first: sent as a user's")
                for block in blocks:
                    if "text" in block:
                        block["text"] = f"<system>\n{block['text']}\n</system>"
            self._add("assistant" if message.role == "assistant" else "user", blocks, own)

    def _add(self, role: str, blocks: list[Block], own: Block) -> None:
        """One more turn; neighbours of one role are one turn."""
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks, **own})

    def _part(self, part: AnyPart) -> list[Block]:
        blocks = self._blocks(part)
        if part.cache is not None and blocks:
            blocks.append(cache_point(part.cache))
        return blocks

    def _blocks(self, part: AnyPart) -> list[Block]:
        match part:
            case ReasoningPart():
                return self._thought(part)
            case NativePart(wire="bedrock"):
                return [dict(part.value)]
            case TextPart():
                return self._text(part)
            case RefusalPart():
                self._fidelity.approximated(part.path, "told as text")
                self._left.part(part, cached=True)
                return [{"text": part.text}] if part.text else []
            case ToolCallPart():
                return [{"toolUse": self._call(part)}]
            case ToolResultPart():
                return [{"toolResult": self._result(part)}]
            case _:
                return self._medium(part)

    def _text(self, part: TextPart) -> list[Block]:
        own = [one.native for one in part.citations or () if one.wire == WIRE and one.native is not None]
        self._left.part(part, cached=True, cited=len(own) == len(part.citations or ()))
        if not part.text:
            return []
        if own:
            return [{"citationsContent": {"content": [{"text": part.text}], "citations": own}}]
        return [{"text": part.text}]

    def _thought(self, part: ReasoningPart) -> list[Block]:
        opaque = part.opaque if part.opaque is not None and part.opaque.origin == WIRE else None
        self._left.part(part, cached=True, opaque=opaque is not None)
        if opaque is not None and opaque.kind == "redacted":
            return [{"reasoningContent": {"redactedContent": opaque.data}}]
        text = part.text or "\n".join(part.summary or ())
        if opaque is None and (self._signs or not text):
            self._left.whole(part, "the model takes no thoughts without its own signature" if text else "it is empty")
            return []
        told: Block = {"text": text}
        if opaque is not None:
            told["signature"] = opaque.data
        return [{"reasoningContent": {"reasoningText": told}}]

    def _call(self, part: ToolCallPart) -> Block:
        if part.namespace is not None:
            self._fidelity.mapped(f"{part.path}.namespace", "it stands before the name")
        self._left.part(part, cached=True)
        return {"toolUseId": call_id(part.id), "name": part.name, "input": self._arguments(part)}

    def _arguments(self, part: ToolCallPart) -> Block:
        if part.kind == "custom":
            self._fidelity.approximated(part.path, "a custom tool's text is sent as the argument 'input'")
            return {"input": part.arguments}
        try:
            value = _decode(part.arguments) if part.arguments.strip() else {}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            value = None
        if not isinstance(value, dict):
            message = f"'{part.path}' has arguments that are no JSON object, and Bedrock takes nothing else"
            raise GatewayError(Kind.INVALID_REQUEST, message, param=part.path)
        return value

    def _result(self, part: ToolResultPart) -> Block:
        content = []
        for inner in part.content:
            for block in self._blocks(inner):
                if _IN_RESULTS.isdisjoint(block):
                    self._left.whole(inner, "Bedrock's tool results don't hold such parts")
                else:
                    content.append(block)
            self._left.cache(inner.path, inner.cache)
        result: Block = {"toolUseId": call_id(part.call_id), "content": content}
        if part.is_error is not None:
            result["status"] = "error" if part.is_error else "success"
        self._left.part(part, cached=True)
        return result

    def _medium(self, part: AnyPart) -> list[Block]:
        block: Block | None = None
        match part:
            case ImagePart():
                block = self._image(part)
            case FilePart():
                block = self._document(part)
            case AudioPart():
                block = _audio(part)
            case VideoPart():
                kind = VIDEO_FORMATS.get(part.source.media_type or "video/mp4")
                block = _medium_block("video", kind, part.source)
        if block is None:
            kind = type(part).__name__.removesuffix("Part").lower()
            self._left.whole(part, f"Bedrock takes no {kind} parts like this")
            return []
        self._left.part(part, cached=True)
        return [block]

    def _image(self, part: ImagePart) -> Block | None:
        block = _medium_block("image", IMAGE_FORMATS.get(part.source.media_type or "image/png"), part.source)
        if block is not None and part.source.media_type is None:
            self._fidelity.synthesised(f"{part.path}.format", "Bedrock demands one: png")
        if block is not None and part.detail is not None:
            self._fidelity.dropped(f"{part.path}.detail", "Bedrock has no such option")
        return block

    def _document(self, part: FilePart) -> Block | None:
        name = part.title or part.filename or ""
        source: Block | None = {"text": part.text} if part.text is not None else None
        if source is None and part.source is not None:
            source = _source(part.source)
        if source is None:
            return None
        plain = " ".join(_NOT_IN_NAMES.sub(" ", name).split())[:_NAME_LENGTH]
        document: Block = {"name": plain or "document", "source": source}
        if plain != name:
            note = self._fidelity.mapped if name else self._fidelity.synthesised
            note(f"{part.path}.filename", f"Bedrock demands a plain name: {document['name']}")
        if (kind := _document_format(part)) is not None:
            document["format"] = kind
        if part.context is not None:
            document["context"] = part.context
        if part.citations is not None:
            document["citations"] = {"enabled": part.citations}
        return {"document": document}


def cache_point(mark: CacheMark) -> Block:
    """A cache point with the mark's time to live."""
    point: Block = {"type": "default"}
    if mark.ttl is not None:
        point["ttl"] = mark.ttl
    return {"cachePoint": point}


def call_id(name: str) -> str:
    """The id of a call as Bedrock takes it: as it is, or the same substitute each time."""
    if NAME.fullmatch(name):
        return name
    return f"call_{hashlib.blake2s(name.encode()).hexdigest()[:32]}"


def _audio(part: AudioPart) -> Block | None:
    kind = part.format or (part.source.media_type or "").rpartition("/")[2]
    return _medium_block("audio", kind if kind in AUDIO_FORMATS else None, part.source)


def _medium_block(name: str, kind: str | None, source: Source) -> Block | None:
    found = _source(source)
    return None if found is None or kind is None else {name: {"format": kind, "source": found}}


def _source(source: Source) -> Block | None:
    if source.data is not None:
        return {"bytes": source.data}
    if source.url is not None and source.url.startswith("s3://"):
        return {"s3Location": {"uri": source.url}}
    return None


def _document_format(part: FilePart) -> str | None:
    media_type = part.source.media_type if part.source is not None else None
    if media_type in DOCUMENT_FORMATS:
        return DOCUMENT_FORMATS[media_type or ""]
    ending = (part.filename or "").rpartition(".")[2].lower()
    return ending if ending in DOCUMENT_FORMATS.values() else "txt" if part.text is not None else "pdf"
