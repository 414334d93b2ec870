"""Both halves of the Anthropic API between the official SDK and the simulator, on real sockets."""

import msgspec

from pointsman.canonical.events import AnyEvent
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request as CanonicalRequest
from pointsman.dialects import anthropic as dialect
from pointsman.errors import GatewayError
from pointsman.providers import anthropic as provider
from pointsman.testing import AnthropicMessages, Behaviour
from pointsman.testing.reply import Event, EventKind, Reply, Request

IDENTITY = Identity(request_id="req_1", created=1_700_000_000)
UPSTREAM = Upstream(model="sim-model")


class Passage:
    """A simulated API that translates every message into our own words and back, both ways."""

    def __init__(self, inner: AnthropicMessages) -> None:
        self._inner = inner
        self.fidelity = Fidelity()
        self.requests: list[CanonicalRequest] = []

    def model_of(self, request: Request) -> str:
        """The model that the client names."""
        return self._inner.model_of(request)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """The fault as the inner API has it."""
        return self._inner.refuse(fault, request, behaviour)

    def reject_directive(self, message: str) -> Reply:
        """As the inner API has it."""
        return self._inner.reject_directive(message)

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """The inner API's answer, translated; errors in the dialect's shape."""
        self.fidelity = Fidelity()
        try:
            return self._translated(request, behaviour)
        except GatewayError as error:
            body = dialect.render_error(error, "req_1")
            return Reply(status=error.status, content_type="application/json", headers=(), body=body)

    def _translated(self, request: Request, behaviour: Behaviour) -> Reply:
        headers = {name.encode(): value.encode() for name, value in request.headers}
        wanted = dialect.read_request(request.body, ClientCall(headers=headers))
        self.requests.append(wanted)
        reply = ask(self._inner, provider.build_request(wanted, UPSTREAM, self.fidelity), behaviour)
        if reply.status != 200:
            raise provider.parse_error(reply.status, {}, reply.body, None)
        if reply.events is None:
            response = provider.parse_response(reply.body, IDENTITY)
            body = dialect.write_response(response, wanted, IDENTITY, self.fidelity)
            return Reply(status=200, content_type="application/json", headers=(), body=body)
        renderer = dialect.StreamRenderer(wanted, IDENTITY, self.fidelity)
        stream = [Event(EventKind.DELTA, data) for event in parsed(reply) if (data := renderer.feed(event))]
        return Reply(status=200, content_type="text/event-stream; charset=utf-8", headers=(), events=stream)


def ask(api: AnthropicMessages, built: Built, behaviour: Behaviour | None = None) -> Reply:
    """The simulator's answer to a built request."""
    asked = Request(
        method=built.method,
        path=built.path,
        headers=built.headers,
        body=built.body,
        http_version="1.1",
        keep_alive=True,
    )
    return api.answer(asked, behaviour or Behaviour())


def bytes_of(reply: Reply) -> bytes:
    """A streamed answer as it goes over the wire."""
    return b"".join(event.data for event in reply.events or ())


def parsed(reply: Reply) -> list[AnyEvent]:
    """A streamed answer in our words."""
    parser = provider.StreamParser(IDENTITY)
    return [*parser.feed(bytes_of(reply)), *parser.finish()]


def body_of(built: Built) -> dict[str, object]:
    """The JSON of a built request."""
    return msgspec.json.decode(built.body, type=dict[str, object])
