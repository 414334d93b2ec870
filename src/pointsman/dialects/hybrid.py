"""Hybrid Thinking's errors, which are flat, and its shapes of models. Source: its OpenAPI document, as of 2026-11."""

from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind

_encode: Final = msgspec.json.Encoder().encode
# Its words for errors, by status; another 4xx is a request that isn't valid, and what is left an internal error.
CODES: Final = MappingProxyType(
    {400: "invalid_request", 401: "unauthorized", 404: "not_found", 429: "rate_limited", 502: "model_error"}
)


def status_of(error: GatewayError) -> int:
    """Its API has no 403: a caller who may not is one who isn't known."""
    return 401 if error.kind is Kind.PERMISSION_DENIED else error.status


def render_error(error: GatewayError, request_id: str) -> bytes:
    """``{code, message, details}``; ``details`` names the field at fault."""
    status = status_of(error)
    code = CODES.get(status) or ("invalid_request" if status < 500 else "internal_error")
    told: dict[str, Any] = {"code": code, "message": error.message}
    if error.param is not None:
        told["details"] = {"field": error.param}
    return _encode(told)


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What its clients are told of a model. ``local``: it runs here. ``most_output`` in tokens, None when unknown."""

    id: str
    name: str
    provider: str
    local: bool
    most_output: int | None


def write_models(cards: list[ModelCard]) -> bytes:
    """The list: a bare array."""
    return _encode([_model(card) for card in cards])


def write_health(ready: bool, details: str | None) -> bytes:
    """Whether a model can be asked now, and if not, why."""
    return _encode({"ready": ready} | ({"details": details} if details else {}))


def _model(card: ModelCard) -> dict[str, Any]:
    capabilities: dict[str, Any] = {"streaming": True}
    if card.most_output is not None:
        capabilities["maxTokens"] = card.most_output
    kind = "local" if card.local else "api"
    return {"id": card.id, "type": kind, "provider": card.provider, "name": card.name, "capabilities": capabilities}
