"""One candidate of a Gemini answer, chunk by chunk: Google's parts to our events."""

import base64
import binascii
from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    LogprobsAdded,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
)
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Citation,
    FilePart,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    Source,
    TextPart,
    ToolCallPart,
    VideoPart,
)
from pointsman.canonical.response import FinishReason, TokenLogprob
from pointsman.wire.gemini import FINISH, WIRE
from pointsman.wire.members import Members

_NATIVE: Final = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse", "audioTranscription")
_MAX_CALLS: Final = 1000  # of one candidate, for derived ids

_encode: Final = msgspec.json.Encoder().encode


class CandidateReader:
    """Reads one candidate. Text that follows text of the same kind is one part; a signature ends a part."""

    def __init__(self, choice: int, identity: Identity) -> None:
        self.finish_reason: str | None = None
        self._choice = choice
        self._identity = identity
        self._count = 0
        self._calls = 0
        self._open: type[AnyPart] | None = None
        self._signed = False
        self._text: list[str] = []
        self._sound = _Sound()
        self._extra: dict[str, Any] = {}

    def feed(self, candidate: Members) -> list[AnyEvent]:
        """The events of a chunk's candidate. Raises GatewayError(UPSTREAM_ERROR) for what can't be read."""
        events: list[AnyEvent] = []
        content = candidate.object("content")
        if content is not None:
            for part in content.objects("parts"):
                self._part(part, events)
        logprobs = candidate.object("logprobsResult")
        if logprobs is not None and (tokens := _logprobs(logprobs)):
            events.append(LogprobsAdded(self._choice, tokens))
        reason = candidate.string("finishReason")
        if reason is not None:
            self.finish_reason = reason
        candidate.ignore("index")
        self._extra.update(candidate.rest() or {})
        return events

    def finish(self, remarks: dict[str, Any]) -> list[AnyEvent]:
        """The candidate is whole: its open part ends, and it says why. ``remarks`` are added to what it says."""
        events: list[AnyEvent] = []
        if self._open is TextPart:
            for citation in citations_of(self._extra.get("groundingMetadata"), "".join(self._text)):
                events.append(CitationAdded(self._choice, self._count - 1, citation))
        self._close(events)
        reason = FINISH.get(self.finish_reason or "", FinishReason.ERROR)
        if reason is FinishReason.STOP and self._calls:
            reason = FinishReason.TOOL_CALLS
        events.append(ChoiceEnded(self._choice, reason, self.finish_reason, None, {**self._extra, **remarks} or None))
        return events

    def _part(self, part: Members, events: list[AnyEvent]) -> None:
        signature = part.string("thoughtSignature")
        opaque = Opaque(origin=WIRE, kind="thought_signature", data=signature) if signature else None
        native = next((name for name in _NATIVE if name in part), None)
        if "functionCall" in part:
            self._whole(self._call(part.object("functionCall")), opaque, events)
        elif "inlineData" in part or "fileData" in part:
            self._media(part, opaque, events)
        elif native is not None:
            self._whole(NativePart(wire=WIRE, type=native, value=part.value), None, events)
        else:
            kind: type[TextPart | ReasoningPart] = ReasoningPart if part.boolean("thought") else TextPart
            self._say(kind, part.string("text") or "", opaque, events)

    def _say(
        self, kind: type[TextPart | ReasoningPart], text: str, opaque: Opaque | None, events: list[AnyEvent]
    ) -> None:
        if not text and opaque is None:
            return
        if self._open is not kind or (self._signed and text):
            self._start(kind(text=""), events)
        if text:
            self._text.append(text)
            events.append(PartDelta(self._choice, self._count - 1, text))
        if opaque is not None:
            self._signed = True
            events.append(OpaqueSet(self._choice, self._count - 1, opaque))

    def _call(self, call: Members | None) -> ToolCallPart:
        members = call or Members({})
        if "partialArgs" in members or members.boolean("willContinue"):
            raise members.wrong("partialArgs", "is part of a call, which nobody asked for")
        self._calls += 1
        number = self._choice * _MAX_CALLS + self._calls - 1
        return ToolCallPart(
            id=members.string("id") or self._identity.derive("call_", number),
            name=members.text("name"),
            arguments=_encode(members.mapping("args") or {}).decode(),
        )

    def _media(self, part: Members, opaque: Opaque | None, events: list[AnyEvent]) -> None:
        inline = part.object("inlineData")
        if inline is None:
            stored = part.object("fileData") or Members({})
            source = Source(url=stored.text("fileUri"), media_type=stored.string("mimeType"))
            self._whole(_of_type(source), opaque, events)
            return
        source = Source(data=inline.text("data"), media_type=inline.string("mimeType"))
        if not (source.media_type or "").startswith("audio/"):
            self._whole(_of_type(source), opaque, events)
            return
        if self._open is not AudioPart or self._sound.media_type != source.media_type:
            self._start(AudioPart(source=Source(data="", media_type=source.media_type)), events)
            self._sound = _Sound(source.media_type)
        if more := self._sound.feed(source.data or ""):
            events.append(PartDelta(self._choice, self._count - 1, more))
        if opaque is not None:
            events.append(OpaqueSet(self._choice, self._count - 1, opaque))

    def _whole(self, part: AnyPart, opaque: Opaque | None, events: list[AnyEvent]) -> None:
        self._start(part, events)
        if opaque is not None:
            events.append(OpaqueSet(self._choice, self._count - 1, opaque))
        self._close(events)

    def _start(self, part: AnyPart, events: list[AnyEvent]) -> None:
        self._close(events)
        events.append(PartStarted(self._choice, self._count, part))
        self._open = type(part)
        self._count += 1

    def _close(self, events: list[AnyEvent]) -> None:
        if self._open is None:
            return
        if self._open is AudioPart and (rest := self._sound.rest()):
            events.append(PartDelta(self._choice, self._count - 1, rest))
        events.append(PartEnded(self._choice, self._count - 1))
        self._open = None
        self._signed = False
        self._text.clear()


