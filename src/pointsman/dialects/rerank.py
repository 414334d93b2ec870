"""Reranking as clients speak it: what Cohere's, Jina's and OpenRouter's operations share, answered as a superset.

Sources: docs.cohere.com/reference/rerank, jina.ai/reranker, openrouter.ai/docs, as of 2026-11.
"""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.rerank import Document, Ranking, RerankRequest
from pointsman.dialects.openai_chat import render_error as render_error
from pointsman.dialects.openai_chat import render_limits as render_limits
from pointsman.dialects.openai_chat import render_stream_error as render_stream_error
from pointsman.dialects.openai_embeddings import read_model
from pointsman.wire.members import Members
from pointsman.wire.members import read_request as read_json

NAME: Final = "rerank"
WIRE: Final = "rerank"
OPERATION: Final = "rerank"
DEFAULT_MODEL: Final = "minilm"  # of clients for which a model is optional
MAX_DOCUMENTS: Final = 10_000

_encode: Final = msgspec.json.Encoder().encode


def read_request(body: bytes, call: ClientCall) -> RerankRequest:
    """Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    members = read_json(body, "'model', 'query' and 'documents'")
    query = members.text("query")
    if not query:
        raise members.wrong("query", "is empty")
    top_n = members.integer("top_n", 1)
    top_k = members.integer("top_k", 1)  # Voyage's name
    request = RerankRequest(
        wire=WIRE,
        model=read_model(members, call, DEFAULT_MODEL),
        query=query,
        documents=_read_documents(members),
        top_n=top_n if top_n is not None else top_k,
        with_documents=members.boolean("return_documents"),
        max_tokens_per_document=members.integer("max_tokens_per_doc", 1),
        truncate=members.boolean("truncation"),
        paths={
            "top_n": "top_n" if top_n is not None else "top_k",
            "with_documents": "return_documents",
            "max_tokens_per_document": "max_tokens_per_doc",
            "truncate": "truncation",
        },
    )
    request.extra |= members.rest() or {}
    return request


def write_response(response: Ranking, request: RerankRequest, identity: Identity, fidelity: Fidelity) -> bytes:
    """The results by relevance. Their documents are with them unless the client said no."""
    with_documents = request.with_documents is not False
    rows: list[dict[str, Any]] = []
    for ranked in response.results[: request.top_n]:
        row: dict[str, Any] = {"index": ranked.index, "relevance_score": ranked.score}
        if with_documents:
            sent = request.documents[ranked.index].sent
            row["document"] = {"text": sent} if isinstance(sent, str) else sent
        rows.append(row)
    billed = {"search_units": response.search_units if response.search_units is not None else 1}
    answer: dict[str, Any] = {
        "id": identity.derive("gen-rerank-"),
        "object": "list",
        "model": response.model or request.model,
        "results": rows,
        "meta": {"api_version": {"version": "2"}, "billed_units": billed},
    }
    if response.usage is not None:
        tokens = response.usage.input_tokens
        answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens, **billed}
    return _encode(answer)


def _read_documents(members: Members) -> list[Document]:
    items = members.items("documents")
    if items is None:
        raise members.wrong("documents", "is missing")
    if not 1 <= len(items) <= MAX_DOCUMENTS:
        raise members.wrong("documents", f"must hold 1 to {MAX_DOCUMENTS} documents")
    return [_document(members, item, number) for number, item in enumerate(items)]


def _document(members: Members, item: object, number: int) -> Document:
    if isinstance(item, str):
        return Document(item, item)
    if isinstance(item, dict) and isinstance(item.get("text"), str):
        return Document(item["text"], item)
    raise members.wrong(f"documents[{number}]", "must be a text, or an object with a 'text'")
