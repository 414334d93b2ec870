"""Processes that spend one budget through its escrow, on a real database, with journals and a projector."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.accounting.budget_desk import BudgetDesk, Hold
from pointsman.accounting.budget_pots import Shortage
from pointsman.accounting.homes import holder_name, home_of
from pointsman.accounting.journal import Journal
from pointsman.accounting.lease_keeper import LeaseKeeper
from pointsman.accounting.projector import Projector
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.policy.budget_service import BudgetService
from pointsman.policy.budgets import Bound, charge
from pointsman.storage.budget_leases import BudgetLeaseRepository, Holder
from pointsman.storage.budgets import BudgetRepository, BudgetRow
from pointsman.storage.database import Database

LEASE_SECONDS: Final = 300.0


class Process:
    """One process of a node with its journal and its desk; `turn` is what its background work would do."""

    def __init__(self, place: DatabasePlace, clock: DrivenClock, node: str = "journal") -> None:
        self.database = place.open()
        self.clock = clock
        directory = place.data_dir / node
        self.journal = Journal(directory, clock, 1 << 20)
        home = home_of(directory)
        holder = Holder(holder_name(home, self.journal.tag), home, round(LEASE_SECONDS * 1e6))
        self.desk = BudgetDesk(BudgetLeaseRepository(self.database), clock, holder)

    async def reserve(self, row: BudgetRow, amount: int, others: tuple["Process", ...] = ()) -> Hold:
        """A hold of this much, with the turns of all processes that it takes. Raises Shortage."""
        hold = self.desk.hold(((row.id, row.window),), self.clock.now_us())
        try:
            if hold.try_resize(amount):
                return hold
        except Shortage:
            hold.settle(0)
            raise
        task = asyncio.ensure_future(hold.resize(amount))
        await asyncio.sleep(0)
        while not task.done():
            for process in (self, *others):
                await process.desk.turn()
            self.clock.advance(0.25)
            await asyncio.sleep(0)
        try:
            await task
        except Shortage:
            hold.settle(0)
            raise
        return hold

    def finish(self, row: BudgetRow, hold: Hold, cost: int, name: str, at: int | None = None) -> None:
        """The call of a hold that began at this instant, else now, is over: recorded, then settled."""
        record = RequestRecord(
            request_id=name, created_at=self.clock.now_us() if at is None else at, operation="chat", route="/",
            dialect="openai", workspace_id="default", key_id="key_1", status=200, outcome=Outcome.SUCCESS,
            input_tokens=1, cost_nano_usd=cost,
        )  # fmt: skip
        charge(Bound((row,), ((row.id, row.window),), "plain"), record)
        self.journal.append(record)
        hold.settle(cost)

    async def die(self) -> None:
        """As kill -9: nothing is given back, and the journal is nobody's any more."""
        self.journal.close()
        await self.database.aclose()


class Stage:
    """A database, processes, and the projector of a node: by default the only one."""

    def __init__(self, place: DatabasePlace, clock: DrivenClock) -> None:
        self.place = place
        self.clock = clock
        self.database: Database = place.open()
        self.rows = BudgetRepository(self.database)
        self.budgets = BudgetService(self.rows, clock)
        self.projector = Projector(self.database, place.data_dir / "journal", clock, batch_rows=50, retention_days=7)
        self.processes: list[Process] = []

    def process(self, node: str = "journal") -> Process:
        """One more."""
        self.processes.append(Process(self.place, self.clock, node))
        return self.processes[-1]

    def keeper(self, node: str = "journal") -> LeaseKeeper:
        """The one of a node."""
        home = home_of(self.place.data_dir / node)
        return LeaseKeeper(BudgetLeaseRepository(self.database), self.clock, home, LEASE_SECONDS)

    async def project(self) -> None:
        """Everything that is written is stored, and what dead processes held is free."""
        await self.projector.drain()
        await self.projector.release()


@contextlib.asynccontextmanager
async def stage(place: DatabasePlace) -> AsyncIterator[Stage]:
    """Closed at the end."""
    one = Stage(place, DrivenClock())
    try:
        yield one
    finally:
        for process in one.processes:
            await process.die()
        await one.database.aclose()
