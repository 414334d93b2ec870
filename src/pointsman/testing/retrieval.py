"""What the simulated embedding and rerank services have in common: keys, JSON bodies, paths and refusals."""

import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final

import msgspec

from .behaviour import MODEL_MARK, Behaviour
from .openai_request import Json
from .reply import Headers, Reply, Request

JSON_TYPE: Final = "application/json"
# fault: (status, the message of an upstream that has no better words)
FAULT_STATUSES: Final = {
    "unauthorized": (401, "invalid api key"),
    "rate_limit": (429, "rate limit exceeded, try again later"),
    "rate_limit_bare": (429, "rate limit exceeded, try again later"),
    "http_500": (500, "internal server error"),
    "http_503": (503, "service temporarily unavailable"),
    "bad_request": (400, "invalid request: the value of a parameter is out of range"),
    "content_filter": (400, "the input was refused for its content"),
    "no_credit": (402, "payment required: please add a payment method"),
    "quota": (429, "insufficient balance: the tokens of the account are used up"),
    "daily_quota": (429, "the requests per day are used up, try again tomorrow"),
    "model_not_found": (404, "model not found"),
    "overloaded": (503, "the model is overloaded, try again later"),
    "context_length": (400, "too many tokens: the input is longer than the model's context"),
}


class Refused(ValueError):
    """A request that the service refuses. ``body``: the whole error object, when it isn't the service's usual one."""

    def __init__(self, status: int, message: str, body: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body = body


Handler = Callable[[Json, Behaviour], Json]


class RetrievalApi(ABC):
    """A service of JSON operations. A subclass says what answers a path (``route``), and how it fails (``error``)."""

    key_header = "authorization"
    wrong_key_status = 401
    bad_body_status = 422

    def __init__(
        self, *, api_key: str | None = None, models: tuple[str, ...] = ("sim-model",), only_listed: bool = False
    ) -> None:
        """``api_key``: when set, any other gets 401. ``only_listed``: a model that isn't in ``models`` gets 404."""
        self._api_key = api_key
        self._models = models if only_listed else None
        self._numbers = count(1)
        self._run = os.urandom(8).hex()

    @abstractmethod
    def route(self, path: str) -> Handler | None:
        """What answers a POST on a path, or None."""

    @abstractmethod
    def error(self, status: int, message: str) -> Json:
        """The service's error object."""

    def headers(self) -> Headers:
        """Headers of every answer."""
        return (("x-request-id", self.serial()),)

    def serial(self) -> str:
        """A new identifier."""
        return f"{self._run}{next(self._numbers):08d}"

    def model_of(self, request: Request) -> str:
        """The ``model`` of the body, or an empty string."""
        body = _object(request.body)
        model = body.get("model") if body is not None else None
        return model if isinstance(model, str) else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """The service's answer, errors included."""
        path = request.path.partition("?")[0]
        if self._api_key is not None and not hmac.compare_digest(self._key(request).encode(), self._api_key.encode()):
            return self._refusal(Refused(self.wrong_key_status, "", self.error(401, "invalid api key")))
        handler = self.route(path)
        if handler is None:
            return self._refusal(Refused(404, f"{path} not found"))
        if request.method != "POST":
            return self._refusal(Refused(405, "Method Not Allowed"))
        model = self.model_of(request).partition(MODEL_MARK)[0]
        if self._models is not None and model not in self._models:
            return self._refusal(Refused(404, f"model '{model}' not found"))
        body = _object(request.body)
        if body is None:
            return self._refusal(Refused(self.bad_body_status, "the body is no JSON object"))
        try:
            answer = handler(body, behaviour)
        except Refused as refusal:
            return self._refusal(refusal)
        return self._reply(200, answer, self.headers())

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """The service's error for a fault that refuses."""
        status, message = FAULT_STATUSES[fault]
        headers = self.headers()
        if fault == "rate_limit":
            headers = (*headers, ("retry-after", f"{behaviour.retry_after:g}"))
        return self._reply(status, self.error(status, message), headers)

    def reject_directive(self, message: str) -> Reply:
        """400 in the service's own shape."""
        return self._reply(400, self.error(400, message), self.headers())

    def _key(self, request: Request) -> str:
        value = request.header(self.key_header)
        return value.removeprefix("Bearer ").removeprefix("bearer ").strip()

    def _refusal(self, refusal: Refused) -> Reply:
        body = refusal.body if refusal.body is not None else self.error(refusal.status, refusal.message)
        return self._reply(refusal.status, body, self.headers())

    def _reply(self, status: int, body: Json, headers: Headers) -> Reply:
        return Reply(
            status=status,
            content_type=JSON_TYPE,
            headers=headers,
            body=msgspec.json.encode(body),
            failure=msgspec.json.encode(self.error(500, "internal server error")),
        )


class ListedApi(RetrievalApi):
    """A service whose paths are all known."""

    @abstractmethod
    def handlers(self) -> Mapping[str, Handler]:
        """What answers a POST on each path."""

    def route(self, path: str) -> Handler | None:
        """From the list."""
        return self.handlers().get(path)


def texts_in(value: object, name: str, most: int) -> list[str]:
    """One text or several; Refused when it is neither, empty, or too many."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refused(400, f"invalid request: '{name}' must be a string or a list of strings")
    if len(texts) > most:
        raise Refused(400, f"invalid request: at most {most} items are allowed in '{name}', got {len(texts)}")
    return texts


def count_in(value: object, name: str, choices: tuple[int, ...] | None = None) -> int | None:
    """A whole number from 1, or one of ``choices``; None when it was not given. Refused when it is neither."""
    if value is None:
        return None
    if type(value) is not int or value < 1 or (choices is not None and value not in choices):
        listed = f"one of {', '.join(map(str, choices))}" if choices else "a positive integer"
        raise Refused(400, f"invalid request: '{name}' must be {listed}")
    return value


def choice_in(value: object, name: str, choices: tuple[str, ...], default: str) -> str:
    """One of ``choices``, or the default when it was not given. Refused when it is neither."""
    if value is None:
        return default
    if not isinstance(value, str) or value not in choices:
        raise Refused(400, f"invalid request: '{name}' must be one of {', '.join(choices)}")
    return value


def check_members(body: Json, known: frozenset[str]) -> None:
    """Refused for a member that the service doesn't know."""
    for name in body:
        if name not in known:
            raise Refused(422, f"unknown field: parameter '{name}' is not a valid field")


def tokens_told(behaviour: Behaviour, counted: int) -> int | None:
    """What usage reports; None when it is to be left out."""
    if behaviour.usage == "none":
        return None
    if behaviour.usage == "wrong":
        return -1
    return counted if behaviour.prompt_tokens is None else behaviour.prompt_tokens


def _object(body: bytes) -> Json | None:
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None
