"""Lists of models in the shapes of Anthropic's, Gemini's and Ollama's clients."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from pointsman.errors import GatewayError
from pointsman.gateway import Gateway
from pointsman.policy.authentication import authenticate, is_credential_sent
from pointsman.routing.targets import Target
from pointsman.server.exchange import Exchange, refuse
from pointsman.server.inference import GEMINI_BASES, dialect_module, name_request, query_of, take_query_key
from pointsman.server.operations import list_models
from pointsman.server.routes import Handler, Router

RUNNING_SECONDS: Final = 300  # how long Ollama keeps a model loaded by default; ours need no loading
OLLAMA_RUNS: Final = b"Ollama is running"  # ollama/server/routes.go
_CAPABILITIES: Final = ("completion", "tools", "vision", "thinking")


class VendorModels:
    """Handlers; each answers and refuses in its vendor's own shape."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def add_to(self, router: Router) -> None:
        """Serve the paths."""
        for base in GEMINI_BASES:
            router.add("GET", f"{base}/models", self.gemini_models)
            router.add("GET", f"{base}/models/*", self.gemini_model)
        router.add("GET", "/api/tags", self.ollama_tags)
        router.add("GET", "/api/ps", self.ollama_running)
        router.add("GET", "/api/version", self.ollama_version)
        router.add("POST", "/api/show", self.ollama_show)

    def by_vendor(self, others: Handler, anthropic: Handler, google: Handler) -> Handler:
        """For a path that three kinds of clients share: Anthropic's tell their version, Google's have a header of
        their own for the key.
        """

        async def handle(exchange: Exchange) -> None:
            if b"anthropic-version" in exchange.headers:
                await anthropic(exchange)
            else:
                await (google if b"x-goog-api-key" in exchange.headers else others)(exchange)

        return handle

    def root(self, page: Handler) -> Handler:
        """For ``/``: what browsers get, and the words by which Ollama's clients know that there is somebody."""

        async def handle(exchange: Exchange) -> None:
            if b"text/html" in exchange.headers.get(b"accept", b"").lower():
                await page(exchange)
            else:
                exchange.respond(200, OLLAMA_RUNS, b"text/plain; charset=utf-8")

        return handle

    async def anthropic_models(self, exchange: Exchange) -> None:
        """``GET /v1/models`` for Anthropic's clients, in pages."""
        await self._anthropic(exchange, self._anthropic_page)

    async def anthropic_model(self, exchange: Exchange) -> None:
        """``GET /v1/models/{model}`` for Anthropic's clients."""
        await self._anthropic(exchange, self._anthropic_one)

    async def _anthropic(self, exchange: Exchange, write: Callable[[Any, Exchange], bytes]) -> None:
        dialect = dialect_module("anthropic")
        name_request(exchange, dialect)
        try:
            self._authenticate_if_sent(exchange)
            body = write(dialect, exchange)
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        exchange.respond(200, body)

    def _anthropic_page(self, dialect: Any, exchange: Exchange) -> bytes:
        models = list_models(self._gateway.snapshot.catalogue)
        cards = [dialect.ModelCard(name=model.id, created=model.created) for model in models]
        page: bytes = dialect.write_models(cards, query_of(exchange))
        return page

    def _anthropic_one(self, dialect: Any, exchange: Exchange) -> bytes:
        name = unquote(exchange.path.partition(b"/models/")[2].decode("latin-1"))
        created = self._gateway.snapshot.catalogue.resolve(name).connection.created_at // 1_000_000
        one: bytes = dialect.write_model(dialect.ModelCard(name=name, created=created))
        return one

    async def gemini_models(self, exchange: Exchange) -> None:
        """``GET /v1beta/models``."""
        dialect = dialect_module("gemini")
        try:
            take_query_key(exchange, query_of(exchange))
            self._authenticate_if_sent(exchange)
            models = [model.id for model in list_models(self._gateway.snapshot.catalogue)]
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        exchange.respond(200, dialect.write_models(models))

    async def gemini_model(self, exchange: Exchange) -> None:
        """``GET /v1beta/models/{model}``."""
        dialect = dialect_module("gemini")
        name = unquote(exchange.path.partition(b"/models/")[2].decode("latin-1"))
        try:
            take_query_key(exchange, query_of(exchange))
            self._authenticate_if_sent(exchange)
            self._gateway.snapshot.catalogue.resolve(name)
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        exchange.respond(200, dialect.write_model(name))

    async def ollama_tags(self, exchange: Exchange) -> None:
        """``GET /api/tags``: every model that is offered."""
        await self._ollama(exchange, lambda module: module.write_tags(self._cards(module)))

    async def ollama_running(self, exchange: Exchange) -> None:
        """``GET /api/ps``: all of them, since none has to be loaded."""
        expires = exchange.started_at // 1_000_000 + RUNNING_SECONDS
        await self._ollama(exchange, lambda module: module.write_running(self._cards(module), expires))

    async def ollama_version(self, exchange: Exchange) -> None:
        """``GET /api/version``."""
        await self._ollama(exchange, lambda module: module.write_version())

    async def ollama_show(self, exchange: Exchange) -> None:
        """``POST /api/show``: what is known of one model."""

        def show(module: Any) -> bytes:
            name = module.read_show(exchange.body)
            written: bytes = module.write_show(self._card(module, name, self._gateway.snapshot.catalogue.resolve(name)))
            return written

        await self._ollama(exchange, show)

    async def _ollama(self, exchange: Exchange, write: Any) -> None:
        try:
            self._authenticate_if_sent(exchange)
            body = write(dialect_module("ollama.models"))
        except GatewayError as error:
            refuse(exchange, dialect_module("ollama.chat"), error)
            return
        exchange.respond(200, body, b"application/json; charset=utf-8")

    def _cards(self, module: Any) -> list[Any]:
        catalogue = self._gateway.snapshot.catalogue
        return [self._card(module, model.id, catalogue.resolve(model.id)) for model in list_models(catalogue)]

    def _card(self, module: Any, name: str, target: Target) -> Any:
        connection = target.connection
        return module.ModelCard(
            name=name,
            modified=connection.created_at // 1_000_000,
            family=connection.provider or connection.id,
            capabilities=_CAPABILITIES,
        )

    def _authenticate_if_sent(self, exchange: Exchange) -> None:
        if is_credential_sent(exchange.headers):
            authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
