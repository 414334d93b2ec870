"""A simulated Gemini answer as a stream: server-sent events, or the elements of one JSON array."""

from collections.abc import Iterator
from typing import Final

import msgspec

from .gemini_parts import AnswerParts
from .gemini_request import Json
from .reply import Event, EventKind

EVENT_STREAM: Final = "text/event-stream"
ARRAY_TYPE: Final = "application/json; charset=UTF-8"


def response_stream(parts: AnswerParts, *, sse: bool) -> Iterator[Event]:
    """All events; without ``sse`` they are the pieces of one array, and the bracket at its end is an event of its own.

    There is no terminator in SSE: the chunk with the finish reason is the last one.
    """
    chunks = _chunks(parts)
    if sse:
        for kind, chunk in chunks:
            yield Event(kind, b"data: %b\r\n\r\n" % msgspec.json.encode(chunk))
        return
    opening = b"["
    for kind, chunk in chunks:
        yield Event(kind, opening + msgspec.json.format(msgspec.json.encode(chunk), indent=2))
        opening = b"\n,\r\n"
    yield Event(EventKind.DONE, b"\n]\n")


def _chunks(parts: AnswerParts) -> Iterator[tuple[EventKind, Json]]:
    if parts.is_blocked:
        yield EventKind.FINISH, parts.blocked()
        return
    kind = EventKind.START
    running = [(index, parts.pieces(index)) for index in range(len(parts.made))]
    while running:
        for entry in tuple(running):
            index, pieces = entry
            piece = next(pieces, None)
            if piece is None:
                running.remove(entry)
                yield EventKind.FINISH, parts.closing(index)
            else:
                yield kind, piece
                kind = EventKind.DELTA
