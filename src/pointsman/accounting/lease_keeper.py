"""Keeps the leases of budgets of one home alive, and ends those of homes of which nothing was heard for too long.

A home is the directory of a node's journals. While the node lives, what its processes hold stays theirs, also that of
one that has just died: its journal is read first. A node that is lost keeps nothing for ever. Nobody's time of day is
involved: whoever looks sees a number grow, and measures on its own clock how long it has not.
"""

import asyncio
from typing import Final

import structlog

from pointsman.clock import Clock, rest
from pointsman.storage.budget_leases import BudgetLeaseRepository, Home
from pointsman.storage.database import StorageError

# Of the time that a lease lasts. A beat is seen one look later, and the end one look late: in all the time is kept.
LOOK_SHARE: Final = 0.1
EXPIRED_SHARE: Final = 0.8  # more than budget_desk.VALID_SHARE, since clocks differ in their rates
LONGEST_LOOK_SECONDS: Final = 30.0
log = structlog.get_logger("pointsman.budgets")


class LeaseKeeper:
    """One for each data directory. ``lease_seconds``: of this home; each other one has its own."""

    def __init__(self, escrow: BudgetLeaseRepository, clock: Clock, home: str, lease_seconds: float) -> None:
        self._escrow = escrow
        self._clock = clock
        self._home = home
        self._look_seconds = min(LONGEST_LOOK_SECONDS, lease_seconds * LOOK_SHARE)
        self._seen: dict[str, tuple[Home, float]] = {}  # as it is since that instant

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until ``stopping``. What fails is tried again."""
        while not stopping.is_set():
            try:
                await self.look()
            except Exception as error:  # all leases of this home would expire if this ended
                unknown = None if isinstance(error, StorageError) else error
                log.warning("leases of budgets could not be looked after", reason=str(error), exc_info=unknown)
            await rest(stopping, self._look_seconds)

    async def look(self) -> int:
        """Tell that this home lives, and end leases that have expired; gives how many. Raises StorageError."""
        homes = await self._escrow.homes()
        now = self._clock.monotonic()
        expired = 0
        seen = {}
        for home in homes:
            if home.name == self._home:
                await self._escrow.beat(self._home)
                continue
            as_it_is, since = self._seen.get(home.name, (home, now))
            if as_it_is != home:
                since = now
            if now - since < home.lease_us / 1e6 * EXPIRED_SHARE:
                seen[home.name] = (home, since)
            else:
                expired += await self._expire(home)
        self._seen = seen
        return expired

    async def _expire(self, home: Home) -> int:
        freed = await self._escrow.expire(home, self._clock.now_us())
        if freed is None:  # it was heard of in this moment
            return 0
        if freed:
            log.warning("leases of a lost node have expired", home=home.name, leases=freed)
        return freed
