"""Bytes of a stream of Anthropic's into its parser, and what it gives into the renderers of two dialects.

Holds for any bytes: no exception; one `Failed` or `Ended`, and nothing after it; the same bytes in other pieces give
the same events; a stream without ``message_stop`` is never a success; what is rendered of it is whole events.
"""

import json

import msgspec

from fuzz.splits import case_of
from pointsman.canonical.events import AnyEvent, Ended, Failed, PartEnded, PartStarted
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.dialects import anthropic as dialect
from pointsman.dialects import openai_chat
from pointsman.providers.anthropic import StreamParser

IDENTITY = Identity(request_id="req_1", created=1)
REQUEST = Request(wire="anthropic", model="m", messages=[])


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    whole = _play([case.data])
    assert _told(whole) == _told(_play(case.parts)), "other pieces, other events"
    ends = [event for event in whole if isinstance(event, Ended | Failed)]
    assert ends == whole[-1:], "not one end, or something after it"
    if isinstance(whole[-1], Ended):
        assert b"message_stop" in case.data, "a success without its mark"
        _check_parts(whole)
    for renderer in (
        dialect.StreamRenderer(REQUEST, IDENTITY, Fidelity()),
        openai_chat.StreamRenderer(REQUEST, IDENTITY, Fidelity()),
    ):
        for frame in b"".join(map(renderer.feed, whole)).split(b"\n\n")[:-1]:
            data = frame.partition(b"data: ")[2]
            assert data == b"[DONE]" or json.loads(data), frame


def _play(parts: list[bytes]) -> list[AnyEvent]:
    parser = StreamParser(IDENTITY)
    events = [event for part in parts for event in parser.feed(part)]
    return events + parser.finish()


def _told(events: list[AnyEvent]) -> list[object]:
    """Events as they compare: errors by what they say."""
    return [
        (event.error.kind, event.error.message) if isinstance(event, Failed) else msgspec.to_builtins(event)
        for event in events
    ]


def _check_parts(events: list[AnyEvent]) -> None:
    begun = [event.index for event in events if isinstance(event, PartStarted)]
    assert begun == list(range(len(begun))), "parts are not counted in their order"
    assert sorted(event.index for event in events if isinstance(event, PartEnded)) == begun, "a part was left open"
