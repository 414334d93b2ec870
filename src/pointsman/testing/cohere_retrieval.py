"""Cohere's ``/v2/embed`` and ``/v2/rerank`` as a simulator answers them."""

from collections.abc import Mapping
from typing import Final

from .behaviour import Behaviour
from .openai_request import Json
from .retrieval import Handler, ListedApi, Refused, check_members, choice_in, count_in, texts_in, tokens_told
from .vectors import packed, ranking, tokens_in, vector_of

MAX_TEXTS: Final = 96
MAX_DOCUMENTS: Final = 1000
DIMENSIONS: Final = (256, 512, 1024, 1536)
INPUT_TYPES: Final = ("search_document", "search_query", "classification", "clustering", "image")
EMBEDDING_TYPES: Final = ("float", "int8", "uint8", "binary", "ubinary", "base64")
_EMBED: Final = frozenset(
    {
        "model", "input_type", "texts", "images", "inputs", "max_tokens", "output_dimension", "embedding_types",
        "truncate", "priority",
    }
)  # fmt: skip
_RERANK: Final = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"})


class CohereRetrieval(ListedApi):
    """``POST /v2/embed`` and ``POST /v2/rerank``. ``api_key``: when set, any other key gets 401."""

    bad_body_status = 400

    def handlers(self) -> Mapping[str, Handler]:
        """The two operations."""
        return {"/v2/embed": self._embed, "/v2/rerank": self._rerank}

    def error(self, status: int, message: str) -> Json:
        """Cohere's error object."""
        return {"id": self.serial(), "message": "invalid api token" if status == 401 else message}

    def _embed(self, body: Json, behaviour: Behaviour) -> Json:
        check_members(body, _EMBED)
        if not isinstance(body.get("model"), str):
            raise Refused(400, "invalid request: model parameter is required")
        if body.get("input_type") is None:
            raise Refused(400, "invalid request: input_type parameter is required")
        choice_in(body["input_type"], "input_type", INPUT_TYPES, "")
        choice_in(body.get("truncate"), "truncate", ("NONE", "START", "END"), "END")
        texts = texts_in(body.get("texts"), "texts", MAX_TEXTS)
        wanted = body.get("embedding_types") or ["float"]
        if not isinstance(wanted, list) or any(kind not in EMBEDDING_TYPES for kind in wanted):
            raise Refused(400, f"invalid request: embedding_types must be among {', '.join(EMBEDDING_TYPES)}")
        dimensions = count_in(body.get("output_dimension"), "output_dimension", DIMENSIONS)
        vectors = [vector_of(text, dimensions or DIMENSIONS[-1]) for text in texts]
        answer: Json = {
            "id": self.serial(),
            "texts": texts,
            "embeddings": {kind: [_as_kind(vector, kind) for vector in vectors] for kind in wanted},
            "meta": {"api_version": {"version": "2"}},
            "response_type": "embeddings_by_type",
        }
        tokens = tokens_told(behaviour, tokens_in(texts))
        if tokens is not None:
            answer["meta"]["billed_units"] = {"input_tokens": tokens}
        return answer

    def _rerank(self, body: Json, behaviour: Behaviour) -> Json:
        check_members(body, _RERANK)
        for name in ("model", "query", "documents"):
            if not body.get(name):
                raise Refused(400, f"invalid request: {name} parameter is required")
        documents = texts_in(body["documents"], "documents", MAX_DOCUMENTS)
        most = count_in(body.get("top_n"), "top_n") or len(documents)
        answer: Json = {
            "id": self.serial(),
            "results": [
                {"index": index, "relevance_score": score}
                for index, score in ranking(str(body["query"]), documents)[:most]
            ],
            "meta": {"api_version": {"version": "2"}},
        }
        if behaviour.usage != "none":
            answer["meta"]["billed_units"] = {"search_units": -(-len(documents) // 100)}
        return answer


def _as_kind(vector: list[float], kind: str) -> object:
    if kind == "base64":
        return packed(vector)
    if kind == "float":
        return vector
    if kind in ("binary", "ubinary"):
        bits = [1 if value > 0 else 0 for value in vector]
        bytes_ = [int("".join(map(str, bits[start : start + 8])), 2) for start in range(0, len(bits), 8)]
        return bytes_ if kind == "ubinary" else [value - 128 for value in bytes_]
    return [round(value * 127) + (128 if kind == "uint8" else 0) for value in vector]
