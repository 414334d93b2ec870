"""A dialect and a provider format joined without a gateway between them, and checks that hold for all halves."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pointsman.canonical.events import AnyEvent
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.errors import GatewayError, Kind
from pointsman.testing import Api, Behaviour
from pointsman.testing.reply import Event, EventKind, Reply, Request

IDENTITY = Identity(request_id="req_1", created=1_769_000_000)
UPSTREAM = Upstream(model="sim-model")
KEY = "sk-upstream-0123456789-wxyz"

# Hypothesis makes its table of characters once, which counts against the first test that needs it.
unhurried = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


class Joined:
    """Answers a dialect's clients from a simulated upstream through both halves, as an `Api` on a real socket.

    ``dialects``: by path. ``notes`` holds the fidelity ledger of the last call.
    """

    def __init__(self, dialects: dict[str, Any], provider: Any, upstream: Api) -> None:
        self._dialects = dialects
        self._provider = provider
        self._upstream = upstream
        self.fidelity = Fidelity()
        self.sent: Any = None

    def model_of(self, request: Request) -> str:
        return ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        dialect = self._dialects[request.path.partition("?")[0]]
        try:
            return self._answer(dialect, request, behaviour)
        except GatewayError as error:
            return _told(dialect, error)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """The upstream's refusal, in the client's words."""
        reply = self._upstream.refuse(fault, request, behaviour)
        error = self._provider.parse_error(reply.status, {}, reply.body, KEY)
        return _told(self._dialects[request.path.partition("?")[0]], error)

    def reject_directive(self, message: str) -> Reply:
        """In the words of the first dialect: whose request it was isn't told."""
        return _told(next(iter(self._dialects.values())), GatewayError(Kind.INVALID_REQUEST, message))

    def _answer(self, dialect: Any, request: Request, behaviour: Behaviour) -> Reply:
        self.fidelity = fidelity = Fidelity()
        asked = dialect.read_request(request.body, ClientCall())
        built = self._provider.build_request(asked, UPSTREAM, fidelity)
        self.sent = json.loads(built.body)
        headers = (*built.headers, *self._provider.auth_headers(KEY, UPSTREAM))
        sent = Request(
            method=built.method,
            path=built.path,
            headers=headers,
            body=built.body,
            http_version="1.1",
            keep_alive=True,
        )
        reply = self._upstream.answer(sent, behaviour)
        if reply.status != 200:
            raise self._provider.parse_error(reply.status, {}, reply.body, KEY)
        if not asked.stream:
            response = self._provider.parse_response(reply.body, IDENTITY)
            body = dialect.write_response(response, asked, IDENTITY, fidelity)
            return Reply(status=200, content_type="application/json", headers=(), body=body)
        events = self._stream(reply, dialect.StreamRenderer(asked, IDENTITY, fidelity))
        return Reply(status=200, content_type=dialect.STREAM_TYPE.decode(), headers=(), events=events)

    def _stream(self, reply: Reply, renderer: Any) -> Iterator[Event]:
        parser = self._provider.StreamParser(IDENTITY)
        found: list[AnyEvent]
        for event in reply.events or ():
            found = parser.feed(event.data)
            if data := b"".join(map(renderer.feed, found)):
                yield Event(EventKind.DELTA, data)
        found = parser.finish()
        if data := b"".join(map(renderer.feed, found)):
            yield Event(EventKind.DELTA, data)


def _told(dialect: Any, error: GatewayError) -> Reply:
    body = dialect.render_error(error, "req_1")
    return Reply(status=error.status, content_type="application/json", headers=(), body=body)


def parsed(parser: Any, stream: bytes, cuts: list[int]) -> list[AnyEvent]:
    """The events of a stream that comes in pieces cut at ``cuts``, neighbouring deltas of a part joined."""
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    events = [event for start, end in pairwise(edges) for event in parser.feed(stream[start:end])]
    return [*events, *parser.finish()]


def same(first: Any, second: Any) -> bool:
    """Equal but for the places where parts stood in the client's request."""
    return _without_places(msgspec.to_builtins(first)) == _without_places(msgspec.to_builtins(second))


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items() if key not in ("path", "paths")}
    return [_without_places(inner) for inner in value] if isinstance(value, list) else value
