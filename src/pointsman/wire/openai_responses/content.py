"""Content parts: what messages and tool results hold."""

import re
from typing import Any, Final

from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
    Citation,
    Extra,
    FilePart,
    ImagePart,
    NativePart,
    RefusalPart,
    Source,
    TextPart,
)
from pointsman.canonical.response import TokenLogprob
from pointsman.wire.members import Members
from pointsman.wire.openai_responses import WIRE

IN_CONTENT: Final = "content."  # begins the type of a `NativePart` that stands among content parts
LONG_CACHE: Final = "12h"
EXPLICIT: Final = "explicit"
_DATA_URL: Final = re.compile(r"data:([^;,]*)((?:;[^;,]*)*?);base64,", re.IGNORECASE)
MARK: Final = "prompt_cache_breakpoint"


def read_content(value: Members, name: str) -> list[AnyPart]:
    """The parts of a string or of a list of content parts. Raises the reader's error for anything else."""
    if isinstance(value.value.get(name), str):
        return [TextPart(text=value.text(name), path=value.at(name))]
    return [read_part(part) for part in value.objects(name)]


def read_part(part: Members) -> AnyPart:
    """One content part. One that we have no word for stays as it is."""
    kind = part.text("type")
    reader = _READERS.get(kind)
    if reader is None:
        return NativePart(wire=WIRE, type=IN_CONTENT + kind, value=part.value, path=part.path)
    found: AnyPart = reader(part)
    if (mark := part.object(MARK)) is not None:
        _read_mark(found, mark)
    found.extra = _joined(found.extra, part.rest())
    return found


def _read_mark(found: AnyPart, mark: Members) -> None:
    """A breakpoint is a cache mark; a time that our marks don't know is kept beside it."""
    if mark.value.get("mode") == EXPLICIT:
        mark.ignore("mode")
    ttl = mark.string("ttl")
    found.cache = CacheMark("1h" if ttl == LONG_CACHE else None)
    if ttl is not None:
        found.extra = {f"{MARK}.ttl": ttl}
    rest = {f"{MARK}.{name}": value for name, value in (mark.rest() or {}).items()}
    found.extra = _joined(found.extra, rest)


def _joined(first: Extra | None, second: Extra | None) -> Extra | None:
    return {**(first or {}), **(second or {})} or None


def _text(part: Members) -> TextPart:
    return TextPart(text=part.text("text"), path=part.path)


def _output_text(part: Members) -> TextPart:
    part.ignore("logprobs")  # of the answer, not of the text
    citations = [read_citation(one) for one in part.objects("annotations")]
    return TextPart(text=part.text("text"), citations=citations or None, path=part.path)


def _refusal(part: Members) -> RefusalPart:
    return RefusalPart(text=part.text("refusal"), path=part.path)


def _image(part: Members) -> ImagePart:
    url, file_id = part.string("image_url"), part.string("file_id")
    if url is not None:
        source = read_url(url)
    elif file_id is not None:
        source = Source(file_id=file_id)
    else:
        raise part.wrong("image_url", "is missing")
    return ImagePart(source=source, detail=part.string("detail"), path=part.path)


def _file(part: Members) -> FilePart:
    data, url, file_id = part.string("file_data"), part.string("file_url"), part.string("file_id")
    if data is not None:
        source = read_url(data) if data[:5].lower() == "data:" else Source(data=data)
    elif url is not None:
        source = Source(url=url)
    elif file_id is not None:
        source = Source(file_id=file_id)
    else:
        raise part.wrong("file_data", "is missing")
    return FilePart(source=source, filename=part.string("filename"), path=part.path)


def _audio(part: Members) -> AudioPart:
    sound = part.object("input_audio")
    if sound is None:
        raise part.wrong("input_audio", "is missing")
    found = AudioPart(source=Source(data=sound.text("data")), format=sound.string("format"), path=part.path)
    rest = {f"input_audio.{name}": value for name, value in (sound.rest() or {}).items()}
    found.extra = rest or None
    return found


_READERS: Final[dict[str, Any]] = {
    "input_text": _text,
    "output_text": _output_text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}


def read_url(url: str) -> Source:
    """The source that an address names: base64 data that stand in it, or the address itself."""
    found = _DATA_URL.match(url)
    if found is None:
        return Source(url=url)
    return Source(data=url[found.end() :], media_type=(found[1] + found[2]) or None)


def write_url(source: Source) -> str | None:
    """The address of a source; None for an uploaded file."""
    if source.data is not None:
        return f"data:{source.media_type or 'application/octet-stream'};base64,{source.data}"
    return source.url


def read_citation(value: Members) -> Citation:
    """One annotation."""
    return Citation(
        url=value.string("url"),
        title=value.string("title") or value.string("filename"),
        file_id=value.string("file_id"),
        start=value.integer("start_index"),
        end=value.integer("end_index"),
        wire=WIRE,
        native=value.value,
    )


def write_citation(citation: Citation, length: int) -> Extra | None:
    """The annotation of a citation in a text of ``length`` characters; None when this API has no such kind."""
    if citation.wire == WIRE and citation.native is not None:
        return citation.native
    if citation.url is not None:
        return {
            "type": "url_citation",
            "start_index": citation.start or 0,
            "end_index": length if citation.end is None else citation.end,
            "url": citation.url,
            "title": citation.title or "",
        }
    if citation.file_id is not None:
        name = citation.title or citation.file_id
        return {"type": "file_citation", "file_id": citation.file_id, "filename": name, "index": citation.end or length}
    return None


def read_logprobs(value: Members) -> list[TokenLogprob]:
    """The log probabilities of a text or of a delta."""
    return [_logprob(one) for one in value.objects("logprobs")]


def _logprob(value: Members) -> TokenLogprob:
    token = value.string("token") or ""
    known = value.items("bytes")  # events don't tell them
    return TokenLogprob(
        token=token,
        logprob=value.number("logprob") or 0.0,
        bytes=known if known is not None else list(token.encode("utf-8", "replace")),
        top=[_logprob(one) for one in value.objects("top_logprobs")] or None,
    )


def write_logprobs(tokens: list[TokenLogprob], *, whole: bool) -> list[Extra]:
    """Log probabilities; in whole texts (unlike in events) with the tokens' bytes."""
    found = []
    for token in tokens:
        one = _written(token, whole)
        one["top_logprobs"] = [_written(rival, whole) for rival in token.top or ()]
        found.append(one)
    return found


def _written(token: TokenLogprob, whole: bool) -> Extra:
    if not whole:
        return {"token": token.token, "logprob": token.logprob}
    known = token.bytes if token.bytes is not None else list(token.token.encode("utf-8", "replace"))
    return {"token": token.token, "bytes": known, "logprob": token.logprob}
