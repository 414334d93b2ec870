"""What the errors of Chat Completions hosts mean: their shapes differ, the causes are few."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind

MAX_WORDS: Final = 2000  # characters of an upstream's message that are passed on
_ACCOUNT: Final = frozenset((401, 402, 403, 407))
_SECONDS: Final = re.compile(rb"\d{1,9}(\.\d+)?")
_TOO_LONG: Final = re.compile(
    r"context.{0,12}length|context window|maximum context|prompt is too long|too many (input )?tokens|"
    r"exceeds? .{0,40}(context|token limit)",
    re.IGNORECASE,
)
_FILTER_CODES: Final = frozenset(
    ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "1301", "data_inspection_failed")
)
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client.

    The account's troubles (401, 402, 403, 407) and the upstream's own are told without its words; the caller's mistakes
    keep its status and message, unless that holds the secret.
    """
    retry_after = _retry_after(headers)
    value = _read(body)
    error = _error_of(value)
    if status == 403 and _is_moderated(error):
        return GatewayError(Kind.CONTENT_FILTERED, "the upstream's moderation refused the request", status=status)
    if status in _ACCOUNT:
        return GatewayError(
            Kind.UPSTREAM_REJECTED,
            f"the upstream refused the gateway's account (HTTP {status}); the operator has to check this connection",
        )
    if 400 <= status < 500:
        return _mistake(status, error, body if isinstance(value, dict) else b"", secret, retry_after)
    kind = Kind.OVERLOADED if status in (503, 529) else Kind.UPSTREAM_ERROR
    shown = status if status in (503, 504) else 503 if status == 529 else 502
    return GatewayError(kind, f"the upstream failed (HTTP {status})", status=shown, retry_after_seconds=retry_after)


def error_inside(error: Any) -> GatewayError:
    """An error in a stream, or in an answer with status 200: never the upstream's words, they may be about anything."""
    found = error if isinstance(error, dict) else {"message": str(error)}
    words = f"{found.get('code')} {found.get('type')} {found.get('message')}".lower()
    if _is_too_long(found):
        return GatewayError(Kind.CONTEXT_LENGTH, "the prompt is longer than the model's context")
    if _is_filtered(found):
        return GatewayError(Kind.CONTENT_FILTERED, "the upstream's content filter broke the answer off")
    if "rate_limit" in words or "429" in words or "too many requests" in words:
        return GatewayError(Kind.RATE_LIMITED, "the upstream limits the rate of calls")
    if "overloaded" in words or "503" in words:
        return GatewayError(Kind.OVERLOADED, "the upstream is overloaded")
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream reported an error in its answer")


def _mistake(
    status: int, error: dict[str, Any], body: bytes, secret: str | None, retry_after: float | None
) -> GatewayError:
    words = _words_of(error)
    clean = not _leaks(body, secret)
    message = words[:MAX_WORDS] if words and clean else f"the upstream refused the request (HTTP {status})"
    param = error.get("param")
    return GatewayError(
        _kind(status, error),
        message,
        status=status,
        param=param if isinstance(param, str) and clean else None,
        retry_after_seconds=retry_after,
        upstream_body=body if body and clean and isinstance(_read(body).get("error"), dict) else None,
    )


def kind_of_mistake(status: int, body: bytes) -> Kind:
    """What a refusal with a status from 400 to 499 is about."""
    return _kind(status, _error_of(_read(body)))


def _kind(status: int, error: dict[str, Any]) -> Kind:
    if status == 429:
        return Kind.RATE_LIMITED
    if _is_too_long(error):
        return Kind.CONTEXT_LENGTH
    if _is_filtered(error):
        return Kind.CONTENT_FILTERED
    return {404: Kind.MODEL_NOT_FOUND, 413: Kind.TOO_LARGE}.get(status, Kind.INVALID_REQUEST)


def _read(body: bytes) -> Any:
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value[0] if isinstance(value, list) and value else value  # Google's compatible API wraps errors in a list


def _error_of(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    error = value.get("error")
    if isinstance(error, dict):
        return error
    return {**value, "message": error} if isinstance(error, str) else value


def _words_of(error: dict[str, Any]) -> str:
    """The message in one text; Mistral and FastAPI hosts give a list of what is wrong where."""
    message = error.get("message") or error.get("detail")
    if isinstance(message, dict):
        message = message.get("detail") or message
    if isinstance(message, str):
        return message
    if not isinstance(message, list):
        return ""
    return "; ".join(
        f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg')}" for one in message if isinstance(one, dict)
    )


def _is_too_long(error: dict[str, Any]) -> bool:
    return error.get("code") == "context_length_exceeded" or _TOO_LONG.search(_words_of(error)) is not None


def _is_filtered(error: dict[str, Any]) -> bool:
    inner = error.get("innererror")
    codes = {str(error.get("code")), str(error.get("type")), str(inner.get("code") if isinstance(inner, dict) else "")}
    return not codes.isdisjoint(_FILTER_CODES)


def _is_moderated(error: dict[str, Any]) -> bool:
    """OpenRouter's 403 for what its moderation flagged."""
    metadata = error.get("metadata")
    return isinstance(metadata, dict) and ("reasons" in metadata or "flagged_input" in metadata)


def _leaks(body: bytes, secret: str | None) -> bool:
    """True when the body holds the credential or a tell-tale part of it: some upstreams show its ends."""
    if not secret:
        return False
    parts = {secret} if len(secret) < 16 else {secret[:8], secret[-4:]}
    plain = _encode(_read(body))  # without escapes that would hide it
    return any(part.encode() in text for part in parts for text in (body, plain))


def _retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds from ``retry-after-ms`` or ``retry-after``."""
    fine = headers.get(b"retry-after-ms", b"")
    if _SECONDS.fullmatch(fine):
        return float(fine) / 1000
    value = headers.get(b"retry-after", b"")
    return float(value) if _SECONDS.fullmatch(value) else None
