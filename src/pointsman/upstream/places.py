"""How many calls of combos one target gets at a time, and how many wait for it. Counted in this process."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from pointsman.errors import GatewayError, Kind

RETRY_AFTER_SECONDS: Final = 1  # told to a caller for whom there is no place


class Bounds(NamedTuple):
    """How many at a time, how many may wait, and for how long (s)."""

    most: int
    waiting: int
    seconds: float


class _Target:
    def __init__(self) -> None:
        self.busy = 0
        self.waiters: deque[asyncio.Future[None]] = deque()


class Places:
    """The places at every target that a combo bounds."""

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}

    @asynccontextmanager
    async def at(self, target_id: str, bounds: Bounds) -> AsyncIterator[None]:
        """A place at the target while the block runs. Raises GatewayError(OVERLOADED) when there is none in time."""
        target = self._targets.setdefault(target_id, _Target())
        if target.busy < bounds.most:
            target.busy += 1
        else:
            await self._wait(target, target_id, bounds)
        try:
            yield
        finally:
            self._leave(target, target_id)

    async def _wait(self, target: _Target, target_id: str, bounds: Bounds) -> None:
        if len(target.waiters) >= bounds.waiting:
            raise _no_place(f"all {bounds.most} places at '{target_id}' are taken")
        place = asyncio.get_running_loop().create_future()
        target.waiters.append(place)
        try:
            async with asyncio.timeout(bounds.seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._leave(target, target_id)  # it was given in the same moment
            else:
                target.waiters.remove(place)
            if isinstance(error, TimeoutError):
                raise _no_place(f"no place at '{target_id}' came free within {bounds.seconds:g} s") from None
            raise

    def _leave(self, target: _Target, target_id: str) -> None:
        """Give the place to who waits longest, if anybody does."""
        for place in target.waiters:
            if not place.done():
                target.waiters.remove(place)
                place.set_result(None)
                return
        target.busy -= 1
        if not target.busy and not target.waiters:
            self._targets.pop(target_id, None)


def _no_place(message: str) -> GatewayError:
    return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=RETRY_AFTER_SECONDS)
