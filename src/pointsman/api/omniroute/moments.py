"""Instants and waits as OmniRoute's management API writes them."""

import datetime


def instant(micros: int) -> str | None:
    """An instant in microseconds as ISO 8601; 0 is none."""
    if not micros:
        return None
    moment = datetime.datetime.fromtimestamp(micros / 1e6, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wait_ms(until: int, now: int) -> int:
    """Milliseconds from ``now`` to ``until`` (us), at least 0."""
    return max(0, until - now) // 1000
