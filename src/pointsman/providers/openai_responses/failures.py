"""What an upstream's errors mean: as HTTP answers, as events and in failed responses."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind

ACCOUNT_STATUSES: Final = frozenset((401, 402, 403, 407))
MAX_MESSAGE: Final = 2000
_SECONDS: Final = re.compile(rb"\d{1,9}(\.\d+)?")
_BY_STATUS: Final = MappingProxyType({404: Kind.MODEL_NOT_FOUND, 413: Kind.TOO_LARGE, 429: Kind.RATE_LIMITED})
_BY_CODE: Final = MappingProxyType(
    {
        "context_length_exceeded": Kind.CONTEXT_LENGTH,
        "content_filter": Kind.CONTENT_FILTERED,
        "content_policy_violation": Kind.CONTENT_FILTERED,
        "invalid_prompt": Kind.CONTENT_FILTERED,
        "bio_policy": Kind.CONTENT_FILTERED,
        "misalignment_policy_violation": Kind.CONTENT_FILTERED,
        "image_content_policy_violation": Kind.CONTENT_FILTERED,
        "model_not_found": Kind.MODEL_NOT_FOUND,
        "rate_limit_exceeded": Kind.RATE_LIMITED,
        "server_is_overloaded": Kind.OVERLOADED,
        "slow_down": Kind.OVERLOADED,
    }
)
_any: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client (rule 9 of docs/translation.md)."""
    waits = headers.get(b"retry-after", b"")
    retry_after = float(waits) if _SECONDS.fullmatch(waits) else None
    if status in ACCOUNT_STATUSES:
        return GatewayError(
            Kind.UPSTREAM_REJECTED,
            f"the upstream refused the gateway's account (HTTP {status}); the operator has to check this connection",
        )
    if not 400 <= status < 500:
        kind = Kind.OVERLOADED if status == 503 else Kind.UPSTREAM_ERROR
        message = f"the upstream failed (HTTP {status})"
        shown = status if status in (503, 504) else 502
        return GatewayError(kind, message, status=shown, retry_after_seconds=retry_after)
    error = _error_object(body)
    clean = error is not None and not leaks(body, secret)
    code = str(error.get("code")) if error is not None else ""
    kind = _BY_STATUS.get(status, _BY_CODE.get(code, Kind.INVALID_REQUEST))
    if status == 404 and code != "model_not_found" and error is not None and error.get("param") not in (None, "model"):
        kind = Kind.NOT_FOUND
    message = f"the upstream refused the request (HTTP {status})"
    param: str | None = None
    if clean and error is not None:
        message = str(error.get("message") or message)[:MAX_MESSAGE]
        param = error["param"] if isinstance(error.get("param"), str) else None
    return GatewayError(
        kind,
        message,
        param=param,
        status=status,
        retry_after_seconds=retry_after,
        upstream_body=body if clean else None,
    )


def failure_of(error: Any) -> GatewayError:
    """What the error object of a failed response, or an error event, means. The upstream's own failures and the
    gateway's account are told without its words; the caller's own mistakes with them.
    """
    found = error if isinstance(error, dict) else {}
    code = str(found.get("code") or found.get("type") or "")
    kind = _BY_CODE.get(code)
    if kind is None and code.startswith(("invalid_", "unsupported_", "image_", "empty_image")):
        kind = Kind.INVALID_REQUEST
    if kind is None:
        return GatewayError(Kind.UPSTREAM_ERROR, "the upstream failed while it was answering")
    if kind is Kind.OVERLOADED:
        return GatewayError(kind, "the upstream is overloaded")
    message = found.get("message")
    shown = message[:MAX_MESSAGE] if isinstance(message, str) and message else f"the upstream reported {code[:100]!r}"
    return GatewayError(kind, shown)


def leaks(body: bytes, secret: str | None) -> bool:
    """True when the body holds the credential or a tell-tale part of it (upstreams echo its ends)."""
    if not secret:
        return False
    parts = {secret} if len(secret) < 16 else {secret[:8], secret[-4:]}  # OpenAI's own mask shows four
    try:
        plain = _encode(_any.decode(body))  # without escapes that would hide it
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return True  # what can't be read can't be cleared
    return any(part.encode() in text for part in parts for text in (body, plain))


def _error_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = _any.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else None
