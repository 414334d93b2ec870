"""Bytes of a stream into the parsers of Ollama, Cohere and Bedrock, and their events into Ollama's renderer.

Holds for any bytes: nothing is raised; the last event is `Ended` or `Failed`, and nothing follows it; other pieces give
the same events; what is rendered are whole lines of JSON, with an error where the stream broke.
"""

import json
from types import ModuleType

from fuzz.splits import case_of
from pointsman.canonical.events import AnyEvent, Ended, Failed
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.dialects.ollama.chat import StreamRenderer
from pointsman.errors import GatewayError, Kind
from pointsman.providers import bedrock, cohere, ollama

FORMATS = (ollama, cohere, bedrock)
IDENTITY = Identity(request_id="r", created=1)
REQUEST = Request(wire="ollama", model="m", messages=[])
FAILURES = (Kind.UPSTREAM_ERROR, Kind.UPSTREAM_TIMEOUT, Kind.CONTEXT_LENGTH)


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    provider = FORMATS[case.options % len(FORMATS)]
    whole = _events([case.data] if case.data else [], provider)
    assert list(map(str, whole)) == list(map(str, _events(case.parts, provider))), "other pieces, other events"
    renderer = StreamRenderer(REQUEST, IDENTITY, Fidelity())
    lines = [json.loads(line) for line in b"".join(renderer.feed(event) for event in whole).splitlines()]
    assert "error" in lines[-1] or (lines[-1]["done"] and isinstance(whole[-1], Ended))
    assert "error" in lines[-1] or not isinstance(whole[-1], Failed)
    try:
        provider.parse_response(case.data, IDENTITY)
    except GatewayError as error:
        assert error.kind in FAILURES, error.kind
    provider.parse_error(400 + case.options, {}, case.data, "secret")


def _events(parts: list[bytes], provider: ModuleType) -> list[AnyEvent]:
    parser = provider.StreamParser(IDENTITY)
    events: list[AnyEvent] = [event for part in parts for event in parser.feed(part)]
    events += parser.finish()
    assert sum(isinstance(event, Ended | Failed) for event in events) == 1, "one end"
    assert isinstance(events[-1], Ended | Failed), "nothing follows the end"
    assert parser.feed(b"x\n") == parser.finish() == [], "nothing follows the end"
    return events
