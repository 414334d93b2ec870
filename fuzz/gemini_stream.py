"""Bytes of an event stream into the Gemini format's parser, and its events into the Gemini dialect's renderer.

Holds for any bytes: nothing is raised; the last event is `Ended` or `Failed`, and nothing follows it; other pieces give
the same events; what is rendered are whole JSON chunks, with an error where the stream broke.
"""

import json

import msgspec

from fuzz.splits import case_of
from pointsman.canonical.events import AnyEvent, Ended, Failed
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.dialects.gemini import StreamRenderer
from pointsman.errors import GatewayError, Kind
from pointsman.providers.gemini import StreamParser, parse_error, parse_response

IDENTITY = Identity(request_id="r", created=1)
REQUEST = Request(wire="gemini", model="m", messages=[])


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    whole = _events([case.data] if case.data else [])
    assert _told(whole) == _told(_events(case.parts)), "other pieces, other events"
    renderer = StreamRenderer(REQUEST, IDENTITY, Fidelity())
    written = b"".join(renderer.feed(event) for event in whole)
    chunks = [json.loads(chunk.removeprefix(b"data: ")) for chunk in written.split(b"\r\n\r\n") if chunk]
    assert ("error" in chunks[-1]) == isinstance(whole[-1], Failed)
    try:
        parse_response(case.data, IDENTITY)
    except GatewayError as error:
        assert error.kind in (Kind.UPSTREAM_ERROR, Kind.RATE_LIMITED, Kind.OVERLOADED, Kind.UPSTREAM_TIMEOUT)
    parse_error(400 + case.options, {}, case.data, "secret")


def _events(parts: list[bytes]) -> list[AnyEvent]:
    parser = StreamParser(IDENTITY)
    events = [event for part in parts for event in parser.feed(part)]
    events += parser.finish()
    assert isinstance(events[-1], Ended | Failed)
    assert not any(isinstance(event, Ended | Failed) for event in events[:-1])
    assert parser.feed(b"data: {}\n\n") == parser.finish() == []
    return events


def _told(events: list[AnyEvent]) -> list[object]:
    """The events, errors by their words: two errors are never equal."""
    return [
        (event.error.kind, event.error.message) if isinstance(event, Failed) else msgspec.to_builtins(event)
        for event in events
    ]
