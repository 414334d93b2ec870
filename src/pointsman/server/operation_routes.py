"""The routes of operations beside chat: embeddings, rankings, pictures, sound, moderations."""

from typing import Any, Final
from urllib.parse import unquote

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.dialects import openai_embeddings, openai_media, rerank
from pointsman.flow import Call, Gateway, serve
from pointsman.server.exchange import Exchange
from pointsman.server.inference import client_call, place_model
from pointsman.server.routes import Handler, Router

# Path below the bases, and the dialect there.
ROUTES: Final[tuple[tuple[str, Any], ...]] = (
    ("/embeddings", openai_embeddings),
    ("/rerank", rerank),
    ("/images/generations", openai_media.IMAGE_GENERATIONS),
    ("/images/edits", openai_media.IMAGE_EDITS),
    ("/audio/speech", openai_media.SPEECH),
    ("/audio/transcriptions", openai_media.TRANSCRIPTIONS),
    ("/audio/translations", openai_media.TRANSLATIONS),
    ("/moderations", openai_media.MODERATIONS),
)
OF_PROVIDERS: Final = ("/embeddings", "/images/generations")


class OperationCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read, and what the flow needs of it."""

    model: str
    request: Any
    stream: bool = False
    choices: int = 1
    max_output_tokens: int = 0
    fields: None = None


class SpeakingOperation:
    """An operation's dialect with what one request says beside its body."""

    def __init__(self, dialect: Any, call: ClientCall, provider: str | None = None) -> None:
        self.NAME = dialect.NAME
        self.WIRE = dialect.WIRE
        self.OPERATION = dialect.OPERATION
        self.write_response = getattr(dialect, "write_response", None)
        self.render_error = dialect.render_error
        self.render_stream_error = dialect.render_stream_error
        self.render_limits = dialect.render_limits
        self._read = dialect.read_request
        self._call = call
        self._provider = provider

    def parse_request(self, body: bytes) -> Call:
        """The body, read. Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
        request = self._read(body, self._call)
        model = request.model if self._provider is None else place_model(self._provider, request.model)
        return OperationCall(model=model, stream=request.stream, request=request)

    def as_request(self, call: Call, body: bytes) -> Any:
        """What `parse_request` read."""
        assert isinstance(call, OperationCall)
        return call.request


def of_operation(gateway: Gateway, dialect: Any) -> Handler:
    """A handler of one operation; below ``/providers/{provider}`` the path names the connection."""

    async def handle(exchange: Exchange) -> None:
        _, marked, rest = exchange.path.partition(b"/providers/")
        provider = unquote(rest.partition(b"/")[0].decode("latin-1")) if marked else None
        speaking: Any = SpeakingOperation(dialect, client_call(exchange), provider)
        await serve(gateway, speaking, exchange)

    return handle


def add_operations(router: Router, gateway: Gateway, bases: tuple[str, ...]) -> dict[str, Handler]:
    """Serve every operation below each base; gives the handlers of those that stand below a provider too."""
    handlers = {path: of_operation(gateway, dialect) for path, dialect in ROUTES}
    for base in bases:
        for path, handler in handlers.items():
            router.add("POST", base + path, handler)
    return {path: handlers[path] for path in OF_PROVIDERS}
