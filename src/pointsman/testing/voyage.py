"""The embedding and rerank services of Voyage AI and Jina AI as simulators answer them: alike but for details."""

from collections.abc import Mapping
from typing import Any, Final

from .behaviour import Behaviour
from .openai_request import Json
from .retrieval import Handler, ListedApi, Refused, choice_in, count_in, texts_in, tokens_told
from .vectors import packed, ranking, tokens_in, vector_of

VOYAGE_DIMENSIONS: Final = (256, 512, 1024, 2048)
JINA_DIMENSIONS: Final = 1024
JINA_TASKS: Final = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")
MAX_INPUTS: Final = 1000
_VOYAGE_EMBED: Final = frozenset(
    {"input", "model", "input_type", "truncation", "output_dimension", "output_dtype", "encoding_format"}
)
_VOYAGE_RERANK: Final = frozenset({"query", "documents", "model", "top_k", "return_documents", "truncation"})
_JINA_EMBED: Final = frozenset(
    {"input", "model", "task", "dimensions", "embedding_type", "normalized", "late_chunking", "truncate"}
)
_JINA_RERANK: Final = frozenset({"query", "documents", "model", "top_n", "return_documents"})


class VoyageRetrieval(ListedApi):
    """Voyage's ``POST /v1/embeddings`` and ``/v1/rerank``. Wrong requests get 400 with ``detail``."""

    def handlers(self) -> Mapping[str, Handler]:
        """The two operations."""
        return {"/v1/embeddings": self._embed, "/v1/rerank": self._rerank}

    def error(self, status: int, message: str) -> Json:
        """Voyage's error object."""
        return {"detail": "Provided API key is invalid." if status == 401 else message}

    def _embed(self, body: Json, behaviour: Behaviour) -> Json:
        _check(body, _VOYAGE_EMBED, ("input", "model"))
        texts = texts_in(body["input"], "input", MAX_INPUTS)
        choice_in(body.get("input_type"), "input_type", ("query", "document"), "")
        choice_in(body.get("output_dtype"), "output_dtype", ("float", "int8", "uint8", "binary", "ubinary"), "float")
        encoding = choice_in(body.get("encoding_format"), "encoding_format", ("base64",), "float")
        dimensions = count_in(body.get("output_dimension"), "output_dimension", VOYAGE_DIMENSIONS) or 1024
        return _list(body, _data(texts, dimensions, encoding), _usage(behaviour, texts))

    def _rerank(self, body: Json, behaviour: Behaviour) -> Json:
        _check(body, _VOYAGE_RERANK, ("query", "documents", "model"))
        documents = texts_in(body["documents"], "documents", MAX_INPUTS)
        most = count_in(body.get("top_k"), "top_k") or len(documents)
        rows: list[Json] = []
        for index, score in ranking(str(body["query"]), documents)[:most]:
            row: Json = {"relevance_score": score, "index": index}
            if body.get("return_documents"):
                row["document"] = documents[index]
            rows.append(row)
        return _list(body, rows, _usage(behaviour, [str(body["query"]), *documents]))


class JinaRetrieval(ListedApi):
    """Jina's ``POST /v1/embeddings`` and ``/v1/rerank``. Wrong requests get 422 with ``detail``."""

    def handlers(self) -> Mapping[str, Handler]:
        """The two operations."""
        return {"/v1/embeddings": self._embed, "/v1/rerank": self._rerank}

    def error(self, status: int, message: str) -> Json:
        """Jina's error object."""
        return {"detail": "Invalid API key" if status == 401 else message}

    def _embed(self, body: Json, behaviour: Behaviour) -> Json:
        _check(body, _JINA_EMBED, ("input", "model"), status=422)
        value = body["input"]
        items = value if isinstance(value, list) else [value]
        texts = texts_in([item.get("text") if isinstance(item, dict) else item for item in items], "input", MAX_INPUTS)
        choice_in(body.get("task"), "task", JINA_TASKS, "")
        kinds = ("float", "base64", "binary", "ubinary")
        encoding = choice_in(body.get("embedding_type"), "embedding_type", kinds, "float")
        dimensions = count_in(body.get("dimensions"), "dimensions") or JINA_DIMENSIONS
        if dimensions > JINA_DIMENSIONS:
            raise Refused(422, f"[dimensions] Input should be less than or equal to {JINA_DIMENSIONS}")
        return _list(body, _data(texts, dimensions, encoding), _usage(behaviour, texts, with_prompt=True))

    def _rerank(self, body: Json, behaviour: Behaviour) -> Json:
        _check(body, _JINA_RERANK, ("query", "documents", "model"), status=422)
        items = body["documents"]
        if not isinstance(items, list):
            raise Refused(422, "[documents] Input should be a valid list")
        texts = [item.get("text") if isinstance(item, dict) else item for item in items]
        documents = texts_in(texts, "documents", MAX_INPUTS)
        most = count_in(body.get("top_n"), "top_n") or len(documents)
        rows: list[Json] = []
        for index, score in ranking(str(body["query"]), documents)[:most]:
            row: Json = {"index": index, "relevance_score": score}
            if body.get("return_documents") is not False:
                row["document"] = {"text": documents[index]}
            rows.append(row)
        usage = _usage(behaviour, [str(body["query"]), *documents])
        answer: Json = {"model": body["model"], "object": "list", "results": rows}
        return answer if usage is None else answer | {"usage": usage}


def _check(body: Json, known: frozenset[str], required: tuple[str, ...], status: int = 400) -> None:
    for name in body:
        if name not in known:
            raise Refused(status, f"Argument '{name}' is not supported by our API")
    for name in required:
        if not body.get(name):
            raise Refused(status, f"The request body is missing the required field '{name}'")


def _data(texts: list[str], dimensions: int, encoding: str) -> list[Json]:
    rows: list[Json] = []
    for index, text in enumerate(texts):
        vector: Any = vector_of(text, dimensions)
        embedding = packed(vector) if encoding == "base64" else vector
        rows.append({"object": "embedding", "embedding": embedding, "index": index})
    return rows


def _usage(behaviour: Behaviour, texts: list[str], with_prompt: bool = False) -> Json | None:
    tokens = tokens_told(behaviour, tokens_in(texts))
    if tokens is None:
        return None
    return {"total_tokens": tokens, "prompt_tokens": tokens} if with_prompt else {"total_tokens": tokens}


def _list(body: Json, data: list[Json], usage: Json | None) -> Json:
    answer: Json = {"object": "list", "data": data, "model": body["model"]}
    return answer if usage is None else answer | {"usage": usage}
