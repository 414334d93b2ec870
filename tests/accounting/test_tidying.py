"""What is over goes also while records come without a pause: leases of dead processes, old segments."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from budget_stage import Process, Stage, stage
from sqlalchemy import text

from databases import DatabasePlace
from pointsman.accounting import projector
from pointsman.accounting.journal import Journal
from pointsman.accounting.projector import Projector, ProjectorCounts
from pointsman.canonical.record import RequestRecord
from pointsman.storage.budgets import BudgetRow

BATCH_ROWS = 50  # of the stage's projector


class Steady:
    """In the place of another process: projects what there is, then goes on until it is told to end."""

    lag_bytes = None

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self.drained = asyncio.Event()
        self.running = False

    async def run(self, stop: asyncio.Event) -> ProjectorCounts:
        """Until ``stop``."""
        self.running = True
        try:
            await self._projector.drain()
            self.drained.set()
            await stop.wait()
        finally:
            self.running = False
        return self._projector.counts


class Scene:
    """A budget of which a dead process holds something, and the other process that has read its journal."""

    def __init__(self, one: Stage, row: BudgetRow, dead: Process, other: Steady, running: asyncio.Task[None]) -> None:
        self.one = one
        self.row = row
        self.dead = dead
        self.other = other
        self.running = running

    async def is_released(self) -> bool:
        """Whether the dead process holds nothing any more."""
        return not (await self.one.budgets.standing(self.row)).held

    async def is_pruned(self) -> bool:
        """Whether the dead process' segment is gone."""
        return not self.dead.journal.path.exists()


def fill(journal: Journal, count: int) -> None:
    """Append records that are nobody's."""
    for number in range(count):
        journal.append(
            RequestRecord(request_id=f"r{number}", created_at=number, operation="chat", route="/", dialect="d")
        )


async def die_with_a_lease(one: Stage, row: BudgetRow) -> Process:
    """A process that has recorded a call, and is killed during another."""
    dead = one.process()
    dead.finish(row, await dead.reserve(row, 500), 300, "req_1")
    await dead.reserve(row, 700)
    one.processes.remove(dead)
    await dead.die()
    return dead


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, at most 20 seconds."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - neither the database nor the projector has an event
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def high_rate(place: DatabasePlace) -> AsyncIterator[Scene]:
    """The projector has handed over behind its first batch; it is stopped in the end."""
    async with stage(place) as one, contextlib.AsyncExitStack() as stack:
        row, _ = await one.budgets.set("key", "key_1", 1000)
        fill(one.process().journal, BATCH_ROWS + 1)
        one.clock.advance(1)
        dead = await die_with_a_lease(one, row)
        database = place.open()
        stack.push_async_callback(database.aclose)
        directory = place.data_dir / "journal"
        other = Steady(Projector(database, directory, one.clock, batch_rows=BATCH_ROWS, retention_days=7))
        running = asyncio.create_task(one.projector.run(0.01, other))
        try:
            async with asyncio.timeout(20):
                await other.drained.wait()
            yield Scene(one, row, dead, other, running)
        finally:
            one.projector.stop()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "_TIDY_SECONDS", 0.01)
    monkeypatch.setattr(projector, "FAR_BEHIND_BYTES", 0)


def test_while_a_high_rate_lasts_leases_of_dead_processes_come_back_and_old_segments_go(
    database_place: DatabasePlace,
) -> None:
    async def story() -> None:
        async with high_rate(database_place) as scene:
            await until(scene.is_released)
            assert not await scene.is_pruned()
            scene.one.clock.advance(8 * 86_400)
            await until(scene.is_pruned)
            assert [process.journal.path.exists() for process in scene.one.processes] == [True]
            assert scene.other.running

    asyncio.run(story())


def test_what_fails_beside_a_high_rate_is_tried_again(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with high_rate(database_place) as scene:
            one = scene.one

            async def has_failed() -> bool:
                return one.projector.counts.failures > before

            async with one.database.write() as connection:
                await connection.execute(text("ALTER TABLE journal_segments RENAME TO hidden"))
            before = one.projector.counts.failures
            await until(has_failed)
            one.clock.advance(8 * 86_400)
            async with one.database.write() as connection:
                await connection.execute(text("ALTER TABLE hidden RENAME TO journal_segments"))
            await until(scene.is_pruned)
            assert await scene.is_released()
            assert scene.other.running

    asyncio.run(story())


def test_who_projects_at_a_high_rate_has_ended_when_the_projector_is_cancelled(sqlite_place: DatabasePlace) -> None:
    async def story() -> None:
        async with high_rate(sqlite_place) as scene:
            scene.running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await scene.running
            assert not scene.other.running

    asyncio.run(story())


def test_a_dead_process_lease_does_not_wait_for_the_records_of_others(
    database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[tuple[int, int]] = []  # how many leases, behind how many records

    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            await die_with_a_lease(one, row)
            one.clock.advance(1)
            fill(one.process().journal, 2 * BATCH_ROWS)
            release = one.projector.release

            async def noted() -> int:
                released.append((await release(), one.projector.counts.projected))
                return released[-1][0]

            async def is_projected() -> bool:
                return one.projector.counts.projected == 2 * BATCH_ROWS + 1

            monkeypatch.setattr(one.projector, "release", noted)
            running = asyncio.create_task(one.projector.run(0.01))
            await until(is_projected)
            one.projector.stop()
            await running

    asyncio.run(story())
    assert released[0] == (1, BATCH_ROWS)
