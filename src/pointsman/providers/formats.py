"""Every format that upstreams speak, by the name of its wire API; each is imported when a connection first needs it."""

from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from pointsman.canonical.halves import ProviderFormat
from pointsman.errors import GatewayError, Kind

NO_CHAT: Final = "none"
_MODULES: Final = MappingProxyType(
    {
        "openai.chat": "pointsman.providers.openai_chat",
        "openai.responses": "pointsman.providers.openai_responses",
        "anthropic": "pointsman.providers.anthropic",
        "gemini": "pointsman.providers.gemini",
        "ollama": "pointsman.providers.ollama",
        "cohere": "pointsman.providers.cohere",
        "bedrock": "pointsman.providers.bedrock",
        NO_CHAT: "pointsman.providers.no_chat",
    }
)


class ModelListing(msgspec.Struct, frozen=True):
    """How an API lists its models: where, under which member, and which member names one, less its prefix."""

    path: str
    member: str
    name: str
    prefix: str = ""


_LISTINGS: Final = MappingProxyType(
    {
        "openai.chat": ModelListing("/models", "data", "id"),
        "openai.responses": ModelListing("/models", "data", "id"),
        "anthropic": ModelListing("/v1/models?limit=1000", "data", "id"),
        "gemini": ModelListing("/v1beta/models?pageSize=1000", "models", "name", "models/"),
        "ollama": ModelListing("/api/tags", "models", "name"),
        "cohere": ModelListing("/v1/models?page_size=1000&endpoint=chat", "models", "name"),
    }
)
_any: Final = msgspec.json.Decoder()


@cache
def provider_format(wire: str) -> ProviderFormat:
    """The format's half. Raises KeyError for a wire API that no upstream is known to speak."""
    return cast(ProviderFormat, import_module(_MODULES[wire]))


def listing_of(wire: str) -> ModelListing | None:
    """How upstreams of this API list their models; None where they have no such list."""
    return _LISTINGS.get(wire)


def parse_model_list(body: bytes, listing: ModelListing) -> tuple[str, ...]:
    """The model ids of a list; raises GatewayError(UPSTREAM_ERROR) when it is none."""
    try:
        rows: Any = _any.decode(body)[listing.member]
        return tuple(_name(row[listing.name]).removeprefix(listing.prefix) for row in rows)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not a list of models") from None


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
