"""Background work goes on after an error of a kind that nobody expects, here a want of threads to reach SQLite with."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from budget_stage import LEASE_SECONDS

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.accounting.budget_desk import BudgetDesk, EscrowError
from pointsman.accounting.journal import Journal
from pointsman.accounting.lease_keeper import LeaseKeeper
from pointsman.accounting.projector import Projector, ProjectorCounts
from pointsman.canonical.record import RequestRecord
from pointsman.canonical.windows import Window
from pointsman.clock import SystemClock
from pointsman.policy.budget_service import BudgetService
from pointsman.storage.budget_leases import BudgetLeaseRepository, Holder
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.database import Database


class Threads:
    """Whether there are any to be had, and how often there was none."""

    def __init__(self) -> None:
        self.refused = 0

    @contextlib.contextmanager
    def want(self) -> Iterator[None]:
        """As at a container's limit of processes."""

        def refuse(_: threading.Thread) -> None:
            self.refused += 1
            raise RuntimeError("can't start new thread")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            yield


class Scene:
    """A SQLite database as one process has it that has not asked it yet, and as another one has it."""

    def __init__(self, place: DatabasePlace) -> None:
        self.directory = place.data_dir / "journal"
        self.fresh = place.open()
        self.other = place.open()
        self.threads = Threads()


@contextlib.asynccontextmanager
async def scene(data_dir: Path) -> AsyncIterator[Scene]:
    """Closed at the end."""
    place = DatabasePlace(url=None, data_dir=data_dir)
    one = Scene(place)
    try:
        await one.other.migrate()
        yield one
    finally:
        for database in (one.fresh, one.other):
            await database.aclose()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, at most 20 seconds."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - nobody has an event for this
            await asyncio.sleep(0.005)


def test_the_projector_goes_on_after_a_want_of_threads(tmp_path: Path) -> None:
    async def story() -> None:
        async with scene(tmp_path) as one:
            journal = Journal(one.directory, SystemClock(), 1 << 20)
            journal.append(RequestRecord(request_id="r", created_at=1, operation="chat", route="/", dialect="d"))
            projector = Projector(one.fresh, one.directory, SystemClock(), batch_rows=10, retention_days=7)
            running = asyncio.create_task(projector.run(0.005))

            async def is_noticed() -> bool:
                return projector.counts.failures > 0 or running.done()

            async def is_projected() -> bool:
                return projector.counts.projected == 1 or running.done()

            with one.threads.want():
                await until(is_noticed)
            await until(is_projected)
            projector.stop()
            await running
            assert projector.counts.projected == 1
            journal.close()

    asyncio.run(story())


def test_the_projector_goes_on_when_what_does_it_at_a_high_rate_fails_unexpectedly(tmp_path: Path) -> None:
    class Broken:
        lag_bytes = None
        asked = 0

        async def run(self, stop: asyncio.Event) -> ProjectorCounts:
            self.asked += 1
            raise RuntimeError("can't start new thread")

    async def story() -> None:
        async with scene(tmp_path) as one:
            journal = Journal(one.directory, SystemClock(), 1 << 20)
            projector = Projector(one.fresh, one.directory, SystemClock(), batch_rows=1, retention_days=7)
            broken = Broken()
            for number in range(20):
                record = RequestRecord(request_id=f"{number}", created_at=1, operation="chat", route="/", dialect="d")
                journal.append(record)
            running = asyncio.create_task(projector.run(0.005, broken))

            async def is_projected() -> bool:
                return projector.counts.projected == 20 or running.done()

            await until(is_projected)
            projector.stop()
            await running
            assert (projector.counts.projected, broken.asked) == (20, 1)
            journal.close()

    asyncio.run(story())


def test_the_keeper_of_leases_goes_on_after_a_want_of_threads(tmp_path: Path) -> None:
    async def story() -> None:
        async with scene(tmp_path) as one:
            escrow = BudgetLeaseRepository(one.other)
            await escrow.register(Holder("home-one", "home", 1_000_000))
            [before] = await escrow.homes()
            keeper = LeaseKeeper(BudgetLeaseRepository(one.fresh), SystemClock(), "home", 0.05)
            stopping = asyncio.Event()
            running = asyncio.create_task(keeper.run(stopping))

            async def is_noticed() -> bool:
                return one.threads.refused > 0

            async def is_heard_of() -> bool:
                return (await escrow.homes())[0].beat > before.beat or running.done()

            with one.threads.want():
                await until(is_noticed)
            await until(is_heard_of)
            stopping.set()
            await running
            assert (await escrow.homes())[0].beat > before.beat

    asyncio.run(story())


async def budget_of(database: Database) -> tuple[tuple[str, Window], ...]:
    """One of a key's."""
    row, _ = await BudgetService(BudgetRepository(database), DrivenClock()).set("key", "key_1", 1000)
    return ((row.id, row.window),)


def test_a_desk_of_budgets_goes_on_after_a_want_of_threads(tmp_path: Path) -> None:
    async def story() -> None:
        async with scene(tmp_path) as one:
            budgets, clock = await budget_of(one.other), SystemClock()
            holder = Holder("home-one", "home", round(LEASE_SECONDS * 1e6))
            desk = BudgetDesk(BudgetLeaseRepository(one.fresh), clock, holder)
            running = asyncio.create_task(desk.run())
            hold = desk.hold(budgets, clock.now_us())
            with one.threads.want(), pytest.raises(EscrowError):
                await hold.resize(10)
            assert desk.events["failure"] == 1

            async def is_held() -> bool:
                try:
                    await hold.resize(10)
                except EscrowError:
                    return running.done()
                return True

            await until(is_held)
            assert hold.amount == 10
            hold.settle(0)
            desk.stop()
            await running

    asyncio.run(story())


def test_a_desk_of_budgets_ends_in_order_when_what_it_tells_last_fails_unexpectedly(tmp_path: Path) -> None:
    async def story() -> None:
        async with scene(tmp_path) as one:
            clock = SystemClock()
            desk = BudgetDesk(
                BudgetLeaseRepository(one.fresh), clock, Holder("home-one", "home", round(LEASE_SECONDS * 1e6))
            )
            hold = desk.hold(await budget_of(one.other), clock.now_us())
            waiting = asyncio.ensure_future(hold.resize(10))
            await asyncio.sleep(0)
            desk.stop()
            with one.threads.want():
                await desk.run()
            with pytest.raises(EscrowError):
                await waiting

    asyncio.run(story())
