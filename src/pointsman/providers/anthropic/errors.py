"""Anthropic's errors in our kinds: answers with an error status, and error events in a stream."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.wire.members import Members

MAX_MESSAGE: Final = 2000  # characters of an upstream's words that are passed on

# Statuses that say the account or its key is at fault: the gateway's business, not the caller's.
ACCOUNT_STATUSES: Final = frozenset((401, 402, 403, 407))
_SECONDS: Final = re.compile(rb"\d{1,9}(\.\d+)?")
_KINDS: Final = {404: Kind.MODEL_NOT_FOUND, 408: Kind.UPSTREAM_TIMEOUT, 413: Kind.TOO_LARGE, 429: Kind.RATE_LIMITED}
# Anthropic tells these by its words alone.
_TOO_LONG: Final = re.compile(r"prompt is too long|exceed.{0,40}context (limit|window)|input length and `max_tokens`")
_FILTERED: Final = re.compile(r"content filtering policy|blocked by (our )?content")
_UNPAID: Final = re.compile(r"credit balance is too low|usage limits|spend limit")
_STREAM_KINDS: Final = {
    "overloaded_error": Kind.OVERLOADED,
    "rate_limit_error": Kind.RATE_LIMITED,
    "timeout_error": Kind.UPSTREAM_TIMEOUT,
}

_any: Final = msgspec.json.Decoder().decode


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client.

    The caller's own mistakes keep the upstream's status, words and JSON body, unless those hold the credential.
    Refused accounts, limits of the gateway's account, and the upstream's own failures are told without its words.
    """
    retry_after = _retry_after(headers)
    message = _message(body)
    if status in ACCOUNT_STATUSES or (status == 400 and message is not None and _UNPAID.search(message)):
        return GatewayError(
            Kind.UPSTREAM_REJECTED,
            f"the upstream refused the gateway's account (HTTP {status}); the operator has to check this connection",
        )
    if not 400 <= status < 500 or status == 408:
        return _failure(status, retry_after)
    if status == 429:
        return GatewayError(
            Kind.RATE_LIMITED, "the upstream's rate limit is reached", status=429, retry_after_seconds=retry_after
        )
    shown = _cleared(message, secret)
    return GatewayError(
        _kind(status, message or ""),
        shown or f"the upstream refused the request (HTTP {status})",
        status=status,
        retry_after_seconds=retry_after,
        upstream_body=body if shown is not None and not _leaks(body.decode("utf-8", "replace"), secret) else None,
    )


def stream_failure(event: Members) -> GatewayError:
    """The error that an upstream reports in mid-stream, without its words."""
    error = event.raw("error")
    name = error.get("type") if isinstance(error, dict) else None
    kind = _STREAM_KINDS.get(name, Kind.UPSTREAM_ERROR) if isinstance(name, str) else Kind.UPSTREAM_ERROR
    said = name if isinstance(name, str) and re.fullmatch(r"[a-z_]{1,40}", name) else "an error"
    return GatewayError(kind, f"the upstream broke off with {said}")


def _failure(status: int, retry_after: float | None) -> GatewayError:
    if status in (503, 529):
        return GatewayError(
            Kind.OVERLOADED, f"the upstream is overloaded (HTTP {status})", retry_after_seconds=retry_after
        )
    if status in (408, 504):
        return GatewayError(Kind.UPSTREAM_TIMEOUT, f"the upstream took too long (HTTP {status})")
    return GatewayError(Kind.UPSTREAM_ERROR, f"the upstream failed (HTTP {status})", retry_after_seconds=retry_after)


def _kind(status: int, message: str) -> Kind:
    if status == 400 and _TOO_LONG.search(message):
        return Kind.CONTEXT_LENGTH
    if status == 400 and _FILTERED.search(message):
        return Kind.CONTENT_FILTERED
    return _KINDS.get(status, Kind.INVALID_REQUEST)


def _message(body: bytes) -> str | None:
    """The upstream's words, None when it gave no error object."""
    try:
        found: Any = _any(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    error = found.get("error") if isinstance(found, dict) else None
    told = error.get("message") if isinstance(error, dict) else None
    return told if isinstance(told, str) else None


def _cleared(message: str | None, secret: str | None) -> str | None:
    """The words on one line, cut to measure; None when there are none or they hold the credential."""
    if message is None or _leaks(message, secret):
        return None
    return " ".join(message.split())[:MAX_MESSAGE] or None


def _leaks(text: str, secret: str | None) -> bool:
    """True when a text holds the credential or a tell-tale part of it."""
    if not secret:
        return False
    parts = {secret} if len(secret) < 16 else {secret[:8], secret[-4:]}
    return any(part in text for part in parts)


def _retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    value = headers.get(b"retry-after", b"")
    return float(value) if _SECONDS.fullmatch(value) else None
