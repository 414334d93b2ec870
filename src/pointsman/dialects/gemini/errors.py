"""Errors in Google's shape: ``{"error": {code, message, status, details}}``."""

from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.canonical.limits import Standing
from pointsman.errors import GatewayError, Kind

# Google's status of each kind (google.rpc.Code). The HTTP status is the error's own.
STATUSES: Final = MappingProxyType(
    {
        Kind.INVALID_REQUEST: "INVALID_ARGUMENT",
        Kind.TOO_LARGE: "INVALID_ARGUMENT",
        Kind.HEADERS_TOO_LARGE: "INVALID_ARGUMENT",
        Kind.UNAUTHENTICATED: "UNAUTHENTICATED",
        Kind.PERMISSION_DENIED: "PERMISSION_DENIED",
        Kind.NOT_FOUND: "NOT_FOUND",
        Kind.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
        Kind.MODEL_NOT_FOUND: "NOT_FOUND",
        Kind.UNSUPPORTED: "INVALID_ARGUMENT",
        Kind.UNSUPPORTED_ENCODING: "INVALID_ARGUMENT",
        Kind.CONTEXT_LENGTH: "INVALID_ARGUMENT",
        Kind.CONTENT_FILTERED: "INVALID_ARGUMENT",
        Kind.PAYMENT_REQUIRED: "FAILED_PRECONDITION",
        Kind.RATE_LIMITED: "RESOURCE_EXHAUSTED",
        Kind.CLIENT_TIMEOUT: "DEADLINE_EXCEEDED",
        Kind.UPSTREAM_ERROR: "UNAVAILABLE",
        Kind.UPSTREAM_REJECTED: "FAILED_PRECONDITION",
        Kind.UPSTREAM_TIMEOUT: "DEADLINE_EXCEEDED",
        Kind.UPSTREAM_UNAVAILABLE: "UNAVAILABLE",
        Kind.OVERLOADED: "UNAVAILABLE",
        Kind.NOT_READY: "UNAVAILABLE",
        Kind.INTERNAL: "INTERNAL",
    }
)
_RPC: Final = "type.googleapis.com/google.rpc"
_DOMAIN: Final = "pointsman"

_encode: Final = msgspec.json.Encoder().encode


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a JSON body in Google's shape; an upstream's own 4xx answer is passed on as it came."""
    if error.upstream_body is not None:
        return error.upstream_body
    made: dict[str, Any] = {"code": error.status, "message": error.message, "status": STATUSES[error.kind]}
    made["details"] = _details(error, request_id)
    return _encode({"error": made})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream; Google's SDKs raise APIError at it."""
    return b"data: %b\r\n\r\n" % in_one_line(render_error(error, request_id))


def render_array_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last element of an array that has begun."""
    return b",\r\n%b\n]\n" % in_one_line(render_error(error, request_id))


def render_error_in_array(error: GatewayError, request_id: str) -> bytes:
    """The error as a whole body where an array is expected, as Google sends it."""
    body = render_error(error, request_id)
    return body if body.lstrip().startswith(b"[") else b"[%b\n]\n" % body


def render_limits(standing: Standing) -> bytes:
    """Nothing: Google's APIs have no headers for limits."""
    return b""


def in_one_line(body: bytes) -> bytes:
    """JSON without line breaks: an event's data is one line."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body


def _details(error: GatewayError, request_id: str) -> list[dict[str, Any]]:
    info = {
        "@type": f"{_RPC}.ErrorInfo",
        "reason": error.kind.value.upper(),
        "domain": _DOMAIN,
        "metadata": {"requestId": request_id},
    }
    details: list[dict[str, Any]] = [info]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_RPC}.BadRequest", "fieldViolations": [violation]})
    if error.retry_after_seconds is not None:
        details.append({"@type": f"{_RPC}.RetryInfo", "retryDelay": _duration(error.retry_after_seconds)})
    return details


def _duration(seconds: float) -> str:
    """As protobuf writes a Duration in JSON: no exponent, at most nine digits after the point."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
