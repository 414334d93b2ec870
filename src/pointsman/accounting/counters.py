"""Counters for rate limits: how much was used in the last minute or day, and how long to wait until more fits.

The algorithm is the sliding-window counter over fractions of the window (described by Figma in "An alternative approach
to rate limiting", 2017, https://www.figma.com/blog/an-alternative-approach-to-rate-limiting/): time is cut into slots
of a sixtieth of the window, uses are summed by slot, and a slot counts until the whole of it is older than the window.
So no window of any position holds more than the limit, and what was used comes back at most one slot late. A token
bucket would let twice the limit through a window, the counter over two fixed windows is only an approximation.

Times are whole microseconds on a clock that never goes back.
"""

from typing import TYPE_CHECKING, Final, Protocol

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import Secret

if TYPE_CHECKING:
    from pointsman.accounting.leases import LeaseStore

SLOTS: Final = 60
MINUTE_US: Final = 60_000_000
DAY_US: Final = 86_400_000_000


class Counter(Protocol):
    """What one limit's owner has used. Ask `wait` for every limit of a call, then `take` from all of them."""

    def wait(self, amount: int, limit: int, now: int) -> int | None:
        """Microseconds until ``amount`` (at most ``limit``) fits; 0: it fits now. None: `lease` first, then ask again.

        Changes nothing that others see.
        """
        ...

    def take(self, amount: int, now: int) -> int:
        """Count a use that `wait` said fits now; gives the slot, for `correct`."""
        ...

    def correct(self, slot: int, difference: int, now: int) -> None:
        """What was taken in ``slot`` turned out to be ``difference`` more (counted now), or less (given back)."""
        ...

    def remaining(self, limit: int, now: int) -> tuple[int, int]:
        """What is left of ``limit``, never below 0, and the microseconds until all of it is there again."""
        ...

    async def lease(self, amount: int, limit: int) -> None:
        """Fetch what `wait` misses, in a Task. Raises CountersError when the store can't be asked."""
        ...


class Counters(Protocol):
    """Where counters come from: this process' memory, or a store that several share."""

    failures: int

    def counter(self, name: str, window_us: int) -> Counter:
        """The counter of this name, made at its first use. ``window_us``: MINUTE_US or DAY_US."""
        ...

    async def flush(self) -> None:
        """Tell the store what is known here and not yet there; never fails."""
        ...

    async def aclose(self) -> None:
        """Give back what is leased and close."""
        ...


class CountersError(Exception):
    """The shared store can't be asked now."""


class SlidingWindow:
    """A counter in this process' memory: at most 61 numbers."""

    __slots__ = ("_slot_us", "_slots", "_total")

    def __init__(self, window_us: int) -> None:
        self._slot_us = window_us // SLOTS
        self._slots: dict[int, int] = {}  # in the order of time
        self._total = 0

    def wait(self, amount: int, limit: int, now: int) -> int:
        """Microseconds until ``amount`` fits into ``limit``."""
        self._expire(now // self._slot_us)
        excess = self._total + amount - limit
        if excess <= 0:
            return 0
        for slot, used in self._slots.items():
            excess -= used
            if excess <= 0:
                return (slot + SLOTS + 1) * self._slot_us - now
        raise ValueError("the amount is larger than the limit")

    def take(self, amount: int, now: int) -> int:
        """Count it now."""
        slot = now // self._slot_us
        self._slots[slot] = self._slots.get(slot, 0) + amount
        self._total += amount
        return slot

    def correct(self, slot: int, difference: int, now: int) -> None:
        """More is counted now, less is given back if its slot still counts."""
        if difference > 0:
            self.take(difference, now)
            return
        self._expire(now // self._slot_us)
        used = self._slots.get(slot)
        if used is not None and difference:
            back = min(used, -difference)
            self._total -= back
            if back == used:
                del self._slots[slot]
            else:
                self._slots[slot] = used - back

    def remaining(self, limit: int, now: int) -> tuple[int, int]:
        """What is left, and when all is there again: when the newest slot counts no more."""
        self._expire(now // self._slot_us)
        if not self._slots:
            return limit, 0
        newest = next(reversed(self._slots))
        return max(0, limit - self._total), (newest + SLOTS + 1) * self._slot_us - now

    async def lease(self, amount: int, limit: int) -> None:
        """Nothing is ever missing here."""

    def _expire(self, current: int) -> None:
        slots = self._slots
        while slots:
            oldest = next(iter(slots))
            if oldest >= current - SLOTS:
                return
            self._total -= slots.pop(oldest)


class MemoryCounters:
    """Counters of a process that counts alone; see leases.py for several."""

    def __init__(self) -> None:
        self._windows: dict[str, SlidingWindow] = {}
        self.failures = 0

    def counter(self, name: str, window_us: int) -> SlidingWindow:
        """The window of this name."""
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = SlidingWindow(window_us)
        return window

    async def flush(self) -> None:
        """Nobody else is to be told."""

    async def aclose(self) -> None:
        """Nothing is held."""


def open_counters(redis_url: Secret | None, clock: Clock, store: "LeaseStore | None" = None) -> Counters:
    """Counters in Redis; without a URL in ``store``, which several workers share, or else in this process' memory.

    Raises ConfigError for a URL that can't be used.
    """
    from pointsman.accounting.leases import LeasedCounters

    if redis_url is None:
        return MemoryCounters() if store is None else LeasedCounters(store, clock)
    try:
        from pointsman.accounting.redis_store import RedisStore  # an extra, and slow to import
    except ImportError:
        raise ConfigError("a Redis URL is set, but not the extra: pip install 'pointsman[redis]'") from None
    try:
        return LeasedCounters(RedisStore(redis_url), clock)
    except ValueError as error:
        raise ConfigError("storage.redis_url: must be redis://, rediss:// or unix://, with a valid port") from error
