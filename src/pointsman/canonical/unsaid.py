"""What an answer says and a client's API has no place for, told to the fidelity ledger."""

from collections.abc import Callable, Iterable
from typing import Final

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    LogprobsAdded,
    OpaqueSet,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import StreamRenderer
from pointsman.canonical.parts import Citation, Extra, Opaque, TextPart
from pointsman.canonical.response import Response
from pointsman.canonical.usage import TokenUsage

# What a dialect may name in its UNSAID: what its answers can't hold and its writers don't note.
# ``quotes``: of a citation only the address and title; ``choice``: what an upstream of another API said beyond
# our words of one of the answers.
WORDS: Final = ("stop_sequence", "service_tier", "logprobs", "quotes", "citations", "state", "choice", "audio_tokens")
_WHY: Final = "the client's API has no place for it"


class Unsaid:
    """Notes once each what the events of an answer say and the client won't see.

    ``words``: the dialect's, of `WORDS`; ``alike``: the upstream speaks the client's API, so its own words are written.
    """

    def __init__(self, words: frozenset[str], fidelity: Fidelity, *, alike: bool) -> None:
        self._words = words - {"choice"} if alike else words
        self._fidelity = fidelity
        self._told: set[str] = set()

    def look(self, response: Response) -> None:
        """Look at a whole answer."""
        self._say("service_tier", response.service_tier is not None)
        self._used(response.usage)
        for choice in response.choices:
            for part in choice.parts:
                self._state(part.opaque)
                if isinstance(part, TextPart) and part.citations:
                    self._cited(part.citations)
            self._say("logprobs", bool(choice.logprobs))
            self._say("stop_sequence", choice.stop_sequence is not None)
            self._names(choice.extra, "choice", f"response.choices[{choice.index}]")

    def note(self, event: AnyEvent) -> None:
        """Look at one event."""
        match event:
            case Started():
                self._say("service_tier", event.service_tier is not None)
            case UsageReported():
                self._say("service_tier", event.service_tier is not None)
                self._used(event.usage)
            case PartStarted():
                self._state(event.part.opaque)
                if isinstance(event.part, TextPart):
                    self._cited(event.part.citations or ())
            case OpaqueSet():
                self._state(event.opaque)
            case CitationAdded():
                self._cited((event.citation,))
            case LogprobsAdded():
                self._say("logprobs", bool(event.tokens))
            case ChoiceEnded():
                self._say("stop_sequence", event.stop_sequence is not None)
                self._names(event.extra, "choice", f"response.choices[{event.choice}]")

    def _used(self, usage: TokenUsage | None) -> None:
        sound = usage is not None and (usage.input_audio_tokens or usage.output_audio_tokens)
        self._say("audio_tokens", bool(sound), "response.usage.audio_tokens")

    def _say(self, word: str, there: bool, path: str | None = None) -> None:
        path = path or f"response.{word}"
        if there and word in self._words and path not in self._told:
            self._told.add(path)
            self._fidelity.dropped(path, _WHY)

    def _names(self, extra: Extra | None, word: str, place: str) -> None:
        for name, value in (extra or {}).items() if word in self._words else ():
            path = f"{place}.{name}"
            if path not in self._told:
                self._told.add(path)
                self._fidelity.unplaced(path, value, _WHY)

    def _state(self, opaque: Opaque | None) -> None:
        if opaque is not None:
            self._say("state", True, f"response.{opaque.kind}")

    def _cited(self, citations: Iterable[Citation]) -> None:
        for citation in citations:
            self._say("citations", True)
            self._say("quotes", bool(citation.cited_text or citation.file_id), "response.citations.cited_text")


class NotingRenderer:
    """A renderer whose events are looked at on their way."""

    __slots__ = ("_note", "_render")

    def __init__(self, renderer: StreamRenderer, note: Callable[[AnyEvent], None]) -> None:
        self._render = renderer.feed
        self._note = note

    def feed(self, event: AnyEvent) -> bytes:
        """What the renderer gives; deltas, of which there are many, say nothing that could be unsaid."""
        if type(event) in _LOOKED_AT:
            self._note(event)
        return self._render(event)


_LOOKED_AT: Final = frozenset(
    (Started, UsageReported, PartStarted, OpaqueSet, CitationAdded, LogprobsAdded, ChoiceEnded)
)
