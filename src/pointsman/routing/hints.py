"""When an upstream says that it may be asked again: headers and bodies of refusals, one table of forms.

Each form is where the hint stands and how its value is read. Instants are microseconds since 1970 UTC, waits seconds.
"""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

MAX_TEXT: Final = 4096  # bytes of a refusal that are looked at
EPOCH_SECONDS: Final = 1e9  # a number from here on is an instant, not a wait
EPOCH_MILLISECONDS: Final = 1e12
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PIECE: Final = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])"
)
_DURATION_TEXT: Final = rb"(\d[\d.]*\s*[a-z]{1,12}(?:[\s,]*(?:and\s+)?\d[\d.]*\s*[a-z]{1,12}){0,4})"

Read = Callable[[str, int], float | None]


def duration(text: str) -> float | None:
    """Seconds of ``1h2m3s``, ``450ms``, ``2 hours 5 minutes``; None for anything else."""
    found = _PIECE.findall(text.lower())
    if not found:
        return None
    return sum(float(number) * _UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]] for number, unit in found)


def wait(text: str, now: int) -> float | None:
    """Seconds until what ``text`` says: a number of seconds, an epoch (s or ms), a duration, an ISO or HTTP date."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _number(float(text), now)
    instant = _instant(text)
    if instant is not None:
        return max(0.0, instant - now / 1e6)
    return duration(text) if text[:1].isdigit() else None


def _number(value: float, now: int) -> float:
    if value >= EPOCH_MILLISECONDS:
        return max(0.0, value / 1000 - now / 1e6)
    return max(0.0, value - now / 1e6) if value >= EPOCH_SECONDS else value


def _milliseconds(text: str, now: int) -> float | None:
    return float(text) / 1000 if _NUMBER.fullmatch(text.strip()) else None


def _span(text: str, now: int) -> float | None:
    return float(text) if _NUMBER.fullmatch(text.strip()) else duration(text)


def _instant(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 or an RFC 9110 date; one without a zone is UTC."""
    for parse in (datetime.datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = parse(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        try:
            return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return None


def _names(what: str, pattern: str) -> tuple[str, bytes, bytes, bytes]:
    limit, remaining, reset = (
        pattern.format(part=part, what=what).encode() for part in ("limit", "remaining", "reset")
    )
    return what, limit, remaining, reset


# A header of its own that says how long to wait, the most exact first.
PLAIN: Final[tuple[tuple[bytes, Read], ...]] = (
    (b"retry-after-ms", _milliseconds),
    (b"x-ms-retry-after-ms", _milliseconds),
    (b"retry-after", wait),
    (b"x-ratelimit-reset-after", _span),
)
# What is counted: the names of limit, remaining and reset. Those with nothing left say when the wait ends.
COUNTED: Final[tuple[tuple[str, bytes, bytes, bytes], ...]] = (
    *(_names(what, "x-ratelimit-{part}-{what}") for what in ("requests", "tokens", "input-tokens", "output-tokens",
                                                             "requests-day", "tokens-minute")),
    *(_names(what, "anthropic-ratelimit-{what}-{part}") for what in ("requests", "tokens", "input-tokens",
                                                                     "output-tokens")),
    ("requests", b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"),
    ("requests", b"x-rate-limit-limit", b"x-rate-limit-remaining", b"x-rate-limit-reset"),
    ("requests", b"ratelimit-limit", b"ratelimit-remaining", b"ratelimit-reset"),
)  # fmt: skip
# In a body: members of JSON, then sentences. Lower case.
BODY: Final[tuple[tuple[re.Pattern[bytes], Read], ...]] = (
    (re.compile(rb'"retrydelay"\s*:\s*"([^"]{1,40})"'), _span),  # Google's RetryInfo
    (re.compile(rb'"retry_after_ms"\s*:\s*"?(\d{1,12}(?:\.\d+)?)'), _milliseconds),
    (re.compile(rb'"(?:retry_after|retryafter|retry_after_seconds)"\s*:\s*"?(\d{1,12}(?:\.\d+)?)'), wait),
    (re.compile(rb'"(?:resets_in_seconds|reset_after_seconds|resets_in)"\s*:\s*"?(\d{1,12}(?:\.\d+)?)'), _span),
    (re.compile(rb'"(?:resets_at|reset_at|reset_time|quotaresettimestamp)"\s*:\s*"?([^",}]{1,40})'), wait),
    (re.compile(rb'"(?:x-ratelimit-reset)"\s*:\s*"?([^",}]{1,40})'), wait),  # OpenRouter's metadata
    (re.compile(rb"(?:try again|retry|available|resets?) at (\d{4}-\d\d-\d\d[t ][\d:.]{5,15}(?:z|[+-]\d\d:?\d\d)?)"),
     wait),
    (re.compile(rb"(?:try again|retry|resets?|reset|available(?: again)?) (?:in|after) (?:about )?" + _DURATION_TEXT),
     lambda text, now: duration(text)),
    (re.compile(rb"regain access on (\d{4}-\d\d-\d\d at \d\d:\d\d) utc"),  # Anthropic's ceiling of a month
     lambda text, now: wait(text.replace(" AT ", "T"), now)),
    (re.compile(rb"wait (?:for )?(?:about )?" + _DURATION_TEXT), lambda text, now: duration(text)),
)  # fmt: skip


def wait_seconds(headers: Mapping[bytes, bytes], body: bytes, now: int) -> float | None:
    """How long a refusal asks to wait, in seconds; None when it doesn't say. Header names are in lower case."""
    for name, read in PLAIN:
        value = headers.get(name)
        if value and (found := read(value.decode("latin-1"), now)) is not None:
            return found
    found = _exhausted(headers, now)
    if found is not None:
        return found
    text = body[:MAX_TEXT].lower()
    for pattern, read in BODY:
        match = pattern.search(text)
        if match and (found := read(match[1].decode("latin-1").upper(), now)) is not None:
            return found
    return None


def _exhausted(headers: Mapping[bytes, bytes], now: int) -> float | None:
    """The end of all that has nothing left; where nothing tells what is left, the first end."""
    ends: list[float] = []
    unsaid: list[float] = []
    for _, _, remaining, reset in counted(headers):
        seconds = wait(reset, now)
        if seconds is not None and not remaining:
            (unsaid if remaining is None else ends).append(seconds)
    return max(ends) if ends else min(unsaid, default=None)


def counted(headers: Mapping[bytes, bytes]) -> Iterator[tuple[str, float | None, float | None, str]]:
    """What the headers count: name, limit, what remains, and the text of the reset."""
    for what, limit, remaining, reset in COUNTED:
        value = headers.get(reset)
        if value:
            yield what, count(headers.get(limit)), count(headers.get(remaining)), value.decode("latin-1")


def count(value: bytes | None) -> float | None:
    """A header's number; None when it is none."""
    text = value.decode("latin-1").strip() if value else ""
    return float(text) if _NUMBER.fullmatch(text) else None
