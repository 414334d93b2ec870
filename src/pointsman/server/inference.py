"""The inference routes: which path speaks which dialect, and what the path and the headers say beside the body."""

from collections.abc import Callable, Coroutine, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.halves import Dialect as HubDialect
from pointsman.canonical.request import Request
from pointsman.contracts.operations import Contract
from pointsman.dialects import openai_chat
from pointsman.entry import Entry
from pointsman.errors import GatewayError, Kind
from pointsman.flow import serve, usual_work
from pointsman.gateway import Call, Dialect, Gateway
from pointsman.gateway import Exchange as FlowExchange
from pointsman.hub.hardcarrx_headers import hardcarrx_lines
from pointsman.hub.profile_headers import explicit_lines
from pointsman.policy.authentication import authenticate
from pointsman.routing.metadata import wanted
from pointsman.server.exchange import Exchange, own_status, refuse
from pointsman.server.routes import Handler, Router
from pointsman.server.token_counting import TokenCounting
from pointsman.server.views import PLAIN_BASE, SHARED_BASE, contract_of, is_plain, name_generation

MAX_QUERY_MEMBERS: Final = 64
BASES: Final = ("/v1", "/api/v1")
GEMINI_BASES: Final = ("/v1beta", "/api/v1beta")
# Paths below each base, and the dialects that they speak.
BY_BODY: Final = (
    ("/completions", "openai_completions"),
    ("/responses", "openai_responses"),
    ("/messages", "anthropic"),
    ("/api/chat", "ollama.chat"),
)
OLLAMA: Final = (("/api/chat", "ollama.chat"), ("/api/generate", "ollama.generate"))
GENERATE, STREAM, COUNT = "generateContent", "streamGenerateContent", "countTokens"


class ReadCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read into our words."""

    model: str
    stream: bool
    choices: int
    max_output_tokens: int
    request: Request
    usage_wanted: bool = True  # what such a client is told of usage is its dialect's matter
    fields: None = None
    outline: None = None

    @property
    def members(self) -> Mapping[str, Any]:
        """What nobody has read."""
        return self.request.extra


class Speaking:
    """A dialect with what one request says beside its body. ``provider`` is a connection that the path names."""

    def __init__(
        self,
        dialect: HubDialect,
        call: ClientCall,
        provider: str | None = None,
        *,
        errors: Any = None,
        needs_limit: bool = False,
    ) -> None:
        """``errors``: whose errors the client reads, when not the dialect's own. ``needs_limit``: its contract wants
        every request to say how long the answer may be.
        """
        self.NAME = dialect.NAME
        self.WIRE = dialect.WIRE
        self.OPERATION = dialect.OPERATION
        self.STREAM_TYPE = dialect.STREAM_TYPE
        self.KEEP_ALIVE = dialect.KEEP_ALIVE
        self.UNSAID = dialect.UNSAID
        self.read_request = dialect.read_request
        self.write_response = dialect.write_response
        self.StreamRenderer = dialect.StreamRenderer
        self.status_of = getattr(errors or dialect, "status_of", own_status)
        self.render_error = (errors or dialect).render_error
        self.render_stream_error = dialect.render_stream_error
        self.render_limits = dialect.render_limits
        self.answer_without_upstream = getattr(dialect, "loading_answer", None)
        self.REWRITES = wanted(call.headers)  # how the request was routed is not in the upstream's answer
        self._call = call
        self._provider = provider
        self._needs_limit = needs_limit

    def parse_request(self, body: bytes) -> Call:
        """The body in our words, and what the flow needs of it."""
        request = self.read_request(body, self._call)
        if self._needs_limit and request.max_output_tokens is None:
            raise GatewayError(Kind.INVALID_REQUEST, "'max_tokens' is missing", param="max_tokens")
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
        self.told_by: Callable[[Call], Any] | None = None  # the dialect that a request's members tell
        self._parse = parse
        if provider is None:
            self.parse_request = parse  # type: ignore[method-assign, assignment]  # one frame less on the hot path

    def parse_request(self, body: bytes) -> Call:
        """The body's members as they came."""
        call = self._parse(body)
        return msgspec.structs.replace(call, model=self._placed(call.model))  # type: ignore[no-any-return]


