"""Several processes spend one budget through its escrow, on real databases, with journals, projectors and crashes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.accounting.budget_books import holder_name, home_of
from pointsman.accounting.budget_desk import BudgetDesk, Hold
from pointsman.accounting.budget_pots import Shortage
from pointsman.accounting.journal import Journal
from pointsman.accounting.projector import Projector
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.policy.budget_service import BudgetService
from pointsman.policy.budgets import Bound, charge
from pointsman.storage.budget_leases import BudgetLeaseRepository
from pointsman.storage.budgets import BudgetRepository, BudgetRow
from pointsman.storage.database import Database


class Process:
    """One process with its journal and its desk; `turns` is what its background work would do."""

    def __init__(self, place: DatabasePlace, clock: DrivenClock) -> None:
        self.database = place.open()
        self.clock = clock
        directory = place.data_dir / "journal"
        self.journal = Journal(directory, clock, 1 << 20)
        home = home_of(directory)
        self.desk = BudgetDesk(BudgetLeaseRepository(self.database), clock, holder_name(home, self.journal.tag), home)

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
            self.clock.advance(0.06)
            await asyncio.sleep(0)
        try:
            await task
        except Shortage:
            hold.settle(0)
            raise
        return hold

    def finish(self, row: BudgetRow, hold: Hold, cost: int, name: str) -> None:
        """The call of a hold is over: recorded, then settled."""
        record = RequestRecord(
            request_id=name, created_at=self.clock.now_us(), operation="chat", route="/", dialect="openai",
            workspace_id="default", key_id="key_1", status=200, outcome=Outcome.SUCCESS, input_tokens=1,
            cost_nano_usd=cost,
        )  # fmt: skip
        charge(Bound((row,), ((row.id, row.window),)), record)
        self.journal.append(record)
        hold.settle(cost)

    async def die(self) -> None:
        """As kill -9: nothing is given back, and the journal is nobody's any more."""
        self.journal.close()
        await self.database.aclose()


class Stage:
    """A database, its projector, and processes."""

    def __init__(self, place: DatabasePlace, clock: DrivenClock) -> None:
        self.place = place
        self.clock = clock
        self.database: Database = place.open()
        self.rows = BudgetRepository(self.database)
        self.budgets = BudgetService(self.rows, clock)
        self.projector = Projector(self.database, place.data_dir / "journal", clock, batch_rows=50, retention_days=7)
        self.processes: list[Process] = []

    def process(self) -> Process:
        """One more."""
        self.processes.append(Process(self.place, self.clock))
        return self.processes[-1]

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


def test_what_a_call_reserves_and_does_not_spend_is_there_for_other_processes_within_one_round(
    database_place: DatabasePlace,
) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            first, second = one.process(), one.process()
            hold = await first.reserve(row, 1000)
            with pytest.raises(Shortage) as caught:
                await second.reserve(row, 1, (first,))
            assert (caught.value.grant.held, caught.value.grant.spent) == (1000, 0)
            first.finish(row, hold, 400, "req_1")
            one.clock.advance(0.2)
            second.finish(row, await second.reserve(row, 600, (first,)), 600, "req_2")
            one.clock.advance(0.2)
            with pytest.raises(Shortage):
                await first.reserve(row, 1, (second,))
            await one.project()
            standing = await one.budgets.standing(row)
            assert (standing.spent, standing.held, standing.calls) == (1000, 0, 2)
            assert await one.budgets.recount(row) == (1000, 1000)

    asyncio.run(story())


def test_a_dead_process_lease_comes_back_without_what_its_journal_says_it_spent(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            first, second = one.process(), one.process()
            first.finish(row, await first.reserve(row, 500), 300, "req_1")
            await first.reserve(row, 700)
            one.processes.remove(first)
            await first.die()
            with pytest.raises(Shortage):
                await second.reserve(row, 700)
            one.clock.advance(0.2)
            await one.project()
            standing = await one.budgets.standing(row)
            assert (standing.spent, standing.held) == (300, 0)
            second.finish(row, await second.reserve(row, 700), 700, "req_2")
            await one.project()
            assert (await one.budgets.standing(row)).spent == 1000

    asyncio.run(story())
