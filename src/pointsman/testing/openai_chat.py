"""OpenAI's Chat Completions and Models API as a simulator answers it: fields, headers and events as OpenAI has them."""

import hmac
import os
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final
from urllib.parse import unquote

import msgspec

from . import openai_errors as errors
from .behaviour import MODEL_MARK, Behaviour
from .openai_completion import Completion, completions, usage
from .openai_request import InvalidRequest, Json, check_shape, check_values, parse
from .reply import Event, EventKind, Headers, Reply, Request

CHAT_PATH: Final = "/v1/chat/completions"
MODELS_PATH: Final = "/v1/models"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"

_FINGERPRINT: Final = "fp_simulated0"
_MODELS_CREATED: Final = 1_715_367_049
# OpenAI pads events to hide the length of tokens from who watches the network.
_PADDING: Final = "aQ7mZx2LkT9bVw4R"
_DONE: Final = Event(EventKind.DONE, b"data: [DONE]\n\n")
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_encode = msgspec.json.encode


class OpenAIChat:
    """``POST /v1/chat/completions``, ``GET /v1/models`` and ``GET /v1/models/{id}``.

    ``api_key``: when set, any other key gets 401. ``models``: what the list shows; with ``only_listed`` any other
    model gets 404. ``strict``: refuse wrong requests as OpenAI does; else whatever can be understood is answered.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("sim-model",),
        only_listed: bool = False,
        strict: bool = True,
    ) -> None:
        self._api_key = api_key
        self._models = models
        self._only_listed = only_listed
        self._strict = strict
        self._numbers = count(1)
        self._run = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(20))

    def model_of(self, request: Request) -> str:
        """The ``model`` of a chat request's body, or an empty string."""
        if request.method != "POST":
            return ""
        try:
            model = parse(request.body).get("model")
        except InvalidRequest:
            return ""
        return model if isinstance(model, str) else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """OpenAI's answer to ``request``, errors included."""
        headers = self.headers(behaviour)
        path = request.path.partition("?")[0]
        if self._api_key is not None and (refused := self._check_key(request, headers)):
            return refused
        if path == CHAT_PATH:
            if request.method != "POST":
                return errors.wrong_method(request.method, path, headers)
            return self._chat(request, behaviour, headers)
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

    def _chat(self, request: Request, behaviour: Behaviour, headers: Headers) -> Reply:
        try:
            body = parse(request.body)
            check_shape(body)
            if self._strict:
                check_values(body)
        except InvalidRequest as refused:
            return errors.error_reply(400, refused.message, headers, param=refused.param, code=refused.code)
        model: str = body["model"]
        if self._only_listed and model.partition(MODEL_MARK)[0] not in self._models:
            return errors.unknown_model(model, headers)
        made = completions(body, behaviour)
        identity = {"id": f"chatcmpl-{self._serial()}", "created": int(time.time()), "model": model}
        if body.get("stream"):
            stream = ChatStream(identity, body, made, behaviour)
            return Reply(
                status=200,
                content_type=EVENT_STREAM,
                headers=headers,
                events=stream.events(),
                failure=errors.server_failure(),
            )
        return _json(_chat_completion(identity, body, made, usage(body, made, behaviour)), headers)

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


