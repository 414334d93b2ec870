"""Answers on their way into the response cache, and out of it again, whole or as a stream."""

from collections.abc import Callable
from typing import Any

from pointsman.canonical.collect import Collector, replay
from pointsman.canonical.events import AnyEvent, Ended
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.canonical.usage import NO_USAGE
from pointsman.hub.own_calls import OwnCall

Take = Callable[[Response], None]


class CachingDialect:
    """A client's dialect for a call whose answer is kept. ``REWRITES`` has every answer pass in our own words."""

    REWRITES = True

    def __init__(self, dialect: Any, call: OwnCall, take: Take) -> None:
        """``take`` gets the whole answer, just before its last bytes are given to the client."""
        self._dialect = dialect
        self._own = call
        self._take = take

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def parse_request(self, body: bytes) -> OwnCall:
        """The body in our words."""
        call = self._dialect.parse_request(body)
        return OwnCall.like(call, self._dialect.as_request(call, body))

    def as_request(self, call: Any, body: bytes) -> Request:
        """What `parse_request` read."""
        return call.request if isinstance(call, OwnCall) else self._dialect.as_request(call, body)  # type: ignore[no-any-return]

    def write_response(self, response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
        """The answer for the client."""
        body: bytes = self._dialect.write_response(response, request, identity, fidelity)
        self._take(response)
        return body

    def StreamRenderer(self, request: Request, identity: Identity, fidelity: Fidelity) -> "_Taking":
        """Writes the stream for the client."""
        return _Taking(self._dialect.StreamRenderer(request, identity, fidelity), request.wire, self._take)


class _Taking:
    """A renderer whose events are put together beside. A stream that broke has no `Ended`: nothing is taken."""

    def __init__(self, renderer: Any, wire: str, take: Take) -> None:
        self._renderer = renderer
        self._collector = Collector(wire)
        self._take = take

    def feed(self, event: AnyEvent) -> bytes:
        """The bytes that an event gives."""
        self._collector.feed(event)
        data: bytes = self._renderer.feed(event)
        if type(event) is Ended:
            self._take(self._collector.response)
        return data


def written(dialect: Any, response: Response, request: Request, identity: Identity) -> bytes:
    """A kept answer for a client, whole or as a stream, in its own words. It used no tokens."""
    response.usage, fidelity = NO_USAGE, Fidelity(request.names)
    if not request.stream:
        body: bytes = dialect.write_response(response, request, identity, fidelity)
        return body
    renderer = dialect.StreamRenderer(request, identity, fidelity)
    return b"".join(renderer.feed(event) for event in replay(response))
