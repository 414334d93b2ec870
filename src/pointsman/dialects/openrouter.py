"""The OpenRouter dialect: Chat Completions with its name for thoughts, and with its errors, whose codes are numbers.

Its requests are OpenAI's with more members, which `openai_chat` reads. Its answers are always written anew, for an
upstream's own need not have what OpenRouter's clients demand. Source: specs of the OpenRouter API as of 2026-11.
"""

from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.dialects import openai_chat_stream
from pointsman.dialects.openai_chat_request import read_request as read_request
from pointsman.dialects.openai_chat_response import AnswerWriter, answer_of
from pointsman.dialects.openai_errors import render_limits as render_limits
from pointsman.errors import GatewayError, Kind

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
_encode: Final = msgspec.json.Encoder().encode


class _Writer(AnswerWriter):
    """Thoughts stand in ``reasoning``."""

    thought_member = "reasoning"


class StreamRenderer(openai_chat_stream.StreamRenderer):
    """Writes chunks for one client; the last one of a stream that broke holds the error."""

    writer = _Writer

    def _fail(self, error: GatewayError) -> bytes:
        return _chunk_of(error, self._identity.request_id, self._request.model, self._identity.created)


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A chat completion; what has no place in it is noted."""
    out = answer_of(_Writer(request, fidelity, response.wire), response, request, identity)
    out.setdefault("system_fingerprint", None)  # clients demand the member
    return _encode(out)


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a JSON body in OpenRouter's shape: the code is the HTTP status."""
    return _encode({"error": _error(error)})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream of which nothing has been written."""
    return _chunk_of(error, request_id, "", 0)


def _error(error: GatewayError) -> dict[str, Any]:
    metadata: dict[str, Any] = {"error_type": ERROR_TYPES[error.kind]}
    if error.param is not None:
        metadata["param"] = error.param
    return {"code": error.status, "message": error.message, "metadata": metadata}


def _chunk_of(error: GatewayError, request_id: str, model: str, created: int) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error", "logprobs": None}
    chunk = {
        "id": f"gen-{request_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "error": _error(error),
        "choices": [choice],
    }
    return b"data: " + _encode(chunk) + b"\n\n"
