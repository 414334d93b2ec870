"""Anthropic's content blocks read into our parts: those of requests and those of answers, which are nearly the same."""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import (
    AnyPart,
    CacheMark,
    Citation,
    Extra,
    FilePart,
    ImagePart,
    NativePart,
    ReasoningPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pointsman.wire.anthropic import WIRE
from pointsman.wire.anthropic.signatures import unwrap
from pointsman.wire.members import Members, plain_text

_encode: Final = msgspec.json.Encoder().encode
_TTLS: Final = ("5m", "1h")


def read_content(holder: Members, name: str = "content") -> list[AnyPart]:
    """A string, or a list of blocks; a string is one text."""
    content = holder.raw(name)
    if type(content) is str:
        return [TextPart(text=content, path=holder.at(name))] if content else []
    place = holder.at(name)
    parts: list[AnyPart] = []
    for number, block in enumerate(holder.items(name) or ()):
        path, text = f"{place}[{number}]", plain_text(block)
        parts.append(read_block(holder.inner(block, path)) if text is None else TextPart(text=text, path=path))
    return parts


def read_block(block: Members) -> AnyPart:
    """One block. A type that we have no word for is carried whole, for Anthropic alone."""
    kind = block.text("type")
    reader = _READERS.get(kind)
    if reader is None:
        return NativePart(wire=WIRE, type=kind, value=block.value, path=block.path)
    extra: Extra = {}
    part = reader(block, extra)
    part.path = block.path
    if "cache_control" in block.value:
        part.cache = read_cache(block, extra)
    extra |= block.rest() or {}
    part.extra = extra or None
    return part


def read_cache(holder: Members, extra: Extra) -> CacheMark | None:
    """The ``cache_control`` of a block, tool or request; what it says beyond our words goes to ``extra``."""
    mark = holder.object("cache_control") if "cache_control" in holder else None
    if mark is None:
        return None
    mark.one_of("type", "ephemeral")
    ttl = mark.one_of("ttl", *_TTLS)
    keep_rest(mark, "cache_control", extra)
    return CacheMark(ttl=ttl)  # type: ignore[arg-type]


def keep_rest(inner: Members, name: str, extra: Extra) -> None:
    """What nobody has read of the member ``name``, into ``extra`` by path."""
    for key, value in (inner.rest() or {}).items():
        extra[f"{name}.{key}"] = value


def read_citation(value: dict[str, Any]) -> Citation:
    """One citation. Its offsets are the document's, not the text's, so they stay in ``native``."""

    def word(*names: str) -> str | None:
        return next((found for name in names if type(found := value.get(name)) is str), None)

    source = word("url", "source")
    return Citation(
        url=source if source is not None and source.startswith(("http://", "https://")) else None,
        title=word("title", "document_title"),
        cited_text=word("cited_text"),
        file_id=word("file_id"),
        wire=WIRE,
        native=value,
    )


def arguments_of(block: Members) -> str:
    """The input of a call as JSON text."""
    given = block.mapping("input")
    return _encode(given if given is not None else {}).decode()


def _text(block: Members, extra: Extra) -> AnyPart:
    found = None
    if "citations" in block:
        found = [read_citation(citation.value) for citation in block.objects("citations")] or None
    return TextPart(text=block.text("text"), citations=found)


def _image(block: Members, extra: Extra) -> AnyPart:
    return ImagePart(source=read_source(_source(block), extra))


def _document(block: Members, extra: Extra) -> AnyPart:
    source = _source(block)
    part = FilePart(title=block.string("title"), context=block.string("context"), citations=_cited(block, extra))
    kind = source.value.get("type")
    if kind == "text":
        part.text = source.text("data")
        source.ignore("type")
        source.one_of("media_type", "text/plain")
        keep_rest(source, "source", extra)
    elif kind == "content":
        part.text = "\n".join(_texts(source))
        extra["source"] = source.value  # the blocks are what citations count by
    else:
        part.source = read_source(source, extra)
    return part


def _search_result(block: Members, extra: Extra) -> AnyPart:
    """A text with a title for all; its source and blocks, which citations count by, for Anthropic."""
    part = FilePart(text="\n".join(_texts(block)), title=block.string("title"), citations=_cited(block, extra))
    extra |= {"type": "search_result", "source": block.raw("source"), "content": block.raw("content")}
    return part


def _tool_use(block: Members, extra: Extra) -> AnyPart:
    return ToolCallPart(id=block.text("id"), name=block.text("name"), arguments=arguments_of(block))


def _tool_result(block: Members, extra: Extra) -> AnyPart:
    return ToolResultPart(
        call_id=block.text("tool_use_id"), content=read_content(block), is_error=block.boolean("is_error")
    )


def _thinking(block: Members, extra: Extra) -> AnyPart:
    return ReasoningPart(text=block.text("thinking"), opaque=unwrap(block.string("signature") or "", "signature"))


def _redacted(block: Members, extra: Extra) -> AnyPart:
    return ReasoningPart(opaque=unwrap(block.text("data"), "redacted"))


_READERS: Final[MappingProxyType[str, Callable[[Members, Extra], AnyPart]]] = MappingProxyType(
    {
        "text": _text,
        "image": _image,
        "document": _document,
        "search_result": _search_result,
        "tool_use": _tool_use,
        "tool_result": _tool_result,
        "thinking": _thinking,
        "redacted_thinking": _redacted,
    }
)


def read_source(source: Members, extra: Extra) -> Source:
    """The bytes of a picture or document: in place, at an address, or a file's name."""
    kind = source.one_of("type", "base64", "url", "file")
    if kind == "url":
        found = Source(url=source.text("url"))
    elif kind == "file":
        found = Source(file_id=source.text("file_id"))
    else:
        found = Source(data=source.text("data"), media_type=source.text("media_type"))
    keep_rest(source, "source", extra)
    return found


def _source(block: Members) -> Members:
    source = block.object("source")
    if source is None:
        raise block.wrong("source", "is missing")
    return source


def _cited(block: Members, extra: Extra) -> bool | None:
    citations = block.object("citations")
    if citations is None:
        return None
    enabled = citations.boolean("enabled")
    keep_rest(citations, "citations", extra)
    return enabled


def _texts(holder: Members) -> Iterator[str]:
    content = holder.raw("content")
    if type(content) is str:
        yield content
        return
    for inner in holder.objects("content"):
        if inner.value.get("type") == "text":
            yield inner.text("text")