class ChatStream:
    """The events of one streamed answer, made one at a time as they are sent."""

    def __init__(
        self, identity: Mapping[str, object], body: Json, made: list[Completion], behaviour: Behaviour
    ) -> None:
        options = body.get("stream_options") or {}
        self._body = body
        self._made = made
        self._usage = usage(body, made, behaviour) if options.get("include_usage") else None
        self._padded = options.get("include_obfuscation") is not False
        self._usage_member = b',"usage":null' if options.get("include_usage") else b""
        head = {
            "id": identity["id"],
            "object": "chat.completion.chunk",
            "created": identity["created"],
            "model": identity["model"],
            "service_tier": _tier(body),
            "system_fingerprint": _FINGERPRINT,
        }
        self._head = b'data: %b,"choices":[' % _encode(head)[:-1]

    def events(self) -> Iterator[Event]:
        """All events: the choices in turn, then usage when it was asked for, then ``[DONE]``."""
        choices = [self._choice(index, one) for index, one in enumerate(self._made)]
        while choices:
            for choice in tuple(choices):
                event = next(choice, None)
                if event is None:
                    choices.remove(choice)
                else:
                    yield event
        if self._usage is not None:
            yield Event(
                EventKind.USAGE, b'%b],"usage":%b%b}\n\n' % (self._head, _encode(self._usage), self._padding(b""))
            )
        yield _DONE

    def _choice(self, index: int, made: Completion) -> Iterator[Event]:
        if made.calls:
            yield from self._calls(index, made)
        else:
            yield self._event(index, {"role": "assistant", "content": "", "refusal": None}, EventKind.START)
            for token in made.words:
                yield self._event(index, {"content": token}, logprobs=_logprobs(self._body, (token,)))
        yield self._event(index, {}, EventKind.FINISH, made.finish_reason)

    def _calls(self, index: int, made: Completion) -> Iterator[Event]:
        role: Json = {"role": "assistant", "content": None}
        if len(made.calls) > 1:
            yield self._event(index, role, EventKind.START)
            role = {}
        for position, call in enumerate(made.calls):
            start = {
                "index": position,
                "id": _call_id(self._head, index, position),
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }
            opening = {**role, "tool_calls": [start]}
            if role:
                opening["refusal"] = None
            yield self._event(index, opening, EventKind.START if role else EventKind.DELTA)
            for fragment in call.fragments():
                yield self._event(index, {"tool_calls": [{"index": position, "function": {"arguments": fragment}}]})

    def _event(
        self,
        index: int,
        delta: Json,
        kind: EventKind = EventKind.DELTA,
        finish_reason: str | None = None,
        logprobs: Json | None = None,
    ) -> Event:
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (
            index,
            encoded := _encode(delta),
            b"null" if logprobs is None else _encode(logprobs),
            b"null" if finish_reason is None else b'"%b"' % finish_reason.encode(),
        )
        return Event(kind, b"%b%b]%b%b}\n\n" % (self._head, choice, self._usage_member, self._padding(encoded)))

    def _padding(self, delta: bytes) -> bytes:
        if not self._padded:
            return b""
        return b',"obfuscation":"%b"' % _PADDING[len(delta) % len(_PADDING) :].encode()


def _chat_completion(identity: Mapping[str, object], body: Json, made: list[Completion], used: Json | None) -> Json:
    answer: Json = {
        "id": identity["id"],
        "object": "chat.completion",
        "created": identity["created"],
        "model": identity["model"],
        "choices": [_whole_choice(str(identity["id"]), body, index, one) for index, one in enumerate(made)],
    }
    if used is not None:
        answer["usage"] = used
    answer["service_tier"] = _tier(body)
    answer["system_fingerprint"] = _FINGERPRINT
    return answer


def _whole_choice(identity: str, body: Json, index: int, made: Completion) -> Json:
    message: Json = {"role": "assistant", "content": None if made.calls else "".join(made.words)}
    if made.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(identity.encode(), index, position),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for position, call in enumerate(made.calls)
        ]
    message["refusal"] = None
    message["annotations"] = []
    logprobs = None if made.calls else _logprobs(body, tuple(made.words) if body.get("logprobs") else ())
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": made.finish_reason}


def _logprobs(body: Json, tokens: tuple[str, ...]) -> Json | None:
    """Log probabilities of ``tokens`` when the request asks for them: the longer the token, the less likely."""
    if not body.get("logprobs"):
        return None
    wanted = body.get("top_logprobs") or 0
    return {
        "content": [{**_logprob(token, 0), "top_logprobs": _alternatives(token, wanted)} for token in tokens],
        "refusal": None,
    }


def _alternatives(token: str, wanted: int) -> list[Json]:
    return [_logprob(token if rank == 0 else f"{token}{rank}", rank) for rank in range(wanted)]


def _logprob(token: str, rank: int) -> Json:
    return {"token": token, "logprob": -0.01 * len(token) - rank, "bytes": list(token.encode())}


def _call_id(seed: bytes, choice: int, position: int) -> str:
    """OpenAI's form of a call id; the same call has the same id in every event of an answer."""
    digest = hmac.digest(seed, b"%d %d" % (choice, position), "sha256")
    return "call_" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:24])


def _tier(body: Json) -> str:
    wanted = body.get("service_tier")
    return {"fast": "priority", "auto": "default", None: "default"}.get(wanted, wanted) or "default"


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": _MODELS_CREATED, "owned_by": "system"}


def _json(body: Json, headers: Headers) -> Reply:
    """A whole answer: indented by two, as OpenAI writes them."""
    formatted = msgspec.json.format(_encode(body), indent=2) + b"\n"
    return Reply(
        status=200, content_type=errors.JSON_TYPE, headers=headers, body=formatted, failure=errors.server_failure()
    )


def _key_of(request: Request) -> str:
    scheme, _, key = request.header("authorization").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
