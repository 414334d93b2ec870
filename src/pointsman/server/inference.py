"""The inference routes: which path speaks which dialect, and what the path and the headers say beside the body."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.halves import Dialect as HubDialect
from pointsman.canonical.request import Request
from pointsman.errors import GatewayError, Kind
from pointsman.flow import Call, Gateway, serve
from pointsman.server.exchange import Exchange
from pointsman.server.routes import Handler, Router

MAX_QUERY_MEMBERS: Final = 64
BASES: Final = ("/v1", "/api/v1")
GEMINI_BASES: Final = ("/v1beta", "/api/v1beta")
GENERATE, STREAM, COUNT = "generateContent", "streamGenerateContent", "countTokens"


class ReadCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read into our words."""

    model: str
    stream: bool
    choices: int
    max_output_tokens: int
    request: Request
    fields: None = None


class Speaking:
    """A dialect with what one request says beside its body. ``provider`` is a connection that the path names."""

    def __init__(self, dialect: HubDialect, call: ClientCall, provider: str | None = None) -> None:
        self.NAME = dialect.NAME
        self.WIRE = dialect.WIRE
        self.OPERATION = dialect.OPERATION
        self.STREAM_TYPE = dialect.STREAM_TYPE
        self.read_request = dialect.read_request
        self.write_response = dialect.write_response
        self.StreamRenderer = dialect.StreamRenderer
        self.render_error = dialect.render_error
        self.render_stream_error = dialect.render_stream_error
        self.render_limits = dialect.render_limits
        self._call = call
        self._provider = provider

    def parse_request(self, body: bytes) -> Call:
        """The body in our words, and what the flow needs of it."""
        request = self.read_request(body, self._call)
        choices = request.choices or 1
        return ReadCall(
            model=self._placed(request.model),
            stream=request.stream,
            choices=choices,
            max_output_tokens=(request.max_output_tokens or 0) * choices,
            request=request,
        )

    def as_request(self, call: Call, body: bytes) -> Request:
        """What `parse_request` read."""
        return call.request if isinstance(call, ReadCall) else self.read_request(body, self._call)

    def _placed(self, model: str) -> str:
        """The model's full name where the path names its provider. Raises INVALID_REQUEST when they disagree."""
        return model if self._provider is None else place_model(self._provider, model)


class RawSpeaking(Speaking):
    """OpenAI's chat dialect, whose requests need not be read when the upstream speaks it too."""

    def __init__(
        self, dialect: HubDialect, parse: Callable[[bytes], Any], call: ClientCall, provider: str | None = None
    ) -> None:
        super().__init__(dialect, call, provider)
        self._parse = parse
        if provider is None:
            self.parse_request = parse  # type: ignore[method-assign, assignment]  # one frame less on the hot path

    def parse_request(self, body: bytes) -> Call:
        """The body's members as they came."""
        call = self._parse(body)
        return msgspec.structs.replace(call, model=self._placed(call.model))  # type: ignore[no-any-return]


def place_model(provider: str, model: str) -> str:
    """``model`` as the full name of one of ``provider``'s models; a prefix must be the same provider's."""
    if model.startswith(f"{provider}/"):
        return model
    if "/" in model and not provider:
        raise GatewayError(Kind.INVALID_REQUEST, "the path names no provider", param="model")
    return f"{provider}/{model}"


def client_call(exchange: Exchange, *, model: str | None = None, stream: bool | None = None) -> ClientCall:
    """What an HTTP request says beside its body."""
    return ClientCall(model=model, stream=stream, query=query_of(exchange), headers=exchange.headers)


def query_of(exchange: Exchange) -> Mapping[str, str]:
    """The query's members, the last of equal ones. Raises INVALID_REQUEST when there are far too many."""
    if not exchange.query:
        return {}
    try:
        text = exchange.query.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_MEMBERS))
    except ValueError:
        raise GatewayError(Kind.INVALID_REQUEST, "the query of the address can't be read") from None


def by_body(gateway: Gateway, dialect: HubDialect) -> Handler:
    """For APIs whose requests are all in the body (and in headers that begin with the vendor's name)."""

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        return serve(gateway, Speaking(dialect, client_call(exchange)), exchange)

    return handle


def of_provider(gateway: Gateway, dialect: HubDialect, parse: Callable[[bytes], Any]) -> Handler:
    """For ``/providers/{provider}/...``: a model of that connection, named without it."""

    async def handle(exchange: Exchange) -> None:
        provider = unquote(exchange.path.partition(b"/providers/")[2].partition(b"/")[0].decode("latin-1"))
        await serve(gateway, RawSpeaking(dialect, parse, client_call(exchange), provider), exchange)

    return handle


def of_gemini(gateway: Gateway, dialect: HubDialect, count: Handler) -> Handler:
    """For ``/v1beta/models/{model}:{method}``; the key may stand in the query as ``key``."""

    async def handle(exchange: Exchange) -> None:
        take_query_key(exchange)
        name, _, method = unquote(exchange.path.partition(b"/models/")[2].decode("latin-1")).rpartition(":")
        if method == COUNT:
            await count(exchange)
            return
        if method not in (GENERATE, STREAM) or not name:
            error = GatewayError(Kind.NOT_FOUND, f"there is no such method here; known: {GENERATE}, {STREAM}, {COUNT}")
            exchange.respond(error.status, dialect.render_error(error, exchange.request_id))
            return
        await serve(gateway, Speaking(dialect, client_call(exchange, model=name, stream=method == STREAM)), exchange)

    return handle


def take_query_key(exchange: Exchange) -> None:
    """Google's clients may send the key in the query: it counts as if it stood in a header, and is seen no further."""
    if b"key=" in exchange.query and b"x-goog-api-key" not in exchange.headers:
        key = query_of(exchange).get("key")
        if key is not None and key.isascii():
            exchange.headers[b"x-goog-api-key"] = key.encode()


def add_everywhere(router: Router, method: str, path: str, handler: Handler) -> None:
    """Serve ``path`` below each base that the APIs use."""
    for base in BASES:
        router.add(method, base + path, handler)
