"""The chat format of hosts that have no chat: services of embeddings and reranking, and the local embedder."""

from typing import Any, Final, NoReturn

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.errors import GatewayError, Kind
from pointsman.providers.operations import parse_error as parse_error

WIRE: Final = "none"
STREAM_TYPE: Final = b"text/event-stream"


def lacks(upstream: Upstream) -> frozenset[str]:
    """Nothing that could be brought about around it."""
    return frozenset()


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """Raises GatewayError(UNSUPPORTED)."""
    _refuse(upstream.model)


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """Raises GatewayError(UNSUPPORTED)."""
    _refuse(upstream.model)


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """A bearer token."""
    return (("authorization", f"Bearer {secret}"),)


def parse_response(body: bytes, identity: Identity) -> Any:
    """Never called: nothing was asked."""
    _refuse("")


def StreamParser(identity: Identity) -> Any:
    """Never called: nothing was asked."""
    _refuse("")


def _refuse(model: str) -> NoReturn:
    raise GatewayError(
        Kind.UNSUPPORTED, f"the model '{model[:100]}' does no chat; it makes embeddings or rankings", param="model"
    )