class _Sound:
    """Joins pieces of base64 whose ends need not meet at whole groups of three bytes."""

    def __init__(self, media_type: str | None = None) -> None:
        self.media_type = media_type
        self._over = b""

    def feed(self, piece: str) -> str:
        try:
            data = self._over + base64.b64decode(piece)
        except (binascii.Error, ValueError):
            return piece  # not ours to judge: it goes out as it came
        end = len(data) // 3 * 3
        self._over = data[end:]
        return base64.b64encode(data[:end]).decode()

    def rest(self) -> str:
        rest, self._over = self._over, b""
        return base64.b64encode(rest).decode()


def _of_type(source: Source) -> AnyPart:
    kind = (source.media_type or "").partition("/")[0]
    if kind == "image":
        return ImagePart(source=source)
    if kind == "audio":
        return AudioPart(source=source)
    return VideoPart(source=source) if kind == "video" else FilePart(source=source)


def _logprobs(result: Members) -> list[TokenLogprob]:
    rivals = [[_logprob(one) for one in top.objects("candidates")] for top in result.objects("topCandidates")]
    chosen: list[TokenLogprob] = []
    for number, one in enumerate(result.objects("chosenCandidates")):
        token = _logprob(one)
        top = rivals[number] if number < len(rivals) else None
        chosen.append(msgspec.structs.replace(token, top=top) if top else token)
    return chosen


def _logprob(one: Members) -> TokenLogprob:
    return TokenLogprob(one.string("token") or "", one.number("logProbability") or 0.0)


def citations_of(grounding: Any, text: str) -> list[Citation]:
    """The sources that grounding metadata gives for parts of ``text``; Google counts in bytes, we in characters."""
    if not isinstance(grounding, dict):
        return []
    chunks = grounding.get("groundingChunks")
    supports = grounding.get("groundingSupports")
    if not isinstance(chunks, list) or not isinstance(supports, list):
        return []
    encoded = text.encode()
    return [
        citation
        for support in supports
        if isinstance(support, dict)
        for citation in _supported(support, chunks, encoded)
    ]


def _supported(support: dict[str, Any], chunks: list[Any], text: bytes) -> list[Citation]:
    segment = support.get("segment")
    segment = segment if isinstance(segment, dict) else {}
    start, end = segment.get("startIndex", 0), segment.get("endIndex")
    said = segment.get("text")
    place: tuple[int, int] | None = None
    if isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(text):
        before, within = text[:start].decode(errors="ignore"), text[start:end].decode(errors="ignore")
        if not isinstance(said, str) or within == said:
            place = len(before), len(before) + len(within)
    indices = support.get("groundingChunkIndices")
    found: list[Citation] = []
    for index in indices if isinstance(indices, list) else ():
        source = _source(chunks, index)
        if source is not None:
            found.append(
                Citation(
                    url=source.get("uri") if isinstance(source.get("uri"), str) else None,
                    title=source.get("title") if isinstance(source.get("title"), str) else None,
                    cited_text=said if isinstance(said, str) else None,
                    start=None if place is None else place[0],
                    end=None if place is None else place[1],
                )
            )
    return found


def _source(chunks: list[Any], index: Any) -> dict[str, Any] | None:
    """The source number ``index``: web, maps, image or retrieved context."""
    if not isinstance(index, int) or not 0 <= index < len(chunks) or not isinstance(chunks[index], dict):
        return None
    return next((one for one in chunks[index].values() if isinstance(one, dict)), None)