class Pinned(Speaking):
    """Hardcarrx's chat, whose ``provider`` must be there. Routing takes it out of the body, read again."""

    def __init__(self, dialect: HubDialect, call: ClientCall, place: Callable[[str, str], str]) -> None:
        super().__init__(dialect, call)
        self._place = place
        self._pin: str | None = None

    def pin(self, provider: str) -> None:
        """The provider is known."""
        self._pin = provider

    def parse_request(self, body: bytes) -> Call:
        """The body in our words. Raises GatewayError(INVALID_REQUEST) when it names no provider."""
        call = super().parse_request(body)
        if self._pin is None:
            provider = call.members.get("provider")
            if not isinstance(provider, str) or not provider:
                message = "'provider' must be the name of a provider"
                raise GatewayError(Kind.INVALID_REQUEST, message, param="provider")
            self._pin = provider
        return msgspec.structs.replace(call, model=self._place(self._pin, call.model))  # type: ignore[type-var]


async def _told_explicitly(gateway: Gateway, dialect: Dialect, exchange: FlowExchange, entry: Entry) -> None:
    """CrossCompute's clients are told who answers though they have named the model; profiles tell more."""
    exchange.telling = partial(explicit_lines, entry)
    await usual_work(exchange)(gateway, dialect, exchange, entry)


async def _told_route(gateway: Gateway, dialect: Dialect, exchange: FlowExchange, entry: Entry) -> None:
    """Hardcarrx's clients are told by which provider and model they are answered."""
    exchange.telling = partial(hardcarrx_lines, entry)
    await usual_work(exchange)(gateway, dialect, exchange, entry)


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


