"""Streams to whole answers and back: ``collect(replay(response))`` is the same response."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    LogprobsAdded,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    SummaryDelta,
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.response import Choice, Response
from pointsman.errors import GatewayError, Kind

_TEXTS: Final = (TextPart, ReasoningPart, RefusalPart)


class Collector:
    """Puts a stream's events together. ``response`` is what came so far; ``error`` how it broke; ``ended``: whole."""

    def __init__(self, wire: str) -> None:
        self.response = Response(wire=wire)
        self.error: GatewayError | None = None
        self.ended = False
        self._choices: dict[int, Choice] = {}
        self._pieces: dict[tuple[int, int], list[str]] = {}
        self._summaries: dict[tuple[int, int], list[list[str]]] = {}
        self._transcripts: dict[tuple[int, int], list[str]] = {}

    def feed(self, event: AnyEvent) -> None:
        """Take in one event."""
        _TAKE[type(event)](self, event)

    def _start(self, event: Started) -> None:
        response = self.response
        response.id, response.model, response.created = event.id, event.model, event.created
        response.service_tier = event.service_tier
        response.extra = dict(event.extra or {})

    def _add_part(self, event: PartStarted) -> None:
        self._choice(event.choice).parts.append(copy.copy(event.part))

    def _add_text(self, event: PartDelta) -> None:
        _append(self._pieces, event)

    def _add_transcript(self, event: TranscriptDelta) -> None:
        _append(self._transcripts, event)

    def _add_summary(self, event: SummaryDelta) -> None:
        sections = self._summaries.setdefault((event.choice, event.index), [])
        while len(sections) <= event.section:
            sections.append([])
        sections[event.section].append(event.text)

    def _set_opaque(self, event: OpaqueSet) -> None:
        self._part(event.choice, event.index).opaque = event.opaque

    def _cite(self, event: CitationAdded) -> None:
        part = self._part(event.choice, event.index)
        if isinstance(part, TextPart):
            part.citations = [*(part.citations or ()), event.citation]

    def _log(self, event: LogprobsAdded) -> None:
        choice = self._choice(event.choice)
        choice.logprobs = [*(choice.logprobs or ()), *event.tokens]

    def _end_part(self, event: PartEnded) -> None:
        self._complete(event.choice, event.index)

    def _end_choice(self, event: ChoiceEnded) -> None:
        choice = self._choice(event.choice)
        choice.finish_reason, choice.native_finish_reason = event.finish_reason, event.native
        choice.stop_sequence, choice.extra = event.stop_sequence, event.extra

    def _use(self, event: UsageReported) -> None:
        response = self.response
        response.usage = event.usage
        response.service_tier = event.service_tier or response.service_tier
        response.extra.update(event.extra or {})

    def _fail(self, event: Failed) -> None:
        self.error = event.error
        self._complete_all()

    def _end(self, event: Ended) -> None:
        self.ended = True
        self._complete_all()

    def _choice(self, index: int) -> Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = Choice(index=index, parts=[])
            self.response.choices = [self._choices[key] for key in sorted(self._choices)]
        return choice

    def _part(self, choice: int, index: int) -> AnyPart:
        return self._choice(choice).parts[index]

    def _complete_all(self) -> None:
        if self._pieces or self._summaries or self._transcripts:
            for choice, index in {*self._pieces, *self._summaries, *self._transcripts}:
                self._complete(choice, index)

    def _complete(self, choice: int, index: int) -> None:
        part, key = self._part(choice, index), (choice, index)
        pieces = "".join(self._pieces.pop(key, ()))
        if isinstance(part, _TEXTS):
            part.text += pieces
        elif isinstance(part, ToolCallPart):
            part.arguments += pieces
        elif isinstance(part, AudioPart):
            part.source = _with_data(part.source, pieces)
            said = "".join(self._transcripts.pop(key, ()))
            part.transcript = (part.transcript or "") + said if said else part.transcript
        summaries = self._summaries.pop(key, None)
        if summaries is not None and isinstance(part, ReasoningPart):
            part.summary = [*(part.summary or ()), *("".join(section) for section in summaries)]


# By type: a chain of checks would cost each piece of text several calls.
_TAKE: Final[Mapping[type[AnyEvent], Callable[[Collector, Any], None]]] = MappingProxyType(
    {
        Started: Collector._start,
        PartStarted: Collector._add_part,
        PartDelta: Collector._add_text,
        SummaryDelta: Collector._add_summary,
        TranscriptDelta: Collector._add_transcript,
        OpaqueSet: Collector._set_opaque,
        CitationAdded: Collector._cite,
        LogprobsAdded: Collector._log,
        PartEnded: Collector._end_part,
        ChoiceEnded: Collector._end_choice,
        UsageReported: Collector._use,
        Failed: Collector._fail,
        Ended: Collector._end,
    }
)


def _append(pieces: dict[tuple[int, int], list[str]], event: PartDelta | TranscriptDelta) -> None:
    key = (event.choice, event.index)
    found = pieces.get(key)
    if found is None:
        pieces[key] = [event.text]
    else:
        found.append(event.text)


def _with_data(source: Source, pieces: str) -> Source:
    return msgspec.structs.replace(source, data=(source.data or "") + pieces) if pieces else source


def collect(events: Iterable[AnyEvent], wire: str) -> Response:
    """The whole answer of a whole stream. Raises the stream's own error, or UPSTREAM_ERROR when it has no end."""
    collector = Collector(wire)
    for event in events:
        collector.feed(event)
    if collector.error is not None:
        raise collector.error
    if not collector.ended:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended before its answer was whole")
    return collector.response


def replay(response: Response) -> Iterator[AnyEvent]:
    """A whole answer as a stream: each part's text in one delta."""
    yield Started(
        id=response.id,
        model=response.model,
        created=response.created,
        service_tier=response.service_tier,
        extra=response.extra or None,
    )
    for choice in response.choices:
        for index, part in enumerate(choice.parts):
            yield from _replay_part(choice.index, index, part)
        if choice.logprobs:
            yield LogprobsAdded(choice.index, choice.logprobs)
        if choice.finish_reason is not None:
            yield ChoiceEnded(
                choice.index, choice.finish_reason, choice.native_finish_reason, choice.stop_sequence, choice.extra
            )
    if response.usage is not None:
        yield UsageReported(response.usage)
    yield Ended()


def _replay_part(choice: int, index: int, part: AnyPart) -> Iterator[AnyEvent]:
    start = copy.copy(part)
    text = ""
    match start:
        case TextPart():
            text, start.text = start.text, ""
            start.citations = None
        case ReasoningPart():
            text, start.text = start.text, ""
            start.summary = None
        case RefusalPart():
            text, start.text = start.text, ""
        case ToolCallPart():
            text, start.arguments = start.arguments, ""
    opaque, start.opaque = start.opaque, None
    yield PartStarted(choice, index, start)
    if isinstance(part, ReasoningPart):
        for section, summary in enumerate(part.summary or ()):
            yield SummaryDelta(choice, index, section, summary)
    if text:
        yield PartDelta(choice, index, text)
    if isinstance(part, TextPart):
        for citation in part.citations or ():
            yield CitationAdded(choice, index, citation)
    if opaque is not None:
        yield OpaqueSet(choice, index, opaque)
    yield PartEnded(choice, index)
