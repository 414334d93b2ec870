"""Errors in Anthropic's shape, and where a caller stands with its limits."""

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import msgspec

from pointsman.canonical.limits import Quota, Standing
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import encode_event

# The error.type of each kind: platform.claude.com/docs/en/api/errors.
ERROR_TYPES: Final = MappingProxyType(
    {
        Kind.INVALID_REQUEST: "invalid_request_error",
        Kind.TOO_LARGE: "request_too_large",
        Kind.HEADERS_TOO_LARGE: "request_too_large",
        Kind.UNAUTHENTICATED: "authentication_error",
        Kind.PERMISSION_DENIED: "permission_error",
        Kind.NOT_FOUND: "not_found_error",
        Kind.METHOD_NOT_ALLOWED: "invalid_request_error",
        Kind.MODEL_NOT_FOUND: "not_found_error",
        Kind.UNSUPPORTED: "invalid_request_error",
        Kind.UNSUPPORTED_ENCODING: "invalid_request_error",
        Kind.CONTEXT_LENGTH: "invalid_request_error",
        Kind.CONTENT_FILTERED: "invalid_request_error",
        Kind.PAYMENT_REQUIRED: "billing_error",
        Kind.RATE_LIMITED: "rate_limit_error",
        Kind.CLIENT_TIMEOUT: "timeout_error",
        Kind.UPSTREAM_ERROR: "api_error",
        Kind.UPSTREAM_REJECTED: "api_error",
        Kind.UPSTREAM_TIMEOUT: "timeout_error",
        Kind.UPSTREAM_UNAVAILABLE: "api_error",
        Kind.OVERLOADED: "overloaded_error",
        Kind.NOT_READY: "overloaded_error",
        Kind.INTERNAL: "api_error",
    }
)

# Its own status for those whose type is "overloaded_error"; its SDKs have a class of error for it.
OVERLOADED_STATUS: Final = 529
_encode: Final = msgspec.json.Encoder().encode


def status_of(error: GatewayError) -> int:
    """The HTTP status that Anthropic's API has for an error."""
    return OVERLOADED_STATUS if ERROR_TYPES[error.kind] == "overloaded_error" else error.status


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a JSON body; an upstream's own 4xx answer is passed on as it came."""
    if error.upstream_body is not None:
        return error.upstream_body
    told = {"type": ERROR_TYPES[error.kind], "message": error.message}
    return _encode({"type": "error", "error": told, "request_id": request_id, **(error.beside or {})})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream; Anthropic's SDKs raise APIStatusError at it."""
    body = render_error(error, request_id)
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)  # an event's data is one line
    return encode_event(body, "error")


def render_limits(standing: Standing) -> bytes:
    """Header lines as Anthropic has them: platform.claude.com/docs/en/api/rate-limits."""
    lines = b""
    if standing.requests is not None:
        lines = _quota(b"requests", standing.requests, standing.at_us)
    if standing.tokens is not None:
        lines += _quota(b"tokens", standing.tokens, standing.at_us)
    return lines


def _quota(unit: bytes, quota: Quota, now_us: int) -> bytes:
    name = b"anthropic-ratelimit-" + unit
    seconds = -(-(now_us + quota.reset_us) // 1_000_000)  # the sum is rounded: a time that is told is never too early
    reset = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return b"%b-limit: %d\r\n%b-remaining: %d\r\n%b-reset: %b\r\n" % (
        name, quota.limit, name, quota.remaining, name, reset
    )  # fmt: skip


def request_lines(request_id: str) -> bytes:
    """The header line with which Anthropic names a request."""
    return b"request-id: %b\r\n" % request_id.encode()
