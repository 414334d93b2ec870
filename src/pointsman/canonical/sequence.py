"""Overlapping parts put one after the other, for APIs whose streams hold one part at a time."""

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    SummaryDelta,
    TranscriptDelta,
)

_OF_A_PART = (PartStarted, PartDelta, SummaryDelta, TranscriptDelta, OpaqueSet, CitationAdded, PartEnded)


class Sequencer:
    """Holds back what belongs to a part while an earlier part of the same choice is still open.

    Nothing is held back while parts don't overlap, and what is held back goes out as soon as the earlier part ends.
    """

    __slots__ = ("_open", "_waiting")

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # choice -> the part that may speak
        self._waiting: dict[int, list[AnyEvent]] = {}

    def feed(self, event: AnyEvent) -> list[AnyEvent]:
        """The events that may go out now."""
        if type(event) is PartDelta and self._open.get(event.choice) == event.index:
            return [event]  # most events are more of what is open
        if isinstance(event, ChoiceEnded):
            return [*self._flush(event.choice), event]
        if not isinstance(event, _OF_A_PART):
            return [event]
        speaking = self._open.get(event.choice)
        if speaking is not None and speaking != event.index:
            self._waiting.setdefault(event.choice, []).append(event)
            return []
        if isinstance(event, PartEnded):
            self._open.pop(event.choice, None)
            return [event, *self._next(event.choice)]
        self._open[event.choice] = event.index
        return [event]

    def _next(self, choice: int) -> list[AnyEvent]:
        """What waited for the part that has just ended: the following part whole, or as far as it came."""
        waiting = self._waiting.pop(choice, [])
        out: list[AnyEvent] = []
        for event in waiting:
            out += self.feed(event)
        return out

    def _flush(self, choice: int) -> list[AnyEvent]:
        """A choice that ends with parts left open (a stream that broke its rules) loses nothing."""
        out: list[AnyEvent] = []
        while self._waiting.get(choice):
            self._open.pop(choice, None)
            out += self._next(choice)
        self._open.pop(choice, None)
        return out
