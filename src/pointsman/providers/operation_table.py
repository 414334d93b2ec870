"""Which operations beside chat a host has, and how it speaks them."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from pointsman.providers import embedding_hosts, openai_operations, retrieval_hosts
from pointsman.providers.files import FILE_HOSTS
from pointsman.providers.hosts import Host

Operations = Mapping[str, Any]  # by the dialect's OPERATION; each an `OperationFormat` of that operation's structs

_OPENAI: Final[Operations] = MappingProxyType(
    {
        "embeddings": openai_operations.EMBEDDINGS,
        "rerank": retrieval_hosts.JinaRerank(),
        **openai_operations.MEDIA,
    }
)
_BY_FORMAT: Final[Mapping[str, Operations]] = MappingProxyType(
    {
        "openai.chat": _OPENAI,
        "openai.responses": _OPENAI,
        "cohere": {"embeddings": retrieval_hosts.CohereEmbed(), "rerank": retrieval_hosts.CohereRerank()},
        "gemini": {"embeddings": embedding_hosts.GeminiEmbeddings()},
        "ollama": {"embeddings": embedding_hosts.OllamaEmbed()},
    }
)
_MISTRAL: Final[Operations] = MappingProxyType({**_OPENAI, "embeddings": retrieval_hosts.MistralEmbeddings()})
_BY_HOST: Final[Mapping[str, Operations]] = MappingProxyType(
    {
        "mistral": _MISTRAL,
        "codestral": _MISTRAL,
        "voyage": {"embeddings": retrieval_hosts.VoyageEmbeddings(), "rerank": retrieval_hosts.VoyageRerank()},
        "jina": {"embeddings": retrieval_hosts.JinaEmbeddings(), "rerank": retrieval_hosts.JinaRerank()},
    }
)
LOCAL: Final[Operations] = MappingProxyType(
    {"embeddings": openai_operations.EMBEDDINGS, "rerank": retrieval_hosts.JinaRerank()}
)


@cache
def operations_of(host: Host) -> Operations:
    """The operations of a host; empty when it has nothing but chat. ``files`` is its `FileFormat`."""
    found = _BY_HOST.get(host.id) or _BY_FORMAT.get(host.format, MappingProxyType({}))
    files = FILE_HOSTS.get(host.id)
    return found if files is None else MappingProxyType({**found, "files": files})
