"""Google's errors: what an answer that isn't 200 means to the client."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind

_ACCOUNT: Final = frozenset((401, 402, 403, 407))
# Reasons of a 400 that are about the gateway's key or place, not the caller's request.
_ACCOUNT_REASONS: Final = frozenset(
    {"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "BILLING_DISABLED"}
)
_PLACES: Final = ("User location is not supported", "Gemini API free tier is not available")
_TOO_LONG: Final = re.compile(r"exceeds the maximum number of tokens|input context is too long|token count .* exceeds")
_SECONDS: Final = re.compile(r"^(\d{1,9}(?:\.\d+)?)s?$")
_STATUS: Final = {404: Kind.MODEL_NOT_FOUND, 413: Kind.TOO_LARGE, 429: Kind.RATE_LIMITED}
_MAX_MESSAGE: Final = 2000

_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
Json = dict[str, Any]


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None = None) -> GatewayError:
    """The error in our own words: the caller's mistakes keep the upstream's, the account's and its failures don't."""
    error = _error_in(body)
    retry_after = _retry_after(headers, error)
    if status in _ACCOUNT or _is_account(error):
        return GatewayError(
            Kind.UPSTREAM_REJECTED,
            f"the upstream refused the gateway's account (HTTP {status}); the operator has to check this connection",
        )
    if 400 <= status < 500:
        return _mistake(status, body, error, retry_after, secret)
    return _failure(status, retry_after)


def error_of_event(error: Any) -> GatewayError:
    """The failure that an error object in a stream, or in an answer with status 200, tells."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    if status == 429:
        return GatewayError(
            Kind.RATE_LIMITED, "the upstream's rate limit ended its answer", retry_after_seconds=_delay(error)
        )
    return _failure(status, None)


def _mistake(status: int, body: bytes, error: Json, retry_after: float | None, secret: str | None) -> GatewayError:
    clear = not _leaks(body, secret)
    message = error.get("message")
    kind = _STATUS.get(status, Kind.INVALID_REQUEST)
    shown = f"the upstream refused the request (HTTP {status})"
    if isinstance(message, str) and clear:
        shown = message[:_MAX_MESSAGE].strip() or shown
    if isinstance(message, str) and status == 400 and _TOO_LONG.search(message):
        kind = Kind.CONTEXT_LENGTH
    return GatewayError(
        kind,
        shown,
        status=status,
        retry_after_seconds=retry_after,
        upstream_body=body if error and clear else None,
    )


def _failure(status: int, retry_after: float | None) -> GatewayError:
    if status in (503, 529):
        message = f"the upstream is overloaded (HTTP {status})"
        return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=retry_after)
    if status in (408, 499, 504):
        return GatewayError(Kind.UPSTREAM_TIMEOUT, f"the upstream ran out of time (HTTP {status})")
    return GatewayError(Kind.UPSTREAM_ERROR, f"the upstream failed (HTTP {status})", retry_after_seconds=retry_after)


def _error_in(body: bytes) -> Json:
    """The error object of a body, which may be in an array of one; empty when there is none."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}


def _details(error: Json) -> list[Json]:
    details = error.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def _is_account(error: Json) -> bool:
    message = error.get("message")
    return any(one.get("reason") in _ACCOUNT_REASONS for one in _details(error)) or (
        isinstance(message, str) and message.startswith(_PLACES)
    )


def _retry_after(headers: Mapping[bytes, bytes], error: Json) -> float | None:
    found = _SECONDS.match(headers.get(b"retry-after", b"").decode("latin-1"))
    return float(found[1]) if found else _delay(error)


def _delay(error: Json) -> float | None:
    """google.rpc.RetryInfo's delay in seconds."""
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (found := _SECONDS.match(delay)):
            return float(found[1])
    return None


def _leaks(body: bytes, secret: str | None) -> bool:
    """True when the body holds the credential or a tell-tale part of it."""
    if not secret:
        return False
    parts = {secret} if len(secret) < 16 else {secret[:8], secret[-4:]}
    try:
        plain = _encode(_decode(body))  # without escapes that would hide it
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return True  # what can't be read can't be cleared
    return any(part.encode() in text for part in parts for text in (body, plain))
