"""The OpenRouter dialect: Chat Completions with its name for thoughts, and with its errors, whose codes are numbers.

Its requests are OpenAI's with more members, which `openai_chat` reads. Its answers are always written anew, for an
upstream's own need not have what OpenRouter's clients demand. Source: specs of the OpenRouter API as of 2026-11.
"""

from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.canonical.events import Started
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects import openai_chat_stream
from pointsman.dialects.openai_chat_request import read_request as read_request
from pointsman.dialects.openai_chat_response import AnswerWriter, answer_of
from pointsman.dialects.openai_errors import render_limits as render_limits
from pointsman.errors import GatewayError, Kind
from pointsman.wire.openai_chat_parts import write_usage

NAME: Final = "openrouter.chat"
WIRE: Final = "openrouter"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEP_ALIVE: Final = b": OPENROUTER PROCESSING\n\n"  # openrouter.ai/docs/api-reference/streaming
UNSAID: Final = frozenset(("stop_sequence", "quotes"))
# OpenRouter's own word for each kind (its API's ``error_type``).
ERROR_TYPES: Final = MappingProxyType(
    {
        Kind.INVALID_REQUEST: "invalid_request",
        Kind.TOO_LARGE: "payload_too_large",
        Kind.HEADERS_TOO_LARGE: "payload_too_large",
        Kind.UNAUTHENTICATED: "authentication",
        Kind.PERMISSION_DENIED: "permission_denied",
        Kind.NOT_FOUND: "not_found",
        Kind.METHOD_NOT_ALLOWED: "invalid_request",
        Kind.MODEL_NOT_FOUND: "not_found",
        Kind.UNSUPPORTED: "unprocessable",
        Kind.UNSUPPORTED_ENCODING: "invalid_request",
        Kind.CONTEXT_LENGTH: "context_length_exceeded",
        Kind.CONTENT_FILTERED: "content_policy_violation",
        Kind.PAYMENT_REQUIRED: "payment_required",
        Kind.RATE_LIMITED: "rate_limit_exceeded",
        Kind.CLIENT_TIMEOUT: "timeout",
        Kind.UPSTREAM_ERROR: "provider_unavailable",
        Kind.UPSTREAM_REJECTED: "provider_unavailable",
        Kind.UPSTREAM_TIMEOUT: "timeout",
        Kind.UPSTREAM_UNAVAILABLE: "provider_unavailable",
        Kind.OVERLOADED: "provider_overloaded",
        Kind.NOT_READY: "server",
        Kind.INTERNAL: "server",
    }
)
NANO: Final = 1_000_000_000
GENERATION: Final = "gen-"  # how ids of answers begin
PROVIDER: Final = "provider"  # the member of an answer that names who gave it
STATUSES: Final = {"temporarily_unavailable": 503, "capacity_exhausted": 429}  # by availability code
_encode: Final = msgspec.json.Encoder().encode


class _Writer(AnswerWriter):
    """Thoughts stand in ``reasoning``."""

    thought_member = "reasoning"


class StreamRenderer(openai_chat_stream.StreamRenderer):
    """Writes chunks for one client; the last one of a stream that broke holds the error."""

    writer = _Writer

    def _fail(self, error: GatewayError) -> bytes:
        return _chunk_of(error, self._identity.request_id, self._request.model, self._identity.created)

    def _begin(self, event: Started) -> None:
        """Each chunk names the provider, and the generation by which it is found again."""
        provider = _aside(self._identity).get(PROVIDER)
        extra = event.extra if provider is None else {**(event.extra or {}), PROVIDER: provider}
        super()._begin(msgspec.structs.replace(event, id=generation_id(self._identity.request_id), extra=extra))

    def _last(self) -> bytes:
        """What was used, which these clients are always told, and how the request was routed, if they ask."""
        beside = {name: value for name, value in _aside(self._identity).items() if name != PROVIDER}
        usage = self._usage
        if usage is None and not beside:
            return b""
        if not self._head:
            self._begin(Started())
        more = {"usage": write_usage(usage) | _costs(usage, self._identity)} if usage is not None else {}
        return b"%b],%b\n\n" % (self._head, _encode(more | beside)[1:])


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A chat completion; what has no place in it is noted."""
    out = answer_of(_Writer(request, fidelity, response.wire), response, request, identity)
    out["id"] = generation_id(identity.request_id)
    out.setdefault("system_fingerprint", None)  # clients demand the member
    out.update(_aside(identity))
    if response.usage is not None and isinstance(out.get("usage"), dict):
        out["usage"] |= _costs(response.usage, identity)
    return _encode(out)


def generation_id(request_id: str) -> str:
    """The id of an answer, by which its client can ask for the request's figures."""
    return f"{GENERATION}{request_id}"


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a JSON body in OpenRouter's shape: the code is the HTTP status."""
    return _encode({"error": _error(error), **(error.beside or {})})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream of which nothing has been written."""
    return _chunk_of(error, request_id, "", 0)


def status_of(error: GatewayError) -> int:
    """OpenRouter's status: 400 for a model that does not exist, 503 when every endpoint is down."""
    if error.availability is None:
        if error.kind is Kind.CONTENT_FILTERED and error.metadata is not None:
            return 403  # a guardrail of this gateway's names its rules
        return 400 if error.kind is Kind.MODEL_NOT_FOUND and error.refusal is None else error.status
    return STATUSES.get(error.availability["code"], error.status)


def _costs(usage: TokenUsage, identity: Identity) -> dict[str, Any]:
    """What is charged, in USD; where the upstream bills the caller itself, that is a fee, and its own price is told."""
    found = identity.costs(usage) if identity.costs is not None else None
    if found is None:
        return {}
    upstream = found.upstream / NANO if found.byok else None
    return {"cost": found.charged / NANO, "is_byok": found.byok, "cost_details": {"upstream_inference_cost": upstream}}


def _aside(identity: Identity) -> dict[str, Any]:
    return identity.aside() if identity.aside is not None else {}


def _error(error: GatewayError) -> dict[str, Any]:
    status = status_of(error)
    word = ERROR_TYPES[error.kind]
    if status != error.status and error.kind is not Kind.CONTENT_FILTERED:
        word = "invalid_request" if status == 400 else "provider_overloaded"
    metadata: dict[str, Any] = {"error_type": word, **(error.metadata or {})}
    if error.param is not None:
        metadata["param"] = error.param
    told: dict[str, Any] = {"code": status, "message": error.message, "metadata": metadata}
    return told if error.availability is None else {**told, "availability": error.availability}


def _chunk_of(error: GatewayError, request_id: str, model: str, created: int) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error", "logprobs": None}
    chunk = {
        "id": generation_id(request_id),
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "error": _error(error),
        "choices": [choice],
    }
    return b"data: " + _encode(chunk) + b"\n\n"
