"""What a failed call means for routing: who is at fault, for how long, and whether another target may do better.

The table follows how people's gateways were seen to fail: a caller's own mistake or a content filter must not be tried
elsewhere, an account without credit must not be tried again and again, and a prompt that is too long for one model may
fit another.
"""

import re
from typing import Final, Literal

import msgspec

from pointsman.errors import GatewayError, Kind

Scope = Literal["request", "model", "connection", "provider"]
MAX_TEXT: Final = 4096  # bytes of a refusal that are looked at


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed call. ``scope`` is who is at fault: nothing is held against the upstream for ``request``.

    ``next``: another target may do better. ``again``: the same one may, at once. ``larger``: only one with a larger
    window. ``seconds``: how long the one at fault is left alone; None: longer each time. ``terminal``: a state that
    lasts until an operator changes something. ``trips``: counts for the provider's breaker.
    """

    word: str
    scope: Scope
    next: bool = True
    again: bool = False
    larger: bool = False
    seconds: float | None = None
    terminal: str | None = None
    trips: bool = False


_OWN_MISTAKE: Final = Failure(word="invalid_request", scope="request", next=False, seconds=0)
_BUSY_HERE: Final = Failure(word="limited_here", scope="request", seconds=0)
_BY_KIND: Final = {
    Kind.CONTEXT_LENGTH: Failure(word="context_length", scope="request", larger=True, seconds=0),
    Kind.CONTENT_FILTERED: Failure(word="content_filtered", scope="request", next=False, seconds=0),
    Kind.UNSUPPORTED: Failure(word="unsupported", scope="request", seconds=0),
    Kind.MODEL_NOT_FOUND: Failure(word="model_not_found", scope="model", seconds=120),
    Kind.RATE_LIMITED: Failure(word="rate_limited", scope="connection", again=True),
    Kind.PAYMENT_REQUIRED: Failure(
        word="credits_exhausted", scope="connection", seconds=120, terminal="credits_exhausted"
    ),
    Kind.UPSTREAM_REJECTED: Failure(word="rejected", scope="connection", seconds=120, terminal="error"),
    Kind.UPSTREAM_ERROR: Failure(word="upstream_error", scope="connection", again=True, trips=True),
    Kind.UPSTREAM_TIMEOUT: Failure(word="timeout", scope="connection", trips=True),
    Kind.UPSTREAM_UNAVAILABLE: Failure(word="unavailable", scope="connection", again=True, trips=True),
    Kind.OVERLOADED: _BUSY_HERE,
    Kind.NOT_READY: Failure(word="not_ready", scope="connection", seconds=15),
}
# What an upstream says in its own words, which counts for more than its status. Matched in lower case.
_BY_TEXT: Final = (
    (
        re.compile(
            rb"account[^.]{0,40}(?:deactivated|disabled|suspended)|verify your account|violation of [^.]{0,40}terms"
        ),
        Failure(word="banned", scope="connection", seconds=365 * 86400, terminal="banned"),
    ),
    (
        re.compile(
            rb"insufficient[_ ](?:quota|balance|credits|funds)|exceeded your current quota|credit balance is too low"
            rb"|out of credits|payment required"
        ),
        Failure(word="credits_exhausted", scope="connection", seconds=3600, terminal="credits_exhausted"),
    ),
    (
        re.compile(rb"today's quota|daily (?:quota|limit)|try again tomorrow|tokens per day|requests per day"),
        Failure(word="daily_quota", scope="connection", seconds=3600),
    ),
    (
        re.compile(rb"no longer available|end of life|has been (?:retired|deprecated|decommissioned)"),
        Failure(word="model_retired", scope="model", seconds=86400),
    ),
    (
        re.compile(rb"model[^.]{0,60}(?:overloaded|at capacity)"),
        Failure(word="model_overloaded", scope="model", again=True),
    ),
)  # fmt: skip


def classify(error: GatewayError) -> Failure:
    """What ``error`` means. One that the gateway itself raised is held against nobody."""
    refusal = error.refusal
    if refusal is None:
        if error.kind is Kind.RATE_LIMITED:
            return _BUSY_HERE
        return _BY_KIND.get(error.kind, _OWN_MISTAKE)
    if refusal.status not in (400, 413, 422):  # there a prompt may be quoted, which can say anything
        text = refusal.body[:MAX_TEXT].lower()
        for pattern, failure in _BY_TEXT:
            if pattern.search(text):
                return failure
    if error.kind is Kind.OVERLOADED:
        return _BY_KIND[Kind.UPSTREAM_ERROR]  # the upstream is, not the gateway
    if refusal.status == 402:
        return _BY_KIND[Kind.PAYMENT_REQUIRED]
    return _BY_KIND.get(error.kind, _OWN_MISTAKE)
