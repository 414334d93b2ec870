"""Parts to content parts of input messages and tool results."""

from base64 import b64encode
from typing import Final

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Extra,
    FilePart,
    ImagePart,
    NativePart,
    RefusalPart,
    Source,
    TextPart,
)
from pointsman.wire.openai_responses import WIRE
from pointsman.wire.openai_responses.content import IN_CONTENT, LONG_CACHE, MARK, write_citation, write_url

_SOUNDS: Final = ("wav", "mp3")
_NAMES: Final = {"application/pdf": "document.pdf", "text/plain": "document.txt"}


class ContentWriter:
    """Writes content parts. ``own``: the client speaks this API; ``cache_marks``: the model takes cache breakpoints."""

    def __init__(self, fidelity: Fidelity, *, own: bool, cache_marks: bool) -> None:
        self._fidelity = fidelity
        self._own = own
        self._cache_marks = cache_marks or own

    def write(self, part: AnyPart, *, by_model: bool) -> Extra | None:
        """The content part; None when there is none, which the ledger then says."""
        written = self._by_model(part) if by_model else self._to_model(part)
        if written is None:
            return None
        if part.opaque is not None:
            self._fidelity.dropped(f"{part.path}.{part.opaque.kind}", f"only {part.opaque.origin} can read it")
        self._mark(part, written, by_model)
        for name, value in self.extra_of(part).items():
            holder, _, member = name.partition(".")
            if not member:
                written[name] = value
            elif isinstance(written.get(holder), dict):
                written[holder][member] = value
        return written

    def extra_of(self, part: AnyPart) -> Extra:
        """What the client said beyond our words, if it speaks this API; else it is noted as dropped."""
        if not part.extra:
            return {}
        if self._own:
            return part.extra
        for name in part.extra:
            self._fidelity.dropped(f"{part.path}.{name}", "this API has no such member")
        return {}

    def _to_model(self, part: AnyPart) -> Extra | None:
        match part:
            case TextPart():
                if part.citations:
                    self._fidelity.dropped(f"{part.path}.citations", "this API has citations in answers only")
                return {"type": "input_text", "text": part.text}
            case RefusalPart():
                return {"type": "input_text", "text": part.text}
            case ImagePart():
                return self._image(part)
            case FilePart():
                return self._file(part)
            case AudioPart():
                return self._audio(part)
            case NativePart() if part.wire == WIRE and part.type.startswith(IN_CONTENT):
                return dict(part.value)
            case NativePart():
                self._fidelity.dropped(part.path, f"only {part.wire} has '{part.type}'")
            case _:
                self._fidelity.dropped(part.path, "this API takes no such content")
        return None

    def _by_model(self, part: AnyPart) -> Extra | None:
        match part:
            case TextPart():
                return {"type": "output_text", "text": part.text, "annotations": self._annotations(part)}
            case RefusalPart():
                return {"type": "refusal", "refusal": part.text}
            case AudioPart() if part.transcript is not None:
                self._fidelity.approximated(part.path, "an assistant's sound goes along as its words")
                return {"type": "output_text", "text": part.transcript, "annotations": []}
            case NativePart() if part.wire == WIRE and part.type.startswith(IN_CONTENT):
                return dict(part.value)
            case NativePart():
                self._fidelity.dropped(part.path, f"only {part.wire} has '{part.type}'")
            case _:
                self._fidelity.dropped(part.path, "this API's models can't have said it")
        return None

    def _annotations(self, part: TextPart) -> list[Extra]:
        found = []
        for number, citation in enumerate(part.citations or ()):
            one = write_citation(citation, len(part.text))
            if one is None:
                self._fidelity.dropped(f"{part.path}.citations[{number}]", "a source without an address")
            else:
                if citation.cited_text is not None and citation.wire != WIRE:
                    path = f"{part.path}.citations[{number}].cited_text"
                    self._fidelity.dropped(path, "this API's citations quote nothing")
                found.append(one)
        return found

    def _image(self, part: ImagePart) -> Extra:
        written: Extra = {"type": "input_image", "detail": part.detail or "auto", **self._source(part.source, "image")}
        if part.detail is None and self._own:
            del written["detail"]
        return written

    def _source(self, source: Source, kind: str) -> Extra:
        if source.file_id is not None:
            return {"file_id": source.file_id}
        if kind == "image":
            return {"image_url": write_url(source)}
        if source.url is not None:
            return {"file_url": source.url}
        bare = self._own and source.media_type is None
        return {"file_data": source.data if bare else write_url(source)}

    def _file(self, part: FilePart) -> Extra:
        source = part.source
        if source is None:
            data = b64encode((part.text or "").encode("utf-8", "surrogatepass")).decode()
            source = Source(data=data, media_type="text/plain")
            self._fidelity.mapped(part.path, "plain text goes along as a text file")
        written: Extra = {"type": "input_file", **self._source(source, "file")}
        name = part.filename
        if name is None and part.title is not None:
            name = part.title
            self._fidelity.mapped(f"{part.path}.title", "the title is the file's name")
        elif part.title is not None:
            self._fidelity.dropped(f"{part.path}.title", "this API's files have a name and no title")
        if name is None and source.data is not None and not self._own:
            name = _NAMES.get(source.media_type or "", "document")
            self._fidelity.synthesised(f"{part.path}.filename", "this API's files have names")
        if name is not None:
            written["filename"] = name
        for member in ("context", "citations"):
            if getattr(part, member) is not None:
                self._fidelity.dropped(f"{part.path}.{member}", "this API has no such member")
        return written

    def _audio(self, part: AudioPart) -> Extra | None:
        kind = part.format or (part.source.media_type or "").rpartition("/")[2].removeprefix("x-")
        kind = {"mpeg": "mp3", "wave": "wav"}.get(kind, kind)
        if part.source.data is None or (kind not in _SOUNDS and not self._own):
            self._fidelity.dropped(part.path, "this API takes sound as data in mp3 or wav only")
            return None
        return {"type": "input_audio", "input_audio": {"data": part.source.data, "format": kind}}

    def _mark(self, part: AnyPart, written: Extra, by_model: bool) -> None:
        """A cache mark becomes a breakpoint where the model takes those."""
        if part.cache is None:
            return
        path = f"{part.path}.{MARK if self._own else 'cache_control'}"
        if not self._cache_marks or by_model:
            self._fidelity.dropped(path, "this API caches by itself")
            return
        written[MARK] = {"mode": "explicit"}
        if part.cache.ttl is not None and not self._own:
            if part.cache.ttl == "1h":
                written[MARK]["ttl"] = LONG_CACHE
            self._fidelity.approximated(f"{path}.ttl", "this API keeps for 30 minutes or 12 hours")
