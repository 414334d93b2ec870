"""Time and identifiers, passed in wherever they are needed: the only module that reads the clock."""

import asyncio
import datetime
import os
import time
from typing import Protocol


class Clock(Protocol):
    """Where time and ids come from; tests pass their own."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. For durations and deadlines."""
        ...

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC. For instants that are stored or shown."""
        ...

    def new_id(self, prefix: str, now_us: int | None = None) -> str:
        """A new unique id ``{prefix}_{28 hex digits}`` that sorts by time of creation within a process.

        ``now_us`` saves a look at the clock for a caller that has just had one.
        """
        ...


class SystemClock:
    """The machine's clock; one for each process, made after any fork.

    Ids are 12 hex digits of milliseconds, 6 of a counter and 10 of a random tail.
    """

    def __init__(self) -> None:
        self._counter = 0
        self._tail = os.urandom(5).hex()

    monotonic = staticmethod(time.monotonic)

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def new_id(self, prefix: str, now_us: int | None = None) -> str:
        """A new unique id; no secret may depend on it, since it can be guessed."""
        self._counter = counter = (self._counter + 1) & 0xFFFFFF
        milliseconds = (self.now_us() if now_us is None else now_us) // 1000
        return f"{prefix}_{(milliseconds << 24 | counter).to_bytes(9, 'big').hex()}{self._tail}"


async def rest(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but not when ``stopping`` is set or will be meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


def instant_us(text: str) -> int:
    """An instant in ISO 8601 (of UTC where it does not say) in microseconds since 1970. Raises ValueError."""
    moment = datetime.datetime.fromisoformat(text[:40])
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    try:
        return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
    except OverflowError:
        raise ValueError("out of range") from None
