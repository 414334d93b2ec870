"""What an upstream's refusal means, for APIs whose errors are a status and one message."""

import re
from collections.abc import Mapping
from typing import Final

from pointsman.errors import GatewayError, Kind

MAX_MESSAGE: Final = 2000  # characters of an upstream's words that are passed on

# Statuses that say the account or its key is at fault: the gateway's business, not the caller's.
ACCOUNT_STATUSES: Final = frozenset((401, 402, 403, 407))
_SECONDS: Final = re.compile(rb"^\d{1,9}(\.\d+)?$")
_KINDS: Final = {404: Kind.MODEL_NOT_FOUND, 413: Kind.TOO_LARGE, 429: Kind.RATE_LIMITED}


def refusal(
    status: int,
    headers: Mapping[bytes, bytes],
    message: str | None,
    *,
    kind: Kind | None = None,
    body: bytes | None = None,
) -> GatewayError:
    """The error for an answer with ``status``.

    ``message`` is the upstream's own, already `cleared`, None when it gave none; ``kind`` is what the format knows
    better than the status says; ``body`` is passed on to clients of the same API. Of the upstream's own failures and
    of refused accounts neither words nor body are told.
    """
    after = retry_after(headers)
    if status in ACCOUNT_STATUSES:
        return GatewayError(
            Kind.UPSTREAM_REJECTED,
            f"the upstream refused the gateway's account (HTTP {status}); the operator has to check this connection",
        )
    if status >= 500 and kind is None:
        busy = status in (503, 529)
        return GatewayError(
            Kind.OVERLOADED if busy else Kind.UPSTREAM_ERROR,
            f"the upstream {'is overloaded' if busy else 'failed'} (HTTP {status})",
            status=504 if status == 504 else None,
            retry_after_seconds=after,
        )
    if kind is None:
        kind = _KINDS.get(status, Kind.INVALID_REQUEST)
    shown = message or f"the upstream refused the request (HTTP {status})"
    kept = status if 400 <= status < 500 else None
    return GatewayError(kind, shown, status=kept, retry_after_seconds=after, upstream_body=body if message else None)


def retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds from a Retry-After header (names in lower case); None when there is none or it is a date."""
    value = headers.get(b"retry-after", b"")
    return float(value) if _SECONDS.match(value) else None


def cleared(message: str, secret: str | None) -> str | None:
    """An upstream's words on one line, cut to measure; None when they hold the credential or a tell-tale part of it."""
    if secret:
        parts = {secret} if len(secret) < 16 else {secret[:8], secret[-4:]}  # what upstreams show of a key
        if any(part in message for part in parts):
            return None
    return " ".join(message.split())[:MAX_MESSAGE] or None
