"""What Ollama's clients ask about models: ``/api/tags``, ``/api/ps``, ``/api/show``, ``/api/version``."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pointsman.wire.members import read_request
from pointsman.wire.ollama import write_time

# The version of Ollama whose API this is: clients refuse servers that tell an older one than they need.
API_VERSION: Final = "0.13.5"
CAPABILITIES: Final = ("completion", "tools", "vision", "thinking", "insert", "embedding")

_FAMILY: Final = "pointsman"
_encode: Final = msgspec.json.Encoder().encode


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model as Ollama's clients want to see one. What is not known is left out, or empty where they need something.

    ``modified`` is in seconds since 1970; ``capabilities`` are some of `CAPABILITIES`; ``family`` is mostly the maker.
    """

    name: str
    modified: int
    family: str = _FAMILY
    context_length: int | None = None
    parameter_size: str = ""
    capabilities: tuple[str, ...] = ("completion",)


def write_tags(cards: Sequence[ModelCard]) -> bytes:
    """The answer of ``GET /api/tags``."""
    return _encode({"models": [{**_named(card), "modified_at": write_time(card.modified)} for card in cards]})


def write_running(cards: Sequence[ModelCard], expires: int) -> bytes:
    """The answer of ``GET /api/ps``: models that need no loading, until ``expires`` (seconds since 1970)."""
    models = []
    for card in cards:
        one = {**_named(card), "expires_at": write_time(expires), "size_vram": 0}
        if card.context_length is not None:
            one["context_length"] = card.context_length
        models.append(one)
    return _encode({"models": models})


def write_version() -> bytes:
    """The answer of ``GET /api/version``."""
    return _encode({"version": API_VERSION})


def read_show(body: bytes) -> str:
    """The model that ``POST /api/show`` asks about. Raises GatewayError(INVALID_REQUEST)."""
    members = read_request(body, "'model'")
    name = members.string("model") or members.string("name")  # "name" is what older clients say
    return name or members.text("model")


def write_show(card: ModelCard) -> bytes:
    """The answer of ``POST /api/show``."""
    info: dict[str, Any] = {"general.architecture": card.family, "general.basename": card.name}
    if card.context_length is not None:
        info[f"{card.family}.context_length"] = card.context_length
    return _encode(
        {
            "modelfile": f"FROM {card.name}\n",
            "parameters": "",
            "template": "",
            "details": _details(card),
            "model_info": info,
            "capabilities": list(card.capabilities),
            "modified_at": write_time(card.modified),
        }
    )


def _named(card: ModelCard) -> dict[str, Any]:
    digest = hashlib.sha256(card.name.encode()).hexdigest()
    return {"name": card.name, "model": card.name, "size": 0, "digest": digest, "details": _details(card)}


def _details(card: ModelCard) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "",
        "family": card.family,
        "families": [card.family],
        "parameter_size": card.parameter_size,
        "quantization_level": "",
    }
