"""Which host of our table, or which provider node, a ``provider`` of the contract means."""

from typing import Final

from pointsman.errors import ConfigError
from pointsman.providers.hosts import find_host
from pointsman.upstream.declared import LOCAL_KIND, NewConnection
from pointsman.upstream.provider_nodes import ANTHROPIC, OPENAI, ProviderNodeService, connection_fields, trimmed

NODE_IDS: Final = (f"{OPENAI}-", f"{ANTHROPIC}-")
# Hosts that the contract's clients call otherwise than our table does.
_KINDS: Final = {
    ANTHROPIC: "anthropic",
    "alicode": "alibaba-coding-cn",
    "alicode-intl": "alibaba-coding",
    "cloudflare-ai": "cloudflare",
    "featherless-ai": "featherless",
    "friendliai": "friendli",
    "glm": "zai-anthropic",
    "glm-cn": "zhipu-coding",
    "kilo-gateway": "kilo",
    "kimi": "moonshot",
    "lambda-ai": "lambda",
    "nous-research": "nous",
    "ollama-local": "ollama",
    "v0-vercel": "v0",
    "vercel-ai-gateway": "vercel",
}


def is_node(provider: str) -> bool:
    """Whether it is a provider node's id."""
    return provider.startswith(NODE_IDS)


async def base_of(nodes: ProviderNodeService, provider: str, address: str | None) -> NewConnection:
    """A connection of that provider at ``address``, else at the provider's own; all else is still to be said.

    Raises ConfigError that names the field at fault, UnknownNodeError.
    """
    if is_node(provider):
        return NewConnection(id="new", **connection_fields(await nodes.find(provider), {}))
    kind = _KINDS.get(provider, provider)
    if kind == LOCAL_KIND:
        raise ConfigError("connection.kind: the embedded model is there without being added")
    if provider == ANTHROPIC and address is None:
        raise ConfigError("connection.base_url: is missing")
    host = find_host(kind, "connection")
    return NewConnection(id="new", kind=kind, base_url=trimmed(address, host.format) if address is not None else None)
