"""Projection at a high rate: another process does it, each record once, and it ends with its parent."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from databases import DatabasePlace
from pointsman.accounting import idle
from pointsman.accounting.burst import Burst, Order
from pointsman.accounting.idle import GivingWay
from pointsman.accounting.journal import Journal
from pointsman.accounting.projector import FAR_BEHIND_BYTES, Projector, ProjectorCounts
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
from pointsman.storage.database import Database
from pointsman.storage.requests import RequestRepository

COUNT = 3000


def fill(directory: Path, count: int) -> Journal:
    """A live segment with this many records."""
    journal = Journal(directory, SystemClock(), 1 << 26)
    for number in range(count):
        journal.append(
            RequestRecord(request_id=f"r{number}", created_at=number, operation="chat", route="/", dialect="d")
        )
    return journal


async def stored(database: Database) -> list[str]:
    """The ids in the database, in the order of storing."""
    rows = await RequestRepository(database).list_after(None, 0, 10 * COUNT)
    return [row.record.request_id for row in rows]


def test_a_high_rate_is_handed_over_and_every_record_is_stored_once(database_place: DatabasePlace) -> None:
    directory = database_place.data_dir / "journal"
    journal = fill(directory, COUNT)

    async def story() -> None:
        database = database_place.open()
        burst = Burst(database_place.data_dir, database_place.url)
        handed_over: list[int] = []
        work = burst.run

        async def counted(stop: asyncio.Event) -> object:
            done = await work(stop)
            handed_over.append(done.projected)
            return done

        burst.run = counted  # type: ignore[method-assign, assignment]
        projector = Projector(database, directory, SystemClock(), batch_rows=50, retention_days=7, high_rate=burst)
        running = asyncio.create_task(projector.run(0.01))
        async with asyncio.timeout(30):
            while len(await stored(database)) < COUNT:  # noqa: ASYNC110 - another process fills it
                await asyncio.sleep(0.02)
            projector.stop()
            await running
        assert sorted(await stored(database)) == sorted(f"r{number}" for number in range(COUNT))
        assert projector.counts.projected == COUNT
        assert sum(handed_over) > 0
        assert projector.lag().bytes == 0
        await database.aclose()

    asyncio.run(story())
    journal.close()


def test_a_long_journal_is_handed_over_behind_the_first_batch(database_place: DatabasePlace) -> None:
    directory = database_place.data_dir / "journal"
    journal = fill(directory, 2 * COUNT)

    class Taking:
        """Notes how far the projector was."""

        lag_bytes = None

        async def run(self, stop: asyncio.Event) -> ProjectorCounts:
            begun.append(projector.counts.projected)
            projector.stop()
            return ProjectorCounts()

    begun: list[int] = []
    database = database_place.open()
    projector = Projector(database, directory, SystemClock(), batch_rows=50, retention_days=7, high_rate=Taking())

    async def story() -> None:
        async with asyncio.timeout(30):
            await projector.run(0.01)
        await database.aclose()

    assert sum(path.stat().st_size for path in directory.glob("*.journal")) > FAR_BEHIND_BYTES + 50_000
    asyncio.run(story())
    journal.close()
    assert begun == [50]


def test_the_process_ends_when_its_parent_is_gone(database_place: DatabasePlace) -> None:
    fill(database_place.data_dir / "journal", 10).close()
    order = Order(data_dir=str(database_place.data_dir), database_url=database_place.url)
    command = [sys.executable, "-P", "-m", "pointsman.accounting.burst"]
    done = subprocess.run(
        command, input=msgspec.json.encode(order) + b"\n", capture_output=True, timeout=30, check=True
    )
    assert b'"counts"' in done.stdout


def test_a_background_process_gives_way_at_every_turn_of_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[None] = []
    monkeypatch.setattr(idle, "give_way", lambda: turns.append(None))

    async def story() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(GivingWay())) as runner:
        runner.run(story())
    assert len(turns) >= 10
