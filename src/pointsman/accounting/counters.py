"""Counters for rate limits: how much was used in the last minute or day, and how long to wait until more fits.

How it is counted is in windows.py. Times are whole microseconds on a clock that never goes back.
"""

from typing import TYPE_CHECKING, Final, Protocol

from pointsman.accounting.windows import MOST_WINDOWS, SlidingWindow, Windows
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import Secret

if TYPE_CHECKING:
    from pointsman.accounting.leases import LeaseStore

LOOKS_OF_A_FLUSH: Final = 1000  # less than a millisecond


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


class UnaskedError(CountersError):
    """The store can't be reached: it knows nothing of the question."""


class MemoryCounters:
    """Counters of a process that counts alone; see leases.py for several."""

    def __init__(self, clock: Clock, most: int = MOST_WINDOWS) -> None:
        self._clock = clock
        self.windows = Windows(most)
        self.failures = 0

    def counter(self, name: str, window_us: int) -> SlidingWindow:
        """What counts in the window of this name."""
        return self.windows.counter(name, window_us)

    async def flush(self) -> None:
        """Nobody else is to be told; windows that nobody uses any more are looked for."""
        self.windows.sweep(LOOKS_OF_A_FLUSH, int(self._clock.monotonic() * 1e6))

    async def aclose(self) -> None:
        """Nothing is held."""


def open_counters(redis_url: Secret | None, clock: Clock, store: "LeaseStore | None" = None) -> Counters:
    """Counters in Redis; without a URL in ``store``, which several workers share, or else in this process' memory.

    Raises ConfigError for a URL that can't be used.
    """
    from pointsman.accounting.leases import LeasedCounters

    if redis_url is None:
        return MemoryCounters(clock) if store is None else LeasedCounters(store, clock)
    try:
        from pointsman.accounting.redis_store import RedisStore  # an extra, and slow to import
    except ImportError:
        raise ConfigError("a Redis URL is set, but not the extra: pip install 'pointsman[redis]'") from None
    try:
        return LeasedCounters(RedisStore(redis_url), clock)
    except ValueError as error:
        raise ConfigError("storage.redis_url: must be redis://, rediss:// or unix://, with a valid port") from error
