"""A server that takes Gemini requests through our own words to the Gemini simulator, and its answers back."""

from collections.abc import Iterator
from typing import Any

from pointsman.canonical.events import Ended, Failed
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.dialects import gemini as sse_dialect
from pointsman.dialects.gemini import array as array_dialect
from pointsman.errors import GatewayError
from pointsman.providers import gemini as provider
from pointsman.testing import Behaviour, Gemini
from pointsman.testing.reply import Event, EventKind, Reply, Request

KEY = "sk-hub-0001"
PIECE = 37  # bytes in which the upstream's stream arrives


class GeminiHub:
    """Both halves around a simulator; ``ledgers`` holds what each call's translation did."""

    def __init__(self, upstream: Gemini, options: dict[str, str]) -> None:
        self._upstream = upstream
        self._options = options
        self.ledgers: list[Fidelity] = []

    def model_of(self, request: Request) -> str:
        """Not needed: the directives are in headers."""
        return ""

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """The upstream's refusal, as the dialect tells it."""
        return self._told(self._upstream.refuse(fault, request, behaviour))

    def reject_directive(self, message: str) -> Reply:
        """As the simulator does."""
        return self._upstream.reject_directive(message)

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """One request through both halves."""
        path, _, query = request.path.partition("?")
        model, _, method = path.rpartition("/")[2].partition(":")
        stream = method == "streamGenerateContent"
        dialect: Any = sse_dialect if "alt=sse" in query or not stream else array_dialect
        fidelity = Fidelity()
        self.ledgers.append(fidelity)
        target = Upstream(model=model, options=self._options)
        try:
            if method == "countTokens":
                counted = dialect.read_count_request(request.body, ClientCall(model=model))
                built = provider.build_count_request(counted, target, fidelity)
                reply = self._send(built, behaviour, target)
                return _json(dialect.write_count_response(provider.parse_count_response(reply.body)))
            read = dialect.read_request(request.body, ClientCall(model=model, stream=stream))
            reply = self._send(provider.build_request(read, target, fidelity), behaviour, target)
        except GatewayError as error:
            return Reply(
                status=error.status, content_type="application/json", headers=(), body=dialect.render_error(error, "r1")
            )
        if reply.status != 200:
            return self._told(reply)
        identity = Identity(request_id="r1", created=1)
        if reply.events is None:
            response = provider.parse_response(reply.body, identity)
            return _json(dialect.write_response(response, read, identity, fidelity))
        events = _rendered(reply, dialect.StreamRenderer(read, identity, fidelity), identity)
        return Reply(status=200, content_type=dialect.STREAM_TYPE.decode(), headers=(), events=events)

    def _send(self, built: Any, behaviour: Behaviour, target: Upstream) -> Reply:
        request = Request(
            method="POST",
            path=built.path,
            headers=provider.auth_headers(KEY, target),
            body=built.body,
            http_version="1.1",
            keep_alive=True,
        )
        return self._upstream.answer(request, behaviour)

    def _told(self, reply: Reply) -> Reply:
        headers = {name.encode(): value.encode() for name, value in reply.headers}
        error = provider.parse_error(reply.status, headers, reply.body, KEY)
        body = sse_dialect.render_error(error, "r1")
        return Reply(status=error.status, content_type="application/json", headers=(), body=body)


def _rendered(reply: Reply, renderer: Any, identity: Identity) -> Iterator[Event]:
    parser = provider.StreamParser(identity)
    data = b"".join(event.data for event in reply.events or ())
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    for piece in pieces:
        yield from _events(parser.feed(piece), renderer)
    yield from _events(parser.finish(), renderer)


def _events(events: list[Any], renderer: Any) -> Iterator[Event]:
    for event in events:
        written = renderer.feed(event)
        if written:
            yield Event(EventKind.DONE if isinstance(event, Ended | Failed) else EventKind.DELTA, written)


def _json(body: bytes) -> Reply:
    return Reply(status=200, content_type="application/json; charset=UTF-8", headers=(), body=body)
