"""How long a request may take and how often it may be tried: by the settings, by its combo, by its caller."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.settings import AttemptSettings, UpstreamSettings

TIMEOUT_HEADER: Final = b"x-pointsman-timeout"
SHORTEST_SECONDS: Final = 0.1
MOST_RETRIES: Final = 10
CONTINUE_HEADER: Final = b"x-pointsman-continue"
_NUMBER: Final = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")


def allowed_seconds(asked: bytes, longest: float) -> float:
    """What a caller's header says, at most ``longest``. Raises INVALID_REQUEST for anything but a number of seconds."""
    if _NUMBER.fullmatch(asked) is None or float(asked) < SHORTEST_SECONDS:
        name = TIMEOUT_HEADER.decode()
        raise GatewayError(
            Kind.INVALID_REQUEST, f"'{name}' must be a number of seconds from {SHORTEST_SECONDS}", param=name
        )
    return min(float(asked), longest)


class Terms(NamedTuple):
    """What holds for the attempts of one request. Times in seconds.

    ``retries`` of one target at most, the first after ``delay`` on average twice as long each further time, none after
    a wait longer than ``longest_wait``. ``failover_first``: other targets come before a retry. ``target_seconds``: the
    time of one attempt, of a stream to its first content. ``resorts``: so many targets that are left alone are asked
    all the same before the request fails.
    """

    retries: int
    delay: float
    longest_wait: float
    failover_first: bool = True
    target_seconds: float | None = None
    resorts: int = 8


ONCE: Final = Terms(retries=0, delay=0.0, longest_wait=0.0)


def terms_of(settings: AttemptSettings, route: Mapping[str, Any]) -> Terms:
    """The terms of a route; its own settings (OmniRoute's names, milliseconds) win. What makes no sense is as if left
    out: it was checked when it was stored.
    """
    retries, timeout = route.get("maxRetries"), _seconds(route.get("targetTimeoutMs"))
    delay = _seconds(route.get("retryDelayMs"))
    return Terms(
        retries=min(retries, MOST_RETRIES) if isinstance(retries, int) and retries >= 0 else settings.max_retries,
        delay=settings.retry_delay_seconds if delay is None else delay,
        longest_wait=settings.max_retry_wait_seconds,
        failover_first=route.get("failoverBeforeRetry") is not False,
        target_seconds=timeout or None,
        resorts=settings.last_resorts,
    )


def is_continued(settings: AttemptSettings, route: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """Whether another target may go on with a stream that breaks: the request says, else its combo or the settings."""
    asked = headers.get(CONTINUE_HEADER)
    if asked is not None:
        return asked.lower() not in (b"0", b"false")
    return settings.continuation or route.get("continuation") is True


def limits_within(settings: UpstreamSettings, seconds: float) -> UpstreamSettings:
    """The limits of a call whose head, and the first part of its stream, must come within ``seconds``."""
    return msgspec.structs.replace(
        settings,
        headers_timeout_seconds=min(seconds, settings.headers_timeout_seconds),
        first_byte_timeout_seconds=min(seconds, settings.first_byte_timeout_seconds),
    )


def _seconds(milliseconds: object) -> float | None:
    if isinstance(milliseconds, int | float) and milliseconds >= 0:
        return milliseconds / 1000
    return None
