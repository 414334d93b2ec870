"""Parts of a request as Anthropic's content blocks."""

import base64
import binascii
import re
from hashlib import blake2s
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    FilePart,
    ImagePart,
    NativePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.errors import GatewayError, Kind
from pointsman.providers.anthropic.tools import mark, put_back
from pointsman.wire.anthropic import IMAGE_TYPES, WIRE

Block = dict[str, Any]

_PDF: Final = "application/pdf"
_MAGIC: Final = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
_DATA_URL: Final = re.compile(r"data:(?P<type>[^;,]*)(?:;[^,]*)?;base64,(?P<data>.*)", re.DOTALL)
_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_NOT_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")

_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def bare(blocks: list[Block]) -> str | list[Block]:
    """Content as Anthropic's clients write it: one text without a mark or a citation is a string."""
    first = blocks[0]
    return first["text"] if len(blocks) == 1 and first["type"] == "text" and len(first) == 2 else blocks


class BlockWriter:
    """Writes the parts of one request; ``own``: its client speaks Anthropic's API too."""

    def __init__(self, wire: str, fidelity: Fidelity) -> None:
        self.own = wire == WIRE
        self.fidelity = fidelity

    def write(self, part: AnyPart) -> Block | None:
        """The block of a part; None when it has none (noted).

        Raises GatewayError: INVALID_REQUEST for what the client got wrong, UNSUPPORTED for content that Anthropic
        can't be given at all.
        """
        block = self._text(part) if isinstance(part, TextPart) else self._block(part)
        if block is None or isinstance(part, NativePart):
            return block
        if part.cache is not None and block["type"] not in ("thinking", "redacted_thinking"):
            block |= mark(part.cache)
        elif part.cache is not None:
            self.fidelity.dropped(f"{part.path}.cache_control", "Anthropic marks no thinking")
        if part.opaque is not None and not isinstance(part, ReasoningPart):
            self.fidelity.dropped(f"{part.path}.{part.opaque.kind}", f"only {part.opaque.origin} can read it")
        if part.extra is not None:
            self._put_back(block, part)
        return block

    def _block(self, part: AnyPart) -> Block | None:
        match part:
            case TextPart():
                return self._text(part)
            case ToolCallPart():
                return self._call(part)
            case ToolResultPart():
                return self._result(part)
            case ReasoningPart():
                return self._reasoning(part)
            case ImagePart():
                return self._image(part)
            case FilePart():
                return self._file(part)
            case RefusalPart():
                self.fidelity.mapped(part.path, "a refusal is text")
                return {"type": "text", "text": part.text} if part.text else None
            case NativePart():
                return self._native(part)
            case AudioPart() | VideoPart():
                return self._sound(part)

    def _put_back(self, block: Block, part: Part) -> None:
        extra = part.extra
        if extra is not None and extra.get("type") == "search_result" and self.own:
            block.clear()
            block |= {"type": "search_result", "source": extra["source"], "title": getattr(part, "title", None)}
            block |= {"content": extra["content"]} | mark(part.cache)
            citations = getattr(part, "citations", None)
            if citations is not None:
                block["citations"] = {"enabled": citations}
        elif extra is not None and isinstance(extra.get("source"), dict) and self.own:
            block["source"] = extra["source"]
        put_back(block, extra, part.path, self.own, self.fidelity)

    def _text(self, part: TextPart) -> Block | None:
        if not part.text or (not self.own and not part.text.strip()):
            note = self.fidelity.dropped if part.text else self.fidelity.mapped  # an empty text says nothing
            note(part.path, "Anthropic takes no empty text")
            return None
        block: Block = {"type": "text", "text": part.text}
        if part.citations is None:
            return block
        own = [citation.native for citation in part.citations if citation.wire == WIRE and citation.native]
        if own:
            block["citations"] = own
        if len(own) < len(part.citations):
            self.fidelity.dropped(f"{part.path}.citations", "Anthropic takes back its own citations only")
        return block

    def _call(self, part: ToolCallPart) -> Block:
        if part.namespace is not None:
            self.fidelity.mapped(f"{part.path}.namespace", "it stands before the name")
        identity = self.call_id(part.id, part.path)
        return {"type": "tool_use", "id": identity, "name": part.name, "input": self._arguments(part)}

    def _arguments(self, part: ToolCallPart) -> dict[str, Any]:
        if part.kind == "custom":
            self.fidelity.approximated(part.path, "a function whose one string 'input' is the text")
            return {"input": part.arguments}
        if not part.arguments.strip():
            return {}
        try:
            return _object(part.arguments)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise GatewayError(
                Kind.INVALID_REQUEST,
                f"'{part.path}': the arguments of this tool call are no JSON object, which this model's API wants",
                param=part.path,
            ) from None

    def _result(self, part: ToolResultPart) -> Block:
        identity = self.call_id(part.call_id, part.path)
        block: Block = {"type": "tool_result", "tool_use_id": identity}
        inner = [written for one in part.content if (written := self.write(one)) is not None]
        if inner:
            block["content"] = bare(inner)
        if part.is_error is not None:
            block["is_error"] = part.is_error
        return block

    def call_id(self, given: str, path: str) -> str:
        """A call's id in the letters that Anthropic takes: the same for the same id."""
        if _CALL_ID.fullmatch(given):
            return given
        self.fidelity.mapped(path, "the call's id in Anthropic's letters")
        return f"{_NOT_ID.sub('_', given)[:40]}_{blake2s(given.encode(), digest_size=6).hexdigest()}"

    def _reasoning(self, part: ReasoningPart) -> Block | None:
        opaque = part.opaque
        if opaque is not None and opaque.origin == WIRE and opaque.kind == "redacted":
            return {"type": "redacted_thinking", "data": opaque.data}
        if opaque is not None and opaque.origin == WIRE:
            return {"type": "thinking", "thinking": part.text, "signature": opaque.data}
        self.fidelity.dropped(part.path, "Anthropic takes back only thinking that it has signed")
        return None

    def _image(self, part: ImagePart) -> Block:
        if part.detail is not None and part.detail != "auto":
            self.fidelity.dropped(f"{part.path}.detail", "Anthropic's API has no detail of pictures")
        source = _plain(part.source)
        if source.data is None:
            return {"type": "image", "source": self._address(source, part.path)}
        kind = source.media_type
        if kind is None or kind == "image/jpg":
            kind = next((kind for start, kind in _MAGIC.items() if source.data.startswith(start)), kind)
        if kind not in IMAGE_TYPES:
            raise _unsupported(part.path, f"pictures must be of {', '.join(IMAGE_TYPES)}")
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": source.data}}

    def _file(self, part: FilePart) -> Block:
        block: Block = {"type": "document", "source": self._document(part)}
        title = part.title
        if title is None and part.filename is not None:
            title = part.filename
            self.fidelity.mapped(f"{part.path}.filename", "as the title")
        elif part.filename is not None:
            self.fidelity.dropped(f"{part.path}.filename", "the title is sent")
        if title:
            block["title"] = title
        if part.context:
            block["context"] = part.context
        if part.citations is not None:
            block["citations"] = {"enabled": part.citations}
        return block

    def _document(self, part: FilePart) -> Block:
        if part.text is not None:
            return {"type": "text", "media_type": "text/plain", "data": part.text}
        source = _plain(part.source or Source())
        kind = (source.media_type or _PDF).partition(";")[0].strip().lower()
        if source.data is None:
            return self._address(source, part.path)
        if kind == _PDF:
            return {"type": "base64", "media_type": _PDF, "data": source.data}
        if kind.startswith("text/") or kind == "application/json":
            self.fidelity.mapped(part.path, "a document of plain text")
            return {"type": "text", "media_type": "text/plain", "data": _decoded(source.data, part.path)}
        raise _unsupported(part.path, "documents must be PDF or plain text")

    def _address(self, source: Source, path: str) -> Block:
        if source.file_id is not None:
            if not self.own:
                raise _unsupported(path, "another provider's file can't be read there; send its bytes")
            return {"type": "file", "file_id": source.file_id}
        if source.url is None:
            raise GatewayError(Kind.INVALID_REQUEST, f"'{path}' has neither data nor an address", param=path)
        return {"type": "url", "url": source.url}

    def _native(self, part: NativePart) -> Block | None:
        if part.wire == WIRE:
            return part.value
        self.fidelity.dropped(part.path, f"only {part.wire} has {part.type}")
        return None

    def _sound(self, part: AudioPart | VideoPart) -> Block | None:
        said = part.transcript if isinstance(part, AudioPart) else None
        if said:
            self.fidelity.approximated(part.path, "what was said, as text")
            return {"type": "text", "text": said}
        raise _unsupported(part.path, "Anthropic's models take no sound and no films")


def _plain(source: Source) -> Source:
    """A source whose bytes stand in a data URL, taken out of it."""
    found = _DATA_URL.fullmatch(source.url) if source.url is not None and source.url.startswith("data:") else None
    return source if found is None else Source(data=found["data"], media_type=found["type"] or source.media_type)


def _decoded(data: str, path: str) -> str:
    try:
        return base64.b64decode(data).decode()
    except (binascii.Error, ValueError):
        raise GatewayError(Kind.INVALID_REQUEST, f"'{path}' is no base64 of UTF-8 text", param=path) from None


def _unsupported(path: str, reason: str) -> GatewayError:
    return GatewayError(Kind.UNSUPPORTED, f"'{path}' can't be sent to this model: {reason}", param=path)
