"""Every record of the journal is in the database exactly once."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from databases import DatabasePlace
from pointsman.accounting.journal import Journal, list_segments
from pointsman.accounting.projector import Lag, Projector
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
from pointsman.storage import tables
from pointsman.storage.database import FILE_NAME, Database, StorageError
from pointsman.storage.keys import KeyRepository, KeyRow
from pointsman.storage.nodes import NodeRepository, NodeRow
from pointsman.storage.requests import RequestRepository
from pointsman.storage.segments import SegmentRepository, SegmentRow

DAY_US = 86_400_000_000


class MovableClock(SystemClock):
    """The machine's clock, a given number of microseconds ahead."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us


CLOCK = SystemClock()


def record(number: int, key: str | None = None) -> RequestRecord:
    """A small record."""
    return RequestRecord(
        request_id=f"req_{number:06}", created_at=number, operation="chat", route="/v1", dialect="openai", key_id=key
    )


def projector(database: Database, directory: Path, *, batch_rows: int = 10, clock: SystemClock = CLOCK) -> Projector:
    """A projector with a small batch."""
    return Projector(database, directory, clock, batch_rows=batch_rows, retention_days=7)


def within(place: DatabasePlace, story: Callable[[Database, Path], Awaitable[None]]) -> None:
    """Run ``story`` with an open database and a directory for the journal."""

    async def run() -> None:
        database = place.open()
        try:
            await story(database, place.data_dir / "journal")
        finally:
            await database.aclose()

    asyncio.run(run())


async def stored(database: Database) -> list[str]:
    """The ids of all rows, in the order of storing."""
    async with database.read() as connection:
        query = select(tables.requests.c.request_id).order_by(tables.requests.c.sequence)
        return [row[0] for row in await connection.execute(query)]


def ids(*numbers: int) -> list[str]:
    """The ids of these records."""
    return [record(number).request_id for number in numbers]


