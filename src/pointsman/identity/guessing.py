"""Wrong credentials: an address that shows them again and again is not listened to for a while. In this process.

Keys are 256 random bits, which nobody guesses; those that an operator chose may be less. This machine itself is never
kept out, as with the lists of addresses (policy/ip_filter.py).
"""

import math
from collections import OrderedDict
from ipaddress import ip_address
from typing import Final

import structlog

from pointsman.clock import Clock
from pointsman.identity.lockout import source_of

MAX_SOURCES: Final = 10_000
log: Final = structlog.get_logger("pointsman.identity")


class Guessing:
    """After ``most`` wrong credentials within ``seconds`` a source waits as long; ``most`` 0: nobody does.

    ``locked`` says whether anybody has to wait: more the path of a request need not ask.
    """

    def __init__(self, clock: Clock, most: int, seconds: float) -> None:
        self.locked = False
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and since when
        self._until: dict[str, float] = {}

    def note(self, peer: str) -> None:
        """Count a wrong credential."""
        if not self._most or _is_near(peer):
            return
        now, source = self._clock.monotonic(), source_of(peer)
        count, since = self._counts.pop(source, (0, now))
        if now - since > self._seconds:
            count, since = 0, now
        if count + 1 < self._most:
            self._counts[source] = (count + 1, since)
            while len(self._counts) > MAX_SOURCES:
                self._counts.popitem(last=False)
            return
        log.warning("an address that shows wrong credentials has to wait", address=source, seconds=self._seconds)
        self._until[source] = now + self._seconds
        while len(self._until) > MAX_SOURCES:
            del self._until[next(iter(self._until))]
        self.locked = True

    def wait_seconds(self, peer: str) -> int:
        """For how long nothing of this address is looked at; 0 when it is."""
        source = source_of(peer)
        left = self._until.get(source, 0.0) - self._clock.monotonic()
        if left > 0:
            return math.ceil(left)
        if self._until.pop(source, None) is not None:
            self.locked = bool(self._until)
        return 0


def _is_near(peer: str) -> bool:
    """Whether it is this machine; sockets without an address are its own."""
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return True
