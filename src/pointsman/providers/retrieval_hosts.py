"""Embeddings and reranking at Cohere, Voyage AI, Jina AI and Mistral.

Sources: docs.cohere.com/reference (v2), docs.voyageai.com/reference, api.jina.ai, docs.mistral.ai/api, as of 2026-11.
"""

from typing import Any, Final

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings, Purpose
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.rerank import Ranking, RerankRequest
from pointsman.providers.operations import (
    JSON_HEADERS,
    check_vectors,
    encode,
    note_unsent,
    parse_error,
    rank_rows,
    texts_of,
    usage_of,
    vector_rows,
)
from pointsman.wire.members import Members, read_answer, wrong_answer

_COHERE_PURPOSES: Final[dict[Purpose, str]] = {
    "query": "search_query",
    "document": "search_document",
    "classification": "classification",
    "clustering": "clustering",
}
_VOYAGE_PURPOSES: Final[dict[Purpose, str]] = {"query": "query", "document": "document"}
_JINA_PURPOSES: Final[dict[Purpose, str]] = {
    "query": "retrieval.query",
    "document": "retrieval.passage",
    "classification": "classification",
    "clustering": "separation",
    "similarity": "text-matching",
}


class CohereEmbed:
    """``POST /v2/embed``."""

    WIRE: str | None = None
    most_inputs: int | None = 96
    parse_error = staticmethod(parse_error)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """Cohere demands an ``input_type``; without the client's word texts are documents."""
        body: dict[str, Any] = {"model": upstream.model, "texts": texts_of(request, "Cohere")}
        body["input_type"] = _purpose(request, fidelity, _COHERE_PURPOSES, "Cohere")
        if body["input_type"] is None:
            body["input_type"] = "search_document"
            if request.purpose is None:
                fidelity.synthesised("input_type", "Cohere demands one: search_document")
        body["embedding_types"] = ["base64" if request.encoding == "base64" else "float"]
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        if request.truncate is not None:
            body["truncate"] = "END" if request.truncate else "NONE"
        note_unsent(request, fidelity, "Cohere", ("purpose", "truncate", "dimensions"))
        return Built(path="/v2/embed", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """The vectors of the one kind that was asked for."""
        members = read_answer(body, "list of embeddings")
        kinds = members.object("embeddings")
        if kinds is None:
            raise wrong_answer("embeddings", "is missing")
        vectors = kinds.items("base64" if request.encoding == "base64" else "float") or []
        return Embeddings(
            vectors=check_vectors(vectors, len(request.inputs)), usage=usage_of(_billed(members, "input_tokens"))
        )


class CohereRerank:
    """``POST /v2/rerank``."""

    WIRE: str | None = None
    most_inputs: int | None = None
    parse_error = staticmethod(parse_error)

    def build_request(self, request: RerankRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """Documents go as texts; the gateway puts them back into the answer."""
        body: dict[str, Any] = {
            "model": upstream.model,
            "query": request.query,
            "documents": [document.text for document in request.documents],
        }
        if request.top_n is not None:
            body["top_n"] = request.top_n
        if request.max_tokens_per_document is not None:
            body["max_tokens_per_doc"] = request.max_tokens_per_document
        note_unsent(request, fidelity, "Cohere", ("max_tokens_per_document",))
        return Built(path="/v2/rerank", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: RerankRequest) -> Ranking:
        """Cohere bills searches, not tokens."""
        members = read_answer(body, "ranking")
        results = rank_rows(members.objects("results"), len(request.documents))
        units = _billed(members, "search_units")
        count = int(units) if isinstance(units, int | float) and 0 <= units < 2**31 else None
        return Ranking(results=results, search_units=count)


class VoyageEmbeddings:
    """``POST /embeddings``, nearly OpenAI's."""

    WIRE: str | None = None
    most_inputs: int | None = 1000
    parse_error = staticmethod(parse_error)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """Other names for dimensions, and base64 or nothing."""
        body: dict[str, Any] = {"model": upstream.model, "input": texts_of(request, "Voyage AI")}
        purpose = _purpose(request, fidelity, _VOYAGE_PURPOSES, "Voyage AI")
        if purpose is not None:
            body["input_type"] = purpose
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        if request.encoding == "base64":
            body["encoding_format"] = "base64"
        if request.truncate is not None:
            body["truncation"] = request.truncate
        note_unsent(request, fidelity, "Voyage AI", ("purpose", "truncate", "dimensions"))
        return Built(path="/embeddings", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """Usage is ``total_tokens`` alone."""
        return _openai_like(body, request)


class VoyageRerank:
    """``POST /rerank``."""

    WIRE: str | None = None
    most_inputs: int | None = None
    parse_error = staticmethod(parse_error)

    def build_request(self, request: RerankRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """``top_k``, and no documents in the answer: the gateway has them."""
        body: dict[str, Any] = {
            "model": upstream.model,
            "query": request.query,
            "documents": [document.text for document in request.documents],
        }
        if request.top_n is not None:
            body["top_k"] = request.top_n
        if request.truncate is not None:
            body["truncation"] = request.truncate
        note_unsent(request, fidelity, "Voyage AI", ("truncate",))
        return Built(path="/rerank", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: RerankRequest) -> Ranking:
        """The results are called ``data``."""
        return _ranking(body, request, "data")


class JinaEmbeddings:
    """``POST /embeddings``; what it doesn't know it refuses."""

    WIRE: str | None = None
    most_inputs: int | None = 512
    parse_error = staticmethod(parse_error)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """``task`` and ``embedding_type`` in place of ``input_type`` and ``encoding_format``."""
        body: dict[str, Any] = {"model": upstream.model, "input": texts_of(request, "Jina AI")}
        purpose = _purpose(request, fidelity, _JINA_PURPOSES, "Jina AI")
        if purpose is not None:
            body["task"] = purpose
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.encoding == "base64":
            body["embedding_type"] = "base64"
        if request.truncate is not None:
            body["truncate"] = request.truncate
        note_unsent(request, fidelity, "Jina AI", ("purpose", "truncate", "dimensions"))
        return Built(path="/embeddings", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """OpenAI's shape."""
        return _openai_like(body, request)


class JinaRerank:
    """``POST /rerank`` as Jina has it, and with it vLLM, llama.cpp and most hosts that took it over."""

    WIRE: str | None = None
    most_inputs: int | None = None
    parse_error = staticmethod(parse_error)

    def build_request(self, request: RerankRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """No documents in the answer: the gateway has them."""
        body: dict[str, Any] = {
            "model": upstream.model,
            "query": request.query,
            "documents": [document.text for document in request.documents],
            "return_documents": False,
        }
        if request.top_n is not None:
            body["top_n"] = request.top_n
        note_unsent(request, fidelity, "Jina's rerank API", ())
        return Built(path="/rerank", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: RerankRequest) -> Ranking:
        """Results with their scores."""
        return _ranking(body, request, "results")


class MistralEmbeddings:
    """``POST /embeddings``; 422 for every member that Mistral doesn't know."""

    WIRE: str | None = None
    most_inputs: int | None = 256
    parse_error = staticmethod(parse_error)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """``output_dimension`` in place of ``dimensions``; no purpose and no user."""
        body: dict[str, Any] = {"model": upstream.model, "input": texts_of(request, "Mistral")}
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        if request.encoding is not None:
            body["encoding_format"] = request.encoding
        note_unsent(request, fidelity, "Mistral", ("dimensions",))
        return Built(path="/embeddings", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """OpenAI's shape."""
        return _openai_like(body, request)


def _purpose(request: EmbeddingRequest, fidelity: Fidelity, words: dict[Purpose, str], api: str) -> str | None:
    """The API's word for the purpose; one that it lacks is noted. Queries of other kinds count as queries."""
    purpose = request.purpose
    if purpose is None:
        return None
    word = words.get(purpose)
    if word is not None:
        return word
    if purpose in ("code_query", "question", "fact"):
        fidelity.approximated(request.path("purpose"), f"{api} knows it as {words['query']}")
        return words["query"]
    fidelity.dropped(request.path("purpose"), f"{api} has no such purpose")
    return None


def _openai_like(body: bytes, request: EmbeddingRequest) -> Embeddings:
    members = read_answer(body, "list of embeddings")
    usage = members.object("usage")
    tokens = None
    if usage is not None:
        tokens = usage.raw("prompt_tokens") if "prompt_tokens" in usage else usage.raw("total_tokens")
    return Embeddings(
        vectors=vector_rows(members, "data", len(request.inputs)), model=members.string("model"), usage=usage_of(tokens)
    )


def _ranking(body: bytes, request: RerankRequest, name: str) -> Ranking:
    members = read_answer(body, "ranking")
    if name not in members:
        raise wrong_answer(name, "is missing")
    usage = members.object("usage")
    return Ranking(
        results=rank_rows(members.objects(name), len(request.documents)),
        model=members.string("model"),
        usage=usage_of(usage.raw("total_tokens")) if usage is not None else None,
    )


def _billed(members: Members, unit: str) -> object:
    meta = members.raw("meta")
    billed = meta.get("billed_units") if isinstance(meta, dict) else None
    return billed.get(unit) if isinstance(billed, dict) else None
