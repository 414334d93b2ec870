"""The two halves of translation and what they are told: a dialect faces clients, a provider format faces upstreams.

Both are modules (or packages) with these names. They know our own words and their own API, and nothing of each other;
they touch no socket, clock or chance (docs/translation.md).
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from pointsman.canonical.events import AnyEvent
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.limits import Standing
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.errors import GatewayError

# What may be lacking: several answers to one request; answers bound to a schema, or to JSON at all; pictures and files
# by address (the gateway fetches them); tools.
LACKING: Final = ("choices", "json_schema", "json_object", "image_url", "file_url", "tools")


class ClientCall(msgspec.Struct, frozen=True, kw_only=True):
    """What an HTTP request says beside its body. ``model`` and ``stream`` are set where the path names them."""

    model: str | None = None
    stream: bool | None = None
    query: Mapping[str, str] = {}
    headers: Mapping[bytes, bytes] = {}


class StreamRenderer(Protocol):
    """Writes a streamed answer for one client. After `Failed` or `Ended` was fed nothing more comes."""

    def feed(self, event: AnyEvent) -> bytes:
        """The bytes of whole frames that an event gives; often none."""
        ...


class Dialect(Protocol):
    """What clients speak."""

    NAME: str  # for records: "anthropic.messages"
    WIRE: str  # one of pointsman.canonical.parts.WIRES
    OPERATION: str  # OpenTelemetry's word: "chat", "text_completion"
    STREAM_TYPE: bytes  # content type of a streamed answer
    KEEP_ALIVE: bytes  # what may stand between its frames while the client waits; empty where nothing may
    UNSAID: frozenset[str]  # what its answers can't hold and it doesn't note itself: some of pointsman.canonical.unsaid

    def read_request(self, body: bytes, call: ClientCall) -> Request:
        """Raises GatewayError(INVALID_REQUEST) that names the client's field."""
        ...

    def write_response(self, response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
        """The body of a whole answer; what of it the API can't say is noted in ``fidelity``."""
        ...

    def StreamRenderer(self, request: Request, identity: Identity, fidelity: Fidelity) -> StreamRenderer:
        """What writes a streamed answer to ``request``; notes in ``fidelity`` as `write_response` does."""
        ...

    def render_error(self, error: GatewayError, request_id: str) -> bytes:
        """The body of an error."""
        ...

    def render_stream_error(self, error: GatewayError, request_id: str) -> bytes:
        """The frames of an error that ends a stream which has begun."""
        ...

    def render_limits(self, standing: Standing) -> bytes:
        """Header lines that tell a client what is left of its limits; empty where the API has none."""
        ...


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes, as a provider format sees it. ``quirks`` is the host's row in the table of hosts.

    ``options`` are what the operator said of the connection beyond its address (project, region, api_version ...).
    """

    model: str
    max_output_tokens: int | None = None  # the model's largest answer, where that is known
    quirks: Mapping[str, Any] = {}
    options: Mapping[str, str] = {}


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an upstream. ``path`` is relative to the base URL and may hold a query; no credential is in it."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"


class StreamParser(Protocol):
    """Reads a streamed answer. Any split of the same bytes gives the same events."""

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes. Never raises: what can't be read becomes `Failed`."""
        ...

    def finish(self) -> list[AnyEvent]:
        """The upstream closed cleanly: `Ended` if its answer may end so, else `Failed`; nothing after either."""
        ...


class ProviderFormat(Protocol):
    """What upstreams speak."""

    WIRE: str
    STREAM_TYPE: bytes  # how the content type of a streamed answer begins, in lower case

    def lacks(self, upstream: Upstream) -> frozenset[str]:
        """What the API has no way to say, so that the gateway brings it about around it: some of `LACKING`."""
        ...

    def build_request(self, request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
        """Every leaf of ``request`` is in the result or in ``fidelity``. Raises UNSUPPORTED for what can't be meant."""
        ...

    def patch_request(self, body: bytes, request: Request, upstream: Upstream) -> Built:
        """The client's own body (it speaks the same API) with nothing changed but the model."""
        ...

    def auth_headers(self, secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
        """The headers that the host takes a key in, by name and value."""
        ...

    def parse_response(self, body: bytes, identity: Identity) -> Response:
        """Raises GatewayError(UPSTREAM_ERROR) when the answer isn't whole or holds an error."""
        ...

    def StreamParser(self, identity: Identity) -> StreamParser:
        """What reads a streamed answer."""
        ...

    def parse_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
        """What an answer that isn't 200 means to the client. Nothing in it holds ``secret``."""
        ...
