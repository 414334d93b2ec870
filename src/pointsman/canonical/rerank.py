"""Reranking in our own words: a query and documents in, the documents by relevance out."""

from typing import Any

import msgspec

from pointsman.canonical.usage import TokenUsage


class Document(msgspec.Struct, frozen=True):
    """A document's text, and the whole of it as the client sent it."""

    text: str
    sent: Any


class RerankRequest(msgspec.Struct, kw_only=True):
    """Documents to put in order. ``top_n``: how many to give back; ``with_documents``: whether with their content."""

    wire: str
    model: str
    query: str
    documents: list[Document]
    top_n: int | None = None
    with_documents: bool | None = None
    max_tokens_per_document: int | None = None
    truncate: bool | None = None
    paths: dict[str, str] = {}
    extra: dict[str, Any] = {}

    @property
    def stream(self) -> bool:
        """A ranking is never streamed."""
        return False

    def path(self, option: str) -> str:
        """The client's own name of a member."""
        return self.paths.get(option, option)


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """One document by its index in the request, and how relevant it is."""

    index: int
    score: float


class Ranking(msgspec.Struct, kw_only=True):
    """Documents, the most relevant first. ``search_units``: what Cohere bills."""

    results: list[Ranked]
    model: str | None = None
    usage: TokenUsage | None = None
    search_units: int | None = None
