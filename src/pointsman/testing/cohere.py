"""Cohere's v2 chat API as a simulator answers it."""

import hmac
import uuid
from itertools import count
from typing import Final
from urllib.parse import unquote

import msgspec

from . import cohere_errors as errors
from .behaviour import MODEL_MARK, Behaviour
from .cohere_answer import CohereAnswer, turn_of
from .cohere_errors import CohereRefusal
from .cohere_request import Json, check, parse
from .reply import Headers, Reply, Request
from .simulated_model import speak

CHAT_PATH: Final = "/v2/chat"
MODELS_PATH: Final = "/v1/models"
EVENT_STREAM: Final = "text/event-stream"

_NAMESPACE: Final = uuid.UUID("c7b7a7c2-0f4b-4c89-9c9b-3f3d8d0d7a11")


class Cohere:
    """``POST /v2/chat``, ``GET /v1/models`` and ``GET /v1/models/{name}``.

    ``api_key``: when set, any other key gets 401. ``models``: what the list shows; with ``only_listed`` any other
    model gets 404. Models think when ``thinking`` enables it.
    """

    def __init__(
        self, *, api_key: str | None = None, models: tuple[str, ...] = ("sim-model",), only_listed: bool = False
    ) -> None:
        self._api_key = api_key
        self._models = models
        self._only_listed = only_listed
        self._numbers = count(1)

    def model_of(self, request: Request) -> str:
        """The ``model`` of a chat request's body, or an empty string."""
        try:
            model = parse(request.body).get("model")
        except CohereRefusal:
            return ""
        return model if isinstance(model, str) else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """Cohere's answer to ``request``, errors included."""
        headers = self._headers()
        path = request.path.partition("?")[0]
        try:
            self._check_key(request)
            if path == CHAT_PATH and request.method == "POST":
                return self._chat(parse(request.body), behaviour, headers)
            if request.method == "GET" and (path == MODELS_PATH or path.startswith(MODELS_PATH + "/")):
                return _json(self._list(path), headers)
        except CohereRefusal as refused:
            return errors.error_reply(refused.status, refused.message, headers)
        return errors.error_reply(404, "404 page not found", headers)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """Cohere's error for a fault that refuses."""
        return errors.refusal(fault, self.model_of(request), self._headers(), behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 whose text names the simulator's directive."""
        return errors.error_reply(400, message, self._headers())

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.header("authorization").partition(" ")
        if self._api_key is None:
            return
        if scheme.lower() != "bearer" or not key.strip():
            raise CohereRefusal("no api key supplied", 401)
        if not hmac.compare_digest(key.strip().encode(), self._api_key.encode()):
            raise CohereRefusal("invalid api token", 401)

    def _chat(self, body: Json, behaviour: Behaviour, headers: Headers) -> Reply:
        check(body)
        model = body["model"].partition(MODEL_MARK)[0]
        if self._only_listed and model not in self._models:
            raise CohereRefusal(
                f"model '{model}' not found, make sure the correct model ID was used and that you have access to the "
                "model.",
                404,
            )
        turn = turn_of(body)
        answer = CohereAnswer(self._identity(), body, speak(turn, behaviour), turn, behaviour)
        if not body.get("stream"):
            return _json(answer.whole(), headers)
        return Reply(
            status=200,
            content_type=EVENT_STREAM,
            headers=headers,
            events=answer.events(),
            failure=errors.error_object(errors.FAILURE),
            failure_event=errors.failed_end(errors.FAILURE),
        )

    def _list(self, path: str) -> Json:
        if path == MODELS_PATH:
            return {"models": [_model(name) for name in self._models]}
        name = unquote(path[len(MODELS_PATH) + 1 :])
        if name not in self._models:
            raise CohereRefusal(f"model '{name}' not found", 404)
        return _model(name)

    def _identity(self) -> str:
        return str(uuid.uuid5(_NAMESPACE, str(next(self._numbers))))

    def _headers(self) -> Headers:
        return (
            ("cache-control", "no-cache, no-store, no-transform, must-revalidate, private, max-age=0"),
            ("x-debug-trace-id", uuid.uuid5(_NAMESPACE, "trace").hex),
            ("x-endpoint-monthly-call-limit", "1000"),
            ("x-trial-endpoint-call-limit", "20"),
            ("x-trial-endpoint-call-remaining", "19"),
        )


def _model(name: str) -> Json:
    return {
        "name": name,
        "is_deprecated": False,
        "endpoints": ["chat"],
        "finetuned": False,
        "context_length": 256_000,
        "tokenizer_url": "",
        "default_endpoints": [],
        "features": ["json_mode", "json_schema", "tools", "strict_tools", "tool_choice", "vision", "reasoning"],
    }


def _json(body: Json, headers: Headers) -> Reply:
    return Reply(
        status=200,
        content_type=errors.JSON_TYPE,
        headers=headers,
        body=msgspec.json.encode(body),
        failure=errors.error_object(errors.FAILURE),
        failure_event=errors.failed_end(errors.FAILURE),
    )
