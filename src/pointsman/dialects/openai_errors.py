"""OpenAI's errors and limits as its dialects write them."""

from types import MappingProxyType
from typing import Final

import msgspec

from pointsman.canonical.limits import Quota, Standing
from pointsman.errors import GatewayError, Kind
from pointsman.wire.openai_chat import ErrorBody, ErrorDetail

# (type, code) of each kind, as OpenAI's own errors have them where there is one.
ERROR_TYPES: Final = MappingProxyType(
    {
        Kind.INVALID_REQUEST: ("invalid_request_error", None),
        Kind.TOO_LARGE: ("invalid_request_error", "request_too_large"),
        Kind.HEADERS_TOO_LARGE: ("invalid_request_error", "headers_too_large"),
        Kind.UNAUTHENTICATED: ("invalid_request_error", "invalid_api_key"),
        Kind.PERMISSION_DENIED: ("permission_error", "permission_denied"),
        Kind.NOT_FOUND: ("invalid_request_error", "not_found"),
        Kind.METHOD_NOT_ALLOWED: ("invalid_request_error", "method_not_allowed"),
        Kind.MODEL_NOT_FOUND: ("invalid_request_error", "model_not_found"),
        Kind.UNSUPPORTED: ("invalid_request_error", "unsupported"),
        Kind.UNSUPPORTED_ENCODING: ("invalid_request_error", "unsupported_content_encoding"),
        Kind.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
        Kind.CONTENT_FILTERED: ("invalid_request_error", "content_policy_violation"),
        Kind.PAYMENT_REQUIRED: ("insufficient_quota", "insufficient_quota"),
        Kind.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
        Kind.CLIENT_TIMEOUT: ("invalid_request_error", "request_timeout"),
        Kind.UPSTREAM_ERROR: ("upstream_error", "upstream_error"),
        Kind.UPSTREAM_REJECTED: ("upstream_error", "upstream_rejected"),
        Kind.UPSTREAM_TIMEOUT: ("upstream_error", "upstream_timeout"),
        Kind.UPSTREAM_UNAVAILABLE: ("upstream_error", "upstream_unavailable"),
        Kind.OVERLOADED: ("server_error", "overloaded"),
        Kind.NOT_READY: ("server_error", "not_ready"),
        Kind.INTERNAL: ("server_error", "internal_error"),
    }
)

_encode: Final = msgspec.json.Encoder().encode


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a JSON body in OpenAI's shape; an upstream's own 4xx answer is passed on as it came."""
    if error.upstream_body is not None:
        return error.upstream_body
    kind, code = ERROR_TYPES[error.kind]
    # Beyond OpenAI's members only where OpenAI has no words for it: that no model here can serve such a request.
    told = msgspec.UNSET if error.availability is None or error.availability["retryable"] else error.availability
    detail = ErrorDetail(message=error.message, type=kind, param=error.param, code=code, availability=told)
    return _encode(ErrorBody(error=detail))


def render_limits(standing: Standing) -> bytes:
    """Header lines, as OpenAI has them, that say how near the caller is to its limits."""
    lines = b""
    if standing.requests is not None:
        lines = _quota(b"requests", standing.requests)
    if standing.tokens is not None:
        lines += _quota(b"tokens", standing.tokens)
    return lines


def _quota(unit: bytes, quota: Quota) -> bytes:
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
        unit,
        quota.limit,
        unit,
        quota.remaining,
        unit,
        _duration(-(-quota.reset_us // 1_000_000)),
    )


def _duration(seconds: int) -> bytes:
    """As OpenAI writes it: ``6m0s``, ``1h0m5s``, ``9s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream; the OpenAI SDKs raise APIError at it."""
    body = render_error(error, request_id)
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)  # an event's data is one line
    return b"data: " + body + b"\n\n"
