"""Anthropic's Messages and Models API as a simulator answers it: fields, headers and events as Anthropic has them."""

import hmac
import os
import re
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from urllib.parse import unquote

import msgspec

from . import anthropic_errors as errors
from .anthropic_cache import PromptCache, prompt_tokens
from .anthropic_checks import InvalidRequest, Json
from .anthropic_completion import Completion, Writer, complete, usage
from .anthropic_files import FILES_PATH, AnthropicFiles
from .anthropic_ids import block_id
from .anthropic_models import model_info, page_of
from .anthropic_request import check_rules, check_version, parse
from .anthropic_shapes import COUNT, COUNTED_MEMBERS, CREATE, CREATE_MEMBERS
from .anthropic_stream import frame, stream
from .anthropic_thinking import Signer
from .behaviour import MODEL_MARK, Behaviour
from .reply import EventKind, Headers, Reply, Request

MESSAGES_PATH: Final = "/v1/messages"
COUNT_PATH: Final = "/v1/messages/count_tokens"
MODELS_PATH: Final = "/v1/models"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"

_MOST_BYTES: Final = 32 * 1024 * 1024
_NEWEST: Final = "2026-10-21"
_VERSIONS: Final = ("2023-01-01", "2023-06-01", _NEWEST)
_BETA: Final = re.compile(r"[a-z0-9][a-z0-9-]*-(\d{8}|\d{4}-\d{2}-\d{2})")
# Members that Anthropic knows only with a beta header that begins like this.
_NEED_BETA: Final = {
    "billing_policy": ("user-profiles-billing-",),
    "compaction": ("compact-",),
    "context_management": ("context-management-", "compact-"),
    "fallback_credit_token": ("fallback-credit-",),
    "fallbacks": ("server-side-fallback-",),
    "mcp_servers": ("mcp-client-",),
    "output_format": ("structured-outputs-",),
    "thread": ("message-threads-",),
}