def test_a_step_projects_one_batch_and_the_next_goes_on(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in range(25):
            journal.append(record(number))
        project = projector(database, directory)
        assert [await project.step() for _ in range(4)] == [10, 10, 5, 0]
        journal.append(record(25))
        assert await project.step() == 1
        assert await stored(database) == ids(*range(26))
        assert project.counts.projected == 26
        journal.close()

    within(database_place, story)


def test_projecting_again_from_the_start_gives_no_record_twice(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1000)
        for number in range(30):
            journal.append(record(number))
        journal.close()
        for _ in range(2):
            await projector(database, directory).drain()
            async with database.write() as connection:
                await connection.execute(text("DELETE FROM journal_segments"))
        assert sorted(await stored(database)) == ids(*range(30))

    within(database_place, story)


def test_a_new_projector_goes_on_where_a_dead_one_stood(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in range(30):
            journal.append(record(number))
        assert await projector(database, directory).step() == 10
        name = journal.path.name
        row = (await SegmentRepository(database).load([name]))[name]
        assert (row.records, row.damaged, row.finished) == (10, 0, False)
        later = projector(database, directory)
        await later.drain()
        assert later.counts.projected == 20
        journal.close()
        await later.drain()
        row = (await SegmentRepository(database).load([name]))[name]
        assert (row.position, row.records, row.finished) == (journal.path.stat().st_size, 30, True)

    within(database_place, story)


def test_the_last_use_of_a_key_is_that_of_its_newest_record(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        keys = KeyRepository(database)
        await keys.add(KeyRow(id="k", digest=b"d", name="n", hint="h", role="inference", created_at=1))
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in (5, 9, 7):
            journal.append(record(number, "k"))
        journal.append(record(11, "unknown"))
        journal.close()
        await projector(database, directory, batch_rows=2).drain()
        assert [key.last_used_at for key in await keys.load_newest(100)] == [9]

    within(database_place, story)


def test_the_journals_of_several_processes_are_projected_together(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journals = [Journal(directory, CLOCK, 400) for _ in range(4)]
        order = [number % 4 for number in range(80)]
        random.Random(7).shuffle(order)
        project = projector(database, directory)
        for number, writer in enumerate(order):
            journals[writer].append(record(number))
            if number % 13 == 0:
                await project.step()
        await project.drain()
        assert sorted(await stored(database)) == ids(*range(80))
        for journal in journals:
            journal.close()

    within(database_place, story)


def test_damage_is_counted_once_and_the_records_around_it_are_projected(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in range(5):
            journal.append(record(number))
        journal.close()
        lines = journal.path.read_bytes().splitlines(keepends=True)
        lines[2] = lines[2].replace(b"openai", b"0penai")
        journal.path.write_bytes(b"".join(lines)[:-3])
        for _ in range(2):
            project = projector(database, directory, batch_rows=1)
            await project.drain()
        name = journal.path.name
        row = (await SegmentRepository(database).load([name]))[name]
        assert (row.records, row.damaged, row.finished) == (3, 2, True)
        assert await stored(database) == ids(0, 1, 3)
        assert project.counts.damaged == 0  # the second projector had nothing to do

    within(database_place, story)


def test_a_record_that_the_database_refuses_is_set_aside_and_the_others_are_stored(
    database_place: DatabasePlace,
) -> None:
    async def story(database: Database, directory: Path) -> None:
        async with database.write() as connection:
            await connection.execute(text("CREATE UNIQUE INDEX once ON requests (provider)"))
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in range(30):
            provider = "same" if number in (3, 17) else None
            journal.append(msgspec.structs.replace(record(number), provider=provider))
        journal.close()
        project = projector(database, directory)
        await project.drain()
        assert sorted(await stored(database)) == ids(*(number for number in range(30) if number != 17))
        assert (project.counts.projected, project.counts.refused) == (29, 1)

    within(database_place, story)


def test_lag_tells_what_waits_in_vain(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        unreadable = directory / "0000000000000-1-0123456789abcdef.journal"
        os.makedirs(unreadable)  # a directory can be opened but not read
        journal = Journal(directory, CLOCK, 1 << 20)
        journal.append(record(1))
        project = projector(database, directory)
        await project.drain()
        size = unreadable.stat().st_size
        assert project.lag() == Lag(bytes=size, segments=1, unreadable=size)
        unreadable.rmdir()
        unreadable.write_bytes(journal.path.read_bytes())  # somebody has mended it
        await project.drain()
        assert project.lag() == Lag(bytes=0, segments=0)
        journal.close()

    within(database_place, story)


def test_lag_tells_what_waits(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        project = projector(database, directory)
        assert project.lag() == Lag(bytes=0, segments=0)
        journals = [Journal(directory, CLOCK, 1 << 20) for _ in range(2)]
        for journal in journals:
            journal.append(record(1))
        size = sum(journal.path.stat().st_size for journal in journals)
        assert project.lag() == Lag(bytes=size, segments=2)
        await project.drain()
        assert project.lag() == Lag(bytes=0, segments=0)
        for journal in journals:
            journal.close()

    within(database_place, story)


def test_finished_segments_are_deleted_after_the_retention_and_no_other(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        clock = MovableClock()
        dead, live = Journal(directory, CLOCK, 1 << 20), Journal(directory, CLOCK, 1 << 20)
        for number, journal in enumerate((dead, live)):
            journal.append(record(number))
        dead.close()
        (directory / "9-9-0123456789abcdef.draft").touch()
        project = projector(database, directory, clock=clock)
        await project.drain()
        assert await project.prune() == 0
        clock.ahead_us = 8 * DAY_US
        late = Journal(directory, CLOCK, 1 << 20)
        late.append(record(2))
        late.close()
        assert await project.prune() == 1
        assert sorted(os.listdir(directory)) == sorted([live.path.name, late.path.name])
        assert set(await SegmentRepository(database).load([dead.path.name, live.path.name])) == {live.path.name}
        await project.drain()
        assert sorted(await stored(database)) == ids(0, 1, 2)
        live.close()

    within(database_place, story)


def test_nodes_of_which_nothing_was_heard_for_a_week_are_forgotten_and_no_other(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        nodes, now = NodeRepository(database), CLOCK.now_us()
        for name, days in (("killed", 7.1), ("away", 6.9), ("live", 0)):
            heard = now - round(days * DAY_US)
            await nodes.register(NodeRow(id=name, address="", version="", started_at=1, heartbeat_at=heard))
        await projector(database, directory).prune()
        assert sorted(node.id for node in await nodes.live(0)) == ["away", "live"]

    within(database_place, story)


def test_run_goes_on_after_failures_and_loses_nothing(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1 << 20)
        project = projector(database, directory)
        async with database.write() as connection:
            await connection.execute(text("ALTER TABLE requests RENAME TO hidden"))
        task = asyncio.create_task(project.run(0.005))
        for number in range(25):
            journal.append(record(number))
        await until(lambda: project.counts.failures > 0)
        async with database.write() as connection:
            await connection.execute(text("ALTER TABLE hidden RENAME TO requests"))
        await until(lambda: project.counts.projected == 25)
        journal.append(record(25))
        await until(lambda: project.counts.projected == 26)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await stored(database) == ids(*range(26))
        journal.close()

    within(database_place, story)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for ``condition``, at most 20 seconds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the projector has no event to wait for
            await asyncio.sleep(0.005)


def test_a_step_that_fails_at_its_very_end_has_stored_nothing_and_is_made_anew(
    database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StorageError("the database is away")

    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in range(20):
            journal.append(record(number))
        journal.close()
        project = projector(database, directory)
        with monkeypatch.context() as patch:
            patch.setattr(KeyRepository, "touch", away)  # the last thing in the transaction
            with pytest.raises(StorageError):
                await project.step()
        assert await stored(database) == []
        await project.drain()
        assert await stored(database) == ids(*range(20))

    within(database_place, story)


def test_a_step_that_is_cancelled_anywhere_leaves_whole_batches(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        journal = Journal(directory, CLOCK, 1 << 20)
        for number in range(60):
            journal.append(record(number))
        journal.close()
        project = projector(database, directory)
        for turns in range(24):
            task = asyncio.create_task(project.step())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            name = journal.path.name
            row = (await SegmentRepository(database).load([name])).get(name, SegmentRow(name=name))
            assert len(await stored(database)) == row.records
        await project.drain()
        assert await stored(database) == ids(*range(60))

    within(database_place, story)


def test_a_step_fails_with_a_storage_error_when_the_database_is_away(tmp_path: Path) -> None:
    async def story() -> None:
        database = Database.open("postgresql://nobody@127.0.0.1:9/none", tmp_path)
        journal = Journal(tmp_path / "journal", CLOCK, 1 << 20)
        journal.append(record(1))
        with pytest.raises(StorageError):
            await projector(database, tmp_path / "journal").step()
        journal.close()
        await database.aclose()

    asyncio.run(story())


WRITER = """
import sys
from pathlib import Path
from pointsman.accounting.journal import Journal
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
journal = Journal(Path(sys.argv[1]), SystemClock(), 5000)
number = 0
while True:
    name = f"{sys.argv[2]}_{number}"
    journal.append(RequestRecord(request_id=name, created_at=number, operation="o", route="/", dialect="d"))
    print(name, flush=True)
    number += 1
"""


def start_writer(directory: Path, name: str) -> subprocess.Popen[str]:
    """A process that appends records for ever and prints the id of each afterwards."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(directory), name], stdout=subprocess.PIPE, text=True)


def test_what_a_process_acknowledged_before_kill_9_is_projected(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        writers = [start_writer(directory, name) for name in ("one", "two")]
        acknowledged = []
        for writer in writers:
            assert writer.stdout is not None
            acknowledged += [writer.stdout.readline().strip() for _ in range(300)]
        project = projector(database, directory, batch_rows=200)
        await project.step()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            rest, _ = writer.communicate()
            acknowledged += rest.split("\n")[:-1]
        await project.drain()
        names = await stored(database)
        assert len(names) == len(set(names))
        # A writer may have died between the append and the print: one record each that nobody acknowledged.
        assert set(acknowledged) <= set(names)
        assert len(names) - len(acknowledged) <= 2
        rows = await SegmentRepository(database).load(list_segments(directory))
        assert len(rows) > 2
        assert all(row.finished for row in rows.values())
        assert project.lag() == Lag(bytes=0, segments=0)

    within(database_place, story)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("close"), st.integers(0, 2)),
        st.tuples(st.just("step"), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.integers(0, 1)),
        st.tuples(st.just("forget"), st.integers(0, 1)),
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS)
@example(actions=[("append", 0), ("step", 0), ("forget", 0), ("restart", 0)])
def test_any_interleaving_of_writers_and_projectors_gives_each_record_once(
    migrated_sqlite: Path, actions: list[tuple[str, int]]
) -> None:
    async def story(place: Path) -> None:
        database = Database.open(None, place)
        directory = place / "journal"
        journals = [Journal(directory, CLOCK, 500) for _ in range(3)]
        projectors = [projector(database, directory, batch_rows=2) for _ in range(2)]
        count = 0
        for action, which in actions:
            match action:
                case "append":
                    journals[which].append(record(count))
                    count += 1
                case "close":
                    journals[which].close()
                    journals[which] = Journal(directory, CLOCK, 500)
                case "step":
                    await projectors[which].step()
                case "restart":
                    projectors[which] = projector(database, directory, batch_rows=3)
                case "forget":
                    async with database.write() as connection:
                        await connection.execute(text("DELETE FROM journal_segments"))
        for journal in journals:
            journal.close()
        for project in projectors:
            await project.drain()
        assert sorted(await stored(database)) == ids(*range(count))
        await database.aclose()

    with tempfile.TemporaryDirectory() as place:
        shutil.copy(migrated_sqlite, Path(place) / FILE_NAME)
        asyncio.run(story(Path(place)))


def test_a_segment_that_can_not_be_read_does_not_stop_the_others(database_place: DatabasePlace) -> None:
    async def story(database: Database, directory: Path) -> None:
        os.makedirs(directory / "0000000000000-1-0123456789abcdef.journal")  # a directory can be opened but not read
        os.symlink(directory / "nowhere", directory / "0000000000000-2-0123456789abcdef.journal")
        journal = Journal(directory, CLOCK, 1 << 20)
        journal.append(record(1))
        journal.close()
        await projector(database, directory).drain()
        assert await RequestRepository(database).find("req_000001") == record(1)
        async with database.read() as connection:
            assert (await connection.execute(select(func.count()).select_from(tables.requests))).scalar() == 1

    within(database_place, story)
