"""The routes of operations beside chat: embeddings, rankings, pictures, sound, moderations."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.passed import PassedRequest
from pointsman.errors import GatewayError, Kind
from pointsman.flow import serve
from pointsman.gateway import Call, Gateway
from pointsman.policy.authentication import authenticate
from pointsman.server.exchange import Exchange, own_status, refuse
from pointsman.server.inference import BASES, client_call, dialect_module, place_model
from pointsman.server.routes import Handler, Router
from pointsman.server.views import is_openrouter, name_generation

# Path below the bases, the module of the dialect there, and its name in it where there are several.
ROUTES: Final = (
    ("embeddings", "openai_embeddings", None),
    ("rerank", "rerank", None),
    ("images/generations", "openai_media", "IMAGE_GENERATIONS"),
    ("images/edits", "openai_media", "IMAGE_EDITS"),
    ("audio/speech", "openai_media", "SPEECH"),
    ("audio/transcriptions", "openai_media", "TRANSCRIPTIONS"),
    ("audio/translations", "openai_media", "TRANSLATIONS"),
    ("moderations", "openai_media", "MODERATIONS"),
)


class OperationCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read, and what the flow needs of it."""

    model: str
    request: Any
    stream: bool = False
    choices: int = 1
    max_output_tokens: int = 0
    usage_wanted: bool = True
    fields: None = None
    outline: None = None

    @property
    def members(self) -> Mapping[str, Any]:
        """What nobody has read; of what is passed on, all. A form has none."""
        if isinstance(self.request, PassedRequest):
            return self.request.fields or {}
        return self.request.extra  # type: ignore[no-any-return]


class SpeakingOperation:
    """An operation's dialect with what one request says beside its body."""

    def __init__(
        self, dialect: Any, call: ClientCall, provider: str | None = None, *, errors: Any = None, named: bool = False
    ) -> None:
        """``errors``: whose errors the client reads, when not the dialect's own. ``named``: a request must name its
        model, also where the dialect has one for those that don't.
        """
        self.NAME = dialect.NAME
        self.STREAM_TYPE = self.KEEP_ALIVE = b""  # whether it will be a stream is the upstream's to say
        self.WIRE = dialect.WIRE
        self.OPERATION = dialect.OPERATION
        self.write_response = getattr(dialect, "write_response", None)
        self.status_of = getattr(errors, "status_of", own_status)
        self.render_error = (errors or dialect).render_error
        self.render_stream_error = dialect.render_stream_error
        self.render_limits = dialect.render_limits
        self._read = dialect.read_request
        self._call = call
        self._provider = provider
        self._named = named

    def parse_request(self, body: bytes) -> Call:
        """The body, read. Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
        request = self._read(body, self._call)
        if self._named and b'"model"' not in body:
            raise GatewayError(Kind.INVALID_REQUEST, "'model' is missing", param="model")
        model = request.model if self._provider is None else place_model(self._provider, request.model)
        return OperationCall(model=model, stream=request.stream, request=request)

    def as_request(self, call: Call, body: bytes) -> Any:
        """What `parse_request` read."""
        assert isinstance(call, OperationCall)
        return call.request


class OperationRoutes:
    """Handlers of the operations; each dialect is imported when its first request comes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._handlers = {path.encode(): self._handler(module, name) for path, module, name in ROUTES}

    def add_to(self, router: Router) -> None:
        """Serve every operation below each base."""
        for base in BASES:
            for path, handler in self._handlers.items():
                router.add("POST", f"{base}/{path.decode()}", handler, seeks=True)
        router.add("POST", "/api/embed", self._handler("ollama.embed", None), seeks=True)
        router.add("POST", "/api/embeddings", self._handler("ollama.embeddings", None), seeks=True)

    def of_provider(self, operation: bytes) -> Handler | None:
        """The handler for ``/providers/{provider}/{operation}``, where the path names the connection."""
        return self._handlers.get(operation)

    def _handler(self, module: str, name: str | None) -> Handler:
        async def handle(exchange: Exchange) -> None:
            dialect: Any = dialect_module(module)
            if name is not None:
                dialect = getattr(dialect, name)
            _, marked, rest = exchange.path.partition(b"/providers/")
            provider = unquote(rest.partition(b"/")[0].decode("latin-1")) if marked else None
            try:
                if provider is not None and provider not in self._gateway.snapshot.catalogue.connections:
                    # Which connections there are is for callers with a key.
                    authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
                    raise GatewayError(Kind.INVALID_REQUEST, "the path names no known provider", param="provider")
                call = client_call(exchange)
            except GatewayError as error:
                refuse(exchange, dialect, error)
                return
            strict = is_openrouter(exchange)
            name_generation(exchange)
            errors = dialect_module("openrouter") if strict else None
            speaking: Any = SpeakingOperation(dialect, call, provider, errors=errors, named=strict)
            await serve(self._gateway, speaking, exchange)

        return handle
