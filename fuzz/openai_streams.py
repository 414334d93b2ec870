"""Bytes of a stream into the parsers of Chat and Responses (by the options), then into OpenAI's four renderers.

Holds for any bytes: nothing is raised; the last event is `Ended` or `Failed`, and nothing follows it; other pieces give
the same events; what is rendered are whole events.
"""

import json
from types import ModuleType

import msgspec

from fuzz.splits import case_of
from pointsman.canonical.events import AnyEvent, Ended, Failed
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.dialects import openai_chat as chat
from pointsman.dialects import openai_completions as completions
from pointsman.dialects import openai_responses as responses
from pointsman.dialects import openrouter
from pointsman.errors import GatewayError
from pointsman.providers import openai_chat, openai_responses

FORMATS = (openai_chat, openai_responses)
IDENTITY = Identity(request_id="r", created=1)
REQUEST = Request(wire="openai.chat", model="m", messages=[], include_usage=True)


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    provider = FORMATS[case.options % len(FORMATS)]
    whole = _events([case.data] if case.data else [], provider)
    assert _told(whole) == _told(_events(case.parts, provider)), "other pieces, other events"
    for dialect in (chat, responses, completions, openrouter):
        renderer = dialect.StreamRenderer(REQUEST, IDENTITY, Fidelity())
        for frame in b"".join(map(renderer.feed, whole)).split(b"\n\n")[:-1]:
            data = frame.partition(b"data: ")[2]
            assert data == b"[DONE]" or json.loads(data), frame
    try:
        provider.parse_response(case.data, IDENTITY)
    except GatewayError as error:
        chat.render_error(error, "r")
    provider.parse_error(400 + case.options, {}, case.data, "secret")


def _events(parts: list[bytes], provider: ModuleType) -> list[AnyEvent]:
    parser = provider.StreamParser(IDENTITY)
    events: list[AnyEvent] = [event for part in parts for event in parser.feed(part)]
    events += parser.finish()
    assert sum(isinstance(event, Ended | Failed) for event in events) == 1, "one end"
    assert isinstance(events[-1], Ended | Failed), "nothing follows the end"
    assert parser.feed(b"data: {}\n\n") == parser.finish() == [], "nothing follows the end"
    return events


def _told(events: list[AnyEvent]) -> list[object]:
    """Events as they compare: errors by what they say."""
    return [
        (event.error.kind, event.error.message) if isinstance(event, Failed) else msgspec.to_builtins(event)
        for event in events
    ]
