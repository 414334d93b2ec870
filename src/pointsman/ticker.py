"""One coarse timer for the deadlines of every connection: setting a deadline is an attribute store, not a timer."""

import asyncio
from email.utils import formatdate
from typing import Final, Protocol

from pointsman.clock import Clock

INTERVAL_SECONDS: Final = 0.25
NEVER: Final = float("inf")


class Expiring(Protocol):
    """Something with a deadline on the ticker's clock."""

    deadline: float

    def expired(self) -> None:
        """Called once for each tick at which ``deadline`` has passed."""
        ...


class Ticker:
    """Sweeps its members every 0.25 s. ``date_header`` is the RFC 9110 Date line.

    ``now`` is the time of the next sweep, so a deadline of ``now + seconds`` is never early, and 0.5 s late at most.
    ``lag_seconds`` is how late the last sweep came: the event loop's own delay.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop = loop
        self._clock = clock
        self.members: set[Expiring] = set()
        self.now = clock.monotonic() + INTERVAL_SECONDS
        self.lag_seconds = 0.0
        self.date_header = b""
        self._due = clock.monotonic()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick on the loop."""
        self._tick()

    def stop(self) -> None:
        """Stop ticking; deadlines no longer fire."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self.now = now + INTERVAL_SECONDS
        self.lag_seconds = max(0.0, now - self._due)
        seconds = self._clock.now_us() // 1_000_000
        self.date_header = b"date: " + formatdate(seconds, usegmt=True).encode() + b"\r\n"
        self._due = now + INTERVAL_SECONDS
        self._handle = self.loop.call_later(INTERVAL_SECONDS, self._tick)  # first: no member's fault may end the ticks
        for member in [member for member in self.members if member.deadline < now]:
            if member in self.members and member.deadline < now:  # an earlier one may have ended it
                member.expired()