class AnthropicMessages:
    """``POST /v1/messages``, ``POST /v1/messages/count_tokens``, ``GET /v1/models``, ``GET /v1/models/{id}``
    and ``/v1/files``.

    ``api_key``: when set, any other key gets 401. ``models``: what the list shows; with ``only_listed`` any other
    model gets 404. ``strict``: refuse wrong requests as Anthropic does; else unknown members, a missing version or
    ``max_tokens``, wrong signatures and what is wrong between well-shaped members pass. ``signing_key``: thinking
    signed with another key is refused. ``context_tokens``: a longer prompt is refused.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("sim-model",),
        only_listed: bool = False,
        strict: bool = True,
        signing_key: bytes = b"simulated",
        context_tokens: int = 200_000,
    ) -> None:
        self._api_key = api_key
        self._models = models
        self._only_listed = only_listed
        self._strict = strict
        self._signer = Signer(signing_key)
        self._context_tokens = context_tokens
        self._cache = PromptCache()
        self.files = AnthropicFiles()
        self._numbers = count(1)
        self._run = os.urandom(12).hex()

    def model_of(self, request: Request) -> str:
        """The ``model`` of a POST request's body, or an empty string."""
        if request.method != "POST":
            return ""
        try:
            model = parse(request.body).get("model")
        except InvalidRequest:
            return ""
        return model if isinstance(model, str) else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """Anthropic's answer to ``request``, errors included."""
        headers = self._headers(behaviour)
        path, _, query = request.path.partition("?")
        methods = {MESSAGES_PATH: "POST", COUNT_PATH: "POST"}
        if path == FILES_PATH or path.startswith(FILES_PATH + "/"):
            return self._check_head(request, headers) or self.files.answer(request, headers)
        listing = path == MODELS_PATH or path.startswith(MODELS_PATH + "/")
        if path not in methods and not listing:
            return errors.error_reply(404, "Not Found", headers)
        if request.method != methods.get(path, "GET"):
            return errors.error_reply(405, "Method Not Allowed", headers)
        if refused := self._check_head(request, headers):
            return refused
        try:
            if listing:
                return self._list(path, query, headers)
            return self._messages(request, path, behaviour, headers)
        except InvalidRequest as error:
            return errors.error_reply(400, str(error), headers)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """Anthropic's error for a fault that refuses."""
        return errors.refusal(fault, self.model_of(request), self._headers(behaviour), behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 that begins with ``simulator_directive``: not Anthropic's, but visible in any client."""
        return errors.error_reply(400, f"simulator_directive: {message}", self._headers(Behaviour()))

    def _check_head(self, request: Request, headers: Headers) -> Reply | None:
        key = _key_of(request)
        if self._api_key is not None and not key:
            return errors.error_reply(401, "x-api-key header is required", headers)
        if self._api_key is not None and not hmac.compare_digest(key.encode(), self._api_key.encode()):
            problem = "invalid x-api-key" if request.header("x-api-key") else "Invalid bearer token"
            return errors.error_reply(401, problem, headers)
        version = request.header("anthropic-version")
        if self._strict and version not in _VERSIONS:
            problem = f'"{version}" is not a valid version' if version else "header is required"
            return errors.error_reply(400, f"anthropic-version: {problem}", headers)
        if len(request.body) > _MOST_BYTES:
            return errors.error_reply(413, "Request exceeds the maximum size", headers)
        return None

    def _list(self, path: str, query: str, headers: Headers) -> Reply:
        if path == MODELS_PATH:
            return _json(page_of([self._model(name) for name in self._models], query), headers)
        name = unquote(path[len(MODELS_PATH) + 1 :])
        if name.partition(MODEL_MARK)[0] not in self._models:
            return errors.unknown_model(name, headers)
        return _json(self._model(name), headers)

    def _model(self, name: str) -> Json:
        return model_info(name, self._context_tokens, self._context_tokens)

    def _messages(self, request: Request, path: str, behaviour: Behaviour, headers: Headers) -> Reply:
        body = parse(request.body)
        counting = path == COUNT_PATH
        betas = _betas(request)
        if self._strict:
            (COUNT if counting else CREATE)(body, "")
            _check_betas(body, betas)
            if request.header("anthropic-version") == _NEWEST:
                check_version(body)
            check_rules(body)
            self._signer.check(body)
        else:
            _loosen(body, counting)
            (COUNT if counting else CREATE)(body, "")
        model: str = body["model"]
        if self._only_listed and model.partition(MODEL_MARK)[0] not in self._models:
            return errors.unknown_model(model, headers)
        total = prompt_tokens(body)
        if counting:
            return _json(_counted(total, behaviour, body), headers)
        if total > self._context_tokens:
            raise InvalidRequest(f"prompt is too long: {total} tokens > {self._context_tokens} maximum")
        return self._generate(body, total, behaviour, headers)

    def _generate(self, body: Json, total: int, behaviour: Behaviour, headers: Headers) -> Reply:
        serial = self._serial()
        writer = Writer(signer=self._signer, serial=serial, room=self._context_tokens - total, behaviour=behaviour)
        made = complete(body, writer)
        message = _message(block_id("msg", serial, 0), body, made, usage(self._cache.take(body), made, behaviour))
        if not body.get("stream"):
            return _json(message, headers)
        failure = errors.server_failure(headers)
        return Reply(
            status=200,
            content_type=EVENT_STREAM,
            headers=(*headers, ("cache-control", "no-cache")),
            events=stream(message, made),
            failure=failure,
            failure_event=frame(EventKind.ERROR, "error", failure).data,
        )

    def _serial(self) -> str:
        return f"{self._run}{next(self._numbers):09d}"

    def _headers(self, behaviour: Behaviour) -> Headers:
        reset = _moment(60)
        limits = (("requests", 4000), ("input-tokens", 2_000_000), ("output-tokens", 400_000), ("tokens", 2_400_000))
        told = [
            (f"anthropic-ratelimit-{name}-{part}", value)
            for name, most in limits
            for part, value in (("limit", str(most)), ("remaining", str(most - 1)), ("reset", reset))
        ]
        return (
            *told,
            ("request-id", block_id("req", self._serial(), 0)),
            ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("x-envoy-upstream-service-time", f"{max(1, round(behaviour.first_token_ms))}"),
            ("x-robots-tag", "none"),
            ("server", "cloudflare"),
        )


def _message(identity: str, body: Json, made: Completion, used: Json | None) -> Json:
    message: Json = {
        "model": body["model"],
        "id": identity,
        "type": "message",
        "role": "assistant",
        "content": [block.whole() for block in made.blocks],
        "stop_reason": made.stop_reason,
        "stop_sequence": made.stop_sequence,
        "stop_details": made.stop_details,
    }
    if any(block.head["type"] == "code_execution_tool_result" for block in made.blocks):
        message["container"] = {"id": block_id("container", identity, 0), "expires_at": _moment(3600), "skills": None}
    if body.get("diagnostics") is not None:
        message["diagnostics"] = {"cache_miss_reason": None}
    if body.get("context_management") is not None:
        message["context_management"] = {"applied_edits": []}
    if used is not None:
        message["usage"] = used | ({"speed": body["speed"]} if body.get("speed") else {})
    return message


def _counted(total: int, behaviour: Behaviour, body: Json) -> Json:
    counted: Json = {"input_tokens": total if behaviour.prompt_tokens is None else behaviour.prompt_tokens}
    if body.get("context_management") is not None:
        counted["context_management"] = {"original_input_tokens": total}
    return counted


def _betas(request: Request) -> list[str]:
    """The names in all ``anthropic-beta`` headers; InvalidRequest for one that can be no name."""
    listed = ",".join(value for name, value in request.headers if name == "anthropic-beta")
    betas = [name for name in map(str.strip, listed.split(",")) if name]
    for name in betas:
        if not _BETA.fullmatch(name):
            raise InvalidRequest(
                f"Unexpected value(s) `{name}` for the `anthropic-beta` header. Please consult our documentation at "
                "docs.claude.com or try again without the header."
            )
    return betas


def _check_betas(body: Json, betas: list[str]) -> None:
    for name, prefixes in _NEED_BETA.items():
        if body.get(name) is not None and not any(beta.startswith(prefixes) for beta in betas):
            raise InvalidRequest(f"{name}: Extra inputs are not permitted")


def _loosen(body: Json, counting: bool) -> None:
    """Make a body out of ``body`` that passes without the members that Anthropic would refuse or miss."""
    known = COUNTED_MEMBERS if counting else CREATE_MEMBERS
    for name in [name for name in body if name not in known]:
        del body[name]
    if not counting:
        body.setdefault("max_tokens", 4096)


def _json(body: Json, headers: Headers) -> Reply:
    return Reply(
        status=200,
        content_type=errors.JSON_TYPE,
        headers=headers,
        body=msgspec.json.encode(body),
        failure=errors.server_failure(headers),
    )


def _key_of(request: Request) -> str:
    if key := request.header("x-api-key"):
        return key
    scheme, _, key = request.header("authorization").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _moment(after_s: float) -> str:
    at = datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=after_s)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
