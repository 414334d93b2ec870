"""OpenAI's Chat Completions and Models API as a simulator answers it: fields, headers and events as OpenAI has them."""

import hmac
import os
import time
from collections.abc import Iterator
from itertools import count
from typing import Final
from urllib.parse import unquote

import msgspec

from . import openai_azure as azure
from . import openai_errors as errors
from .behaviour import MODEL_MARK, Behaviour
from .openai_cache import PromptCache
from .openai_chat_stream import EVENT_STREAM, ChatStream
from .openai_completion import completions, usage
from .openai_files import FILES_PATH, OpenAIFiles
from .openai_flavours import OPENAI, Flavour
from .openai_legacy import LegacyCompletion, chat_request, check_legacy
from .openai_message import chat_completion
from .openai_request import InvalidRequest, Json, check_shape, check_values, parse
from .reply import Event, Headers, Reply, Request

CHAT_PATH: Final = "/v1/chat/completions"
MODELS_PATH: Final = "/v1/models"
COMPLETIONS_PATH: Final = "/v1/completions"

_MODELS_CREATED: Final = 1_715_367_049
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_encode = msgspec.json.encode


class OpenAIChat:
    """``POST /v1/chat/completions``, ``POST /v1/completions``, ``GET /v1/models`` and ``GET /v1/models/{id}``,
    Azure's paths for the same, and ``/v1/files``.

    ``api_key``: when set, any other key gets 401. ``models``: what the list shows; with ``only_listed`` any other
    model gets 404. ``strict``: refuse wrong requests as OpenAI does; else whatever can be understood is answered.
    ``flavour``: a host that departs from OpenAI (`pointsman.testing.openai_flavours`).
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("sim-model",),
        only_listed: bool = False,
        strict: bool = True,
        flavour: Flavour = OPENAI,
    ) -> None:
        self._api_key = api_key
        self._models = models
        self._only_listed = only_listed
        self._strict = strict
        self._flavour = flavour
        self._cache = PromptCache()
        self.files = OpenAIFiles()
        self._numbers = count(1)
        self._run = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(20))

    def model_of(self, request: Request) -> str:
        """The ``model`` of a chat request's body, or Azure's deployment, or an empty string."""
        if request.method != "POST":
            return ""
        if (deployment := azure.deployment_of(request)) is not None:
            return deployment
        try:
            model = parse(request.body).get("model")
        except InvalidRequest:
            return ""
        return model if isinstance(model, str) else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """OpenAI's answer to ``request``, errors included."""
        headers = self.headers(behaviour)
        path = request.path.partition("?")[0]
        if path.startswith(azure.PREFIX):
            return self._azure(request, behaviour, headers)
        if self._api_key is not None and (refused := self._check_key(request, headers)):
            return refused
        if path in (CHAT_PATH, COMPLETIONS_PATH):
            if request.method != "POST":
                return errors.wrong_method(request.method, path, headers)
            return (self._chat if path == CHAT_PATH else self._legacy)(request, behaviour, headers)
        if path == FILES_PATH or path.startswith(FILES_PATH + "/"):
            return self.files.answer(request, headers)
        if path == MODELS_PATH or path.startswith(MODELS_PATH + "/"):
            if request.method != "GET":
                return errors.wrong_method(request.method, path, headers)
            return self._list(path, headers)
        return errors.unknown_url(request.method, path, headers)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """OpenAI's error for a fault that refuses."""
        return errors.refusal(fault, self.model_of(request), _key_of(request), self.headers(behaviour), behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 with the code ``simulator_directive``: not OpenAI's, but visible in any client."""
        return errors.error_reply(400, message, self.headers(Behaviour()), code="simulator_directive")

    def check_request_key(self, request: Request, behaviour: Behaviour) -> Reply | None:
        """The 401 for a missing or wrong key; None when the key is right or none is demanded."""
        return None if self._api_key is None else self._check_key(request, self.headers(behaviour))

    def _check_key(self, request: Request, headers: Headers) -> Reply | None:
        key = _key_of(request)
        if not key:
            return errors.missing_key(headers)
        if not hmac.compare_digest(key.encode(), (self._api_key or "").encode()):
            return errors.incorrect_key(key, headers)
        return None

    def _list(self, path: str, headers: Headers) -> Reply:
        if path == MODELS_PATH:
            return _json({"object": "list", "data": [_model(name) for name in self._models]}, headers)
        name = unquote(path[len(MODELS_PATH) + 1 :])
        if name.partition(MODEL_MARK)[0] not in self._models:
            return errors.unknown_model(name, headers)
        return _json(_model(name), headers)

    def _azure(self, request: Request, behaviour: Behaviour, headers: Headers) -> Reply:
        refused = azure.refusal(request, self._api_key, headers)
        if refused is not None:
            return refused
        if azure.resource_of(request) == "models":
            return self._list(MODELS_PATH, headers)
        return self._chat(request, behaviour, headers, filtered=True)

    def _chat(self, request: Request, behaviour: Behaviour, headers: Headers, filtered: bool = False) -> Reply:
        try:
            body = parse(request.body)
            if (deployment := azure.deployment_of(request)) is not None:
                body["model"] = deployment
            check_shape(body)
            if self._strict:
                self._flavour.check(body)
                check_values(body)
        except InvalidRequest as refused:
            return errors.invalid(refused, headers)
        model: str = body["model"]
        if self._only_listed and model.partition(MODEL_MARK)[0] not in self._models:
            return errors.unknown_model(model, headers)
        if filtered and azure.is_blocked(body):
            return azure.blocked(headers)
        made = completions(body, behaviour, self._flavour)
        identity = {"id": f"chatcmpl-{self._serial()}", "created": int(time.time()), "model": model}
        if not behaviour.cached_tokens and (cached := self._cache.take(body)):
            behaviour = msgspec.structs.replace(behaviour, cached_tokens=cached)
        used = usage(body, made, behaviour, self._flavour)
        if body.get("stream"):
            stream = ChatStream(identity, body, made, used, self._flavour, filtered=filtered)
            return _streamed(stream.events(), headers)
        answer = chat_completion(identity, body, made, used, self._flavour)
        return _json(azure.with_filter_results(answer) if filtered else answer, headers)

    def _legacy(self, request: Request, behaviour: Behaviour, headers: Headers) -> Reply:
        try:
            body = parse(request.body)
            check_legacy(body)
        except InvalidRequest as refused:
            return errors.invalid(refused, headers)
        answer = LegacyCompletion(f"cmpl-{self._serial()}", int(time.time()), body)
        for prompt in answer.prompts:
            asked = chat_request(body, prompt)
            answer.add(completions(asked, behaviour), asked, behaviour)
        if body.get("stream"):
            return _streamed(answer.events(), headers)
        return _json(answer.whole(), headers)

    def _serial(self) -> str:
        return f"{self._run}{next(self._numbers):09d}"

    def headers(self, behaviour: Behaviour) -> Headers:
        """The headers that all of OpenAI's answers have."""
        return (
            ("access-control-expose-headers", "X-Request-ID"),
            ("openai-organization", "org-simulated"),
            ("openai-processing-ms", f"{max(1, round(behaviour.first_token_ms))}"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-remaining-tokens", "1999980"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-reset-tokens", "0s"),
            ("x-request-id", f"req_{self._serial()}"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("set-cookie", "__cf_bm=simulated; path=/; HttpOnly"),
            ("server", "cloudflare"),
        )


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": _MODELS_CREATED, "owned_by": "system"}


def _json(body: Json, headers: Headers) -> Reply:
    """A whole answer: indented by two, as OpenAI writes them."""
    formatted = msgspec.json.format(_encode(body), indent=2) + b"\n"
    return Reply(
        status=200, content_type=errors.JSON_TYPE, headers=headers, body=formatted, failure=errors.server_failure()
    )


def _streamed(events: Iterator[Event], headers: Headers) -> Reply:
    return Reply(status=200, content_type=EVENT_STREAM, headers=headers, events=events, failure=errors.server_failure())


def _key_of(request: Request) -> str:
    scheme, _, key = request.header("authorization").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
