"""The embedding operations of Mistral and Gemini as simulators answer them."""

from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import unquote

from .behaviour import Behaviour
from .openai_request import Json
from .reply import Request
from .retrieval import Handler, ListedApi, Refused, RetrievalApi, count_in, texts_in, tokens_told
from .vectors import packed, tokens_in, vector_of

MISTRAL_DIMENSIONS: Final = 1024
GEMINI_DIMENSIONS: Final = 3072
MAX_INPUTS: Final = 256
GEMINI_MAX_REQUESTS: Final = 100
GEMINI_TASKS: Final = frozenset(
    {
        "TASK_TYPE_UNSPECIFIED", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION",
        "CLUSTERING", "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY",
    }
)  # fmt: skip
_MISTRAL: Final = frozenset({"model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format"})
_GEMINI: Final = frozenset({"model", "content", "taskType", "title", "outputDimensionality"})
_STATUS_NAMES: Final = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}  # fmt: skip


class MistralEmbeddings(ListedApi):
    """Mistral's ``POST /v1/embeddings``, which refuses every member that it doesn't know with 422."""

    def handlers(self) -> Mapping[str, Handler]:
        """The one operation."""
        return {"/v1/embeddings": self._embed}

    def error(self, status: int, message: str) -> Json:
        """Mistral's error object."""
        if status == 401:
            return {"detail": "Unauthorized"}
        kind = "invalid_request_error" if status < 500 else "internal_server_error"
        return {"object": "error", "message": message, "type": kind, "param": None, "code": None}

    def _embed(self, body: Json, behaviour: Behaviour) -> Json:
        for name in body:
            if name not in _MISTRAL:
                raise self._invalid("extra_forbidden", name, "Extra inputs are not permitted")
        for name in ("model", "input"):
            if not body.get(name):
                raise self._invalid("missing", name, "Field required")
        texts = texts_in(body["input"], "input", MAX_INPUTS)
        dimensions = count_in(body.get("output_dimension"), "output_dimension") or MISTRAL_DIMENSIONS
        vectors = [vector_of(text, dimensions) for text in texts]
        encoded = body.get("encoding_format") == "base64"
        answer: Json = {
            "id": self.serial(),
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": packed(vector) if encoded else vector, "index": index}
                for index, vector in enumerate(vectors)
            ],
            "model": body["model"],
        }
        tokens = tokens_told(behaviour, tokens_in(texts))
        if tokens is not None:
            answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
        return answer

    def _invalid(self, kind: str, name: str, message: str) -> Refused:
        detail = [{"type": kind, "loc": ["body", name], "msg": message}]
        return Refused(422, message, self.error(422, message) | {"message": {"detail": detail}})


class GeminiEmbeddings(RetrievalApi):
    """Gemini's ``models/{model}:embedContent`` and ``:batchEmbedContents`` at /v1beta and /v1."""

    key_header = "x-goog-api-key"
    wrong_key_status = 400
    bad_body_status = 400

    def route(self, path: str) -> Handler | None:
        """The operation stands in the path, behind the model's name."""
        base, _, rest = path.rpartition("/models/")
        name, _, verb = rest.partition(":")
        if base not in ("/v1beta", "/v1"):
            return None
        if verb == "embedContent":
            return partial(self._one, name)
        return partial(self._batch, name) if verb == "batchEmbedContents" else None

    def model_of(self, request: Request) -> str:
        """The model in the path."""
        return unquote(request.path.rpartition("/models/")[2].partition(":")[0])

    def error(self, status: int, message: str) -> Json:
        """Google's error object."""
        if status == 401:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            message = "API key not valid. Please pass a valid API key."
            error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": [reason]}
            return {"error": error}
        return {"error": {"code": status, "message": message, "status": _STATUS_NAMES.get(status, "UNKNOWN")}}

    def _one(self, model: str, body: Json, behaviour: Behaviour) -> Json:
        text = self._text(body)
        answer: Json = {"embedding": {"values": self._values(text, body)}}
        return answer | self._usage(behaviour, [text])

    def _batch(self, model: str, body: Json, behaviour: Behaviour) -> Json:
        requests = body.get("requests")
        if set(body) != {"requests"} or not isinstance(requests, list) or not requests:
            raise Refused(400, "* BatchEmbedContentsRequest.requests: requests must not be empty\n")
        if len(requests) > GEMINI_MAX_REQUESTS:
            raise Refused(400, f"* BatchEmbedContentsRequest.requests: at most {GEMINI_MAX_REQUESTS} requests\n")
        texts = [self._text(one) for one in requests]
        for one in requests:
            if one.get("model") != f"models/{unquote(model)}":
                raise Refused(400, "* BatchEmbedContentsRequest.requests.model: must match the model in the path\n")
        values = [{"values": self._values(text, one)} for text, one in zip(texts, requests, strict=True)]
        return {"embeddings": values} | self._usage(behaviour, texts)

    def _text(self, request: Json) -> str:
        for name in request:
            if name not in _GEMINI:
                raise Refused(400, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        if request.get("taskType") is not None and request["taskType"] not in GEMINI_TASKS:
            raise Refused(400, f"Invalid value at 'task_type' (TYPE_ENUM), \"{request['taskType']}\"")
        content = request.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if not isinstance(parts, list) or not parts:
            raise Refused(400, "* EmbedContentRequest.content: contents is not specified\n")
        return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))

    def _values(self, text: str, request: Json) -> list[float]:
        dimensions = count_in(request.get("outputDimensionality"), "output_dimensionality") or GEMINI_DIMENSIONS
        return vector_of(text, dimensions)

    def _usage(self, behaviour: Behaviour, texts: list[str]) -> Json:
        tokens = tokens_told(behaviour, tokens_in(texts))
        return {} if tokens is None else {"usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens}}
