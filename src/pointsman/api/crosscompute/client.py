"""Whose client calls, at paths that two contracts share; and CrossCompute's words for answers and refusals."""

from typing import Any, Final

import msgspec
from litestar import Response

from pointsman.api.exchange import HttpRequest, decoded, wrong
from pointsman.contracts.operations import Contract, owner_of
from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key

MAX_BODY: Final = 64 * 1024  # bytes; names and numbers, nothing more
_CREDENTIALS: Final = (b"eyj", b"cc_live_", b"cc_agent_")  # a JWT: base64 of '{"'


class Refusals:
    """The error dialect of CrossCompute's management: as OpenAI's, with ``ok``. It has no 403."""

    @staticmethod
    def status_of(error: GatewayError) -> int:
        """401 for a credential that may not, else the error's own."""
        return 401 if error.kind is Kind.PERMISSION_DENIED else error.status

    @staticmethod
    def render_error(error: GatewayError, request_id: str) -> bytes:
        """``{ok: false, error: {message, type, param, code}}``."""
        told: dict[str, Any] = msgspec.json.decode(openai_chat.render_error(error, request_id))
        return msgspec.json.encode({"ok": False, **told})


def is_its_client(scope: Any) -> bool:
    """Whether a request is for CrossCompute: by host or mount, by its path, or at a shared one by its bearer."""
    contract = scope["state"].get("contract")
    if contract is not None:
        return bool(contract is Contract.CROSSCOMPUTE)
    owner = owner_of(scope["path_template"].encode("latin-1"))
    if owner is not None:
        return owner is Contract.CROSSCOMPUTE
    scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
    return bool(scheme.lower() == b"bearer" and token.strip().lower().startswith(_CREDENTIALS))


def caller(request: HttpRequest) -> Key:
    """The credential that the guard let in (api/access.py)."""
    key: Key | None = request.scope["state"].get("caller")
    if key is None:
        raise GatewayError(Kind.UNAUTHENTICATED, "the API key is not valid")
    return key


async def read_members(request: HttpRequest, *, required: bool = True) -> dict[str, Any]:
    """The body, a JSON object. Raises GatewayError(INVALID_REQUEST)."""
    body = await request.body()
    if not body and not required:
        return {}
    if len(body) > MAX_BODY:
        raise GatewayError(Kind.TOO_LARGE, f"the body is longer than {MAX_BODY} bytes")
    return decoded(body, dict[str, Any])


def text_of(members: dict[str, Any], name: str, most: int) -> str | None:
    """An optional member that is a text of 1 to ``most`` printable characters. Raises GatewayError that names it."""
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable() or not value.strip():
        raise wrong(name, f"must be 1 to {most} printable characters")
    return value


def tell(value: dict[str, Any], status: int = 200) -> Response[bytes]:
    """``{ok: true, ...}``; answers may hold a secret or a balance, so nobody keeps them."""
    told = msgspec.json.encode({"ok": status < 400, **value})
    return Response(told, status_code=status, media_type="application/json", headers={"cache-control": "no-store"})
