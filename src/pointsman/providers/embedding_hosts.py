"""Embeddings at Gemini and Ollama.

Sources: ai.google.dev/api/embeddings, docs.ollama.com/api/embed, as of 2026-11.
"""

from typing import Any, Final

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings, Purpose
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.passed import PassedAnswer
from pointsman.providers.azure_openai import quoted
from pointsman.providers.operations import (
    JSON_HEADERS,
    check_vectors,
    encode,
    note_unsent,
    parse_error,
    texts_of,
    usage_of,
)
from pointsman.wire.bodies import with_model
from pointsman.wire.members import read_answer
from pointsman.wire.ollama import WIRE as OLLAMA

_GEMINI_PURPOSES: Final[dict[Purpose, str]] = {
    "query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
    "similarity": "SEMANTIC_SIMILARITY",
    "code_query": "CODE_RETRIEVAL_QUERY",
    "question": "QUESTION_ANSWERING",
    "fact": "FACT_VERIFICATION",
}


class GeminiEmbeddings:
    """``models/{model}:batchEmbedContents``, with one text as well as with many."""

    WIRE: str | None = None
    most_inputs: int | None = 100
    parse_error = staticmethod(parse_error)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """One request per text, each with the model's name again."""
        model = upstream.model.removeprefix("models/")
        shared: dict[str, Any] = {"model": f"models/{model}"}
        if request.purpose is not None:
            shared["taskType"] = _GEMINI_PURPOSES[request.purpose]
        if request.dimensions is not None:
            shared["outputDimensionality"] = request.dimensions
        requests = [{**shared, "content": {"parts": [{"text": text}]}} for text in texts_of(request, "Gemini")]
        note_unsent(request, fidelity, "Gemini", ("purpose", "dimensions"))
        path = f"/v1beta/models/{quoted(model)}:batchEmbedContents"
        return Built(path=path, body=encode({"requests": requests}), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """Vectors in the order of the requests; usage where the model tells it."""
        members = read_answer(body, "list of embeddings")
        vectors = [row.raw("values") for row in members.objects("embeddings")]
        usage = members.object("usageMetadata")
        tokens = usage.raw("promptTokenCount") if usage is not None else None
        return Embeddings(vectors=check_vectors(vectors, len(request.inputs)), usage=usage_of(tokens))


class OllamaEmbed:
    """``POST /api/embed``."""

    WIRE: str | None = OLLAMA
    most_inputs: int | None = None
    parse_error = staticmethod(parse_error)

    def patch_request(self, body: bytes, request: EmbeddingRequest, upstream: Upstream) -> Built:
        """The client's own body with nothing changed but the model. Raises GatewayError when it is no JSON object."""
        return Built(path="/api/embed", body=with_model(body, upstream.model), headers=JSON_HEADERS)

    def read_answer(self, body: bytes, request: EmbeddingRequest) -> PassedAnswer:
        """What an answer that is passed on tells of itself. Raises GatewayError(UPSTREAM_ERROR) when it isn't whole."""
        response = self.parse_response(body, request)
        return PassedAnswer(model=response.model, usage=response.usage)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """Texts and dimensions; the purpose has no place."""
        body: dict[str, Any] = {"model": upstream.model, "input": texts_of(request, "Ollama")}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.truncate is not None:
            body["truncate"] = request.truncate
        note_unsent(request, fidelity, "Ollama", ("dimensions", "truncate"))
        return Built(path="/api/embed", body=encode(body), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """A list of vectors, and how many tokens were read."""
        members = read_answer(body, "list of embeddings")
        return Embeddings(
            vectors=check_vectors(members.items("embeddings") or [], len(request.inputs)),
            model=members.string("model"),
            usage=usage_of(members.raw("prompt_eval_count")),
        )