class InferenceRoutes:
    """Handlers of the inference paths; each dialect is imported when its first request comes."""

    def __init__(self, gateway: Gateway, others: Callable[[bytes], Handler | None]) -> None:
        """``others`` gives the handlers of operations beside chat, by the path below a provider's."""
        self._gateway = gateway
        self._others = others
        self._counting = TokenCounting(gateway)

    def add_to(self, router: Router) -> None:
        """Serve every inference path."""
        router.add("POST", f"{PLAIN_BASE}/chat/completions", self._chat(self._raw(self._told_by_members)), seeks=True)
        router.add("POST", f"{SHARED_BASE}/chat/completions", self._shared_chat(self._raw(None)), seeks=True)
        for base in BASES:
            for path, dialect in BY_BODY:
                router.add("POST", base + path, self._by_body(dialect), seeks=True)
            router.add("POST", f"{base}/messages/count_tokens", self.anthropic_count)
            router.add("POST", f"{base}/providers/*", self.of_provider)
        for path, dialect in OLLAMA:
            router.add("POST", path, self._by_body(dialect), seeks=True)
        for base in (*GEMINI_BASES, *BASES):  # Google's newest SDK calls /v1
            router.add("POST", f"{base}/models/*", self.gemini)

    def _by_body(self, module: str) -> Handler:
        """For APIs whose requests are all in the body, and in headers that begin with the vendor's name."""

        async def handle(exchange: Exchange) -> None:
            dialect = dialect_named(module)
            name_request(exchange, dialect)
            name_generation(exchange)
            try:
                call = client_call(exchange)
            except GatewayError as error:
                refuse(exchange, dialect, error)
                return
            needs_limit = module == "anthropic" and exchange.contract is Contract.OMNIROUTE
            await serve(self._gateway, Speaking(dialect, call, needs_limit=needs_limit), exchange)

        return handle

    def _raw(self, told_by: Callable[[Call], Any] | None) -> "RawSpeaking":
        raw = RawSpeaking(openai_chat, openai_chat.parse_request, ClientCall())
        raw.told_by = told_by
        return raw

    def _chat(self, raw: "RawSpeaking") -> Handler:
        """For the path that all clients share: nearly all of them can take the raw lane."""
        gateway, others = self._gateway, self._of_contracts(raw)

        def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
            return serve(gateway, raw, exchange) if is_plain(exchange) else others(exchange)

        return handle

    def _shared_chat(self, raw: "RawSpeaking") -> Handler:
        """For the path that OpenRouter's clients share with OmniRoute's, who can take the raw lane."""
        return self._of_contracts(raw)

    def _of_contracts(self, raw: "RawSpeaking") -> Handler:
        of_openrouter = self._by_body("openrouter")

        def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
            contract = contract_of(exchange)
            if contract is Contract.OPENROUTER:
                return of_openrouter(exchange)
            if contract is Contract.HARDCARRX:
                return serve(self._gateway, self._pinned(exchange), exchange, _told_route)
            if contract is Contract.CROSSCOMPUTE:
                return serve(self._gateway, _crosscompute(), exchange, _told_explicitly)
            return serve(self._gateway, raw, exchange)

        return handle

    def _pinned(self, exchange: Exchange) -> "Pinned":
        return Pinned(dialect_named("hardcarrx"), client_call(exchange), self._place)

    def _told_by_members(self, call: Call) -> Any:
        """The dialect of a request whose ``provider`` is a name, which Hardcarrx alone has; None for any other."""
        provider = call.fields.get("provider") if call.fields is not None else None
        if provider is None or not bytes(provider).startswith(b'"'):
            return None
        pinned = Pinned(dialect_named("hardcarrx"), ClientCall(), self._place)
        pinned.pin(msgspec.json.decode(provider))
        return pinned

    def _place(self, provider: str, model: str) -> str:
        """A model that is named in its provider's own way, as the catalogue knows it; else as it came."""
        catalogue = self._gateway.snapshot.catalogue
        if provider not in catalogue.connections:
            return model
        try:
            placed = place_model(provider, model)
            catalogue.route(placed)
        except GatewayError:
            return model
        return placed

    async def of_provider(self, exchange: Exchange) -> None:
        """``/providers/{provider}/chat/completions``: a model of that connection, named without it."""
        provider, _, operation = exchange.path.partition(b"/providers/")[2].partition(b"/")
        name = unquote(provider.decode("latin-1"))
        other = self._others(operation)
        if other is not None:
            await other(exchange)
            return
        if operation != b"chat/completions":
            raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
        snapshot = self._gateway.snapshot
        if name not in snapshot.catalogue.connections:
            # Others need not know which there are.
            authenticate(exchange.headers, snapshot.keys, exchange.started_at, exchange.path)
            error = GatewayError(Kind.INVALID_REQUEST, "the path names a provider that is not known", param="provider")
            refuse(exchange, openai_chat, error)
            return
        speaking = RawSpeaking(openai_chat, openai_chat.parse_request, ClientCall(), name)
        await serve(self._gateway, speaking, exchange)

    async def anthropic_count(self, exchange: Exchange) -> None:
        """``/v1/messages/count_tokens``."""
        dialect = dialect_module("anthropic")
        name_request(exchange, dialect)
        await self._counting.count(exchange, dialect, ClientCall(headers=exchange.headers))

    async def gemini(self, exchange: Exchange) -> None:
        """``/v1beta/models/{model}:{method}``; the key may stand in the query as ``key``."""
        name, _, method = unquote(exchange.path.partition(b"/models/")[2].decode("latin-1")).rpartition(":")
        dialect = dialect_named("gemini")
        try:
            query = query_of(exchange)
            take_query_key(exchange, query)
            if method not in (GENERATE, STREAM, COUNT) or not name:
                raise GatewayError(Kind.NOT_FOUND, f"there is no such method; known: {GENERATE}, {STREAM}, {COUNT}")
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        if method == COUNT:
            await self._counting.count(exchange, dialect, ClientCall(model=name, query=query, headers=exchange.headers))
            return
        streamed = method == STREAM
        if streamed and query.get("alt") != "sse":
            dialect = dialect_named("gemini.array")
        call = ClientCall(model=name, stream=streamed, query=query, headers=exchange.headers)
        await serve(self._gateway, Speaking(dialect, call), exchange)


@cache
def _crosscompute() -> RawSpeaking:
    dialect = dialect_module("crosscompute")
    return RawSpeaking(dialect, dialect.parse_request, ClientCall())


def name_request(exchange: Exchange, dialect: object) -> None:
    """Tell the request's id in the header that the client's API has for it, if it has one of its own."""
    lines: Callable[[str], bytes] | None = getattr(dialect, "request_lines", None)
    if lines is not None:
        exchange.api_head = lines(exchange.request_id)


def take_query_key(exchange: Exchange, query: Mapping[str, str]) -> None:
    """Google's clients may send the key in the query: it counts as if it stood in a header."""
    key = query.get("key")
    if key is not None and key.isascii() and b"x-goog-api-key" not in exchange.headers:
        exchange.headers[b"x-goog-api-key"] = key.encode()


@cache
def dialect_module(name: str) -> Any:
    """A module of `pointsman.dialects`, imported when it is first needed."""
    return import_module(f"pointsman.dialects.{name}")


def dialect_named(name: str) -> HubDialect:
    """A dialect for chat."""
    return cast(HubDialect, dialect_module(name))
