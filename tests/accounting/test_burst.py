"""Projection at a high rate: another process does it, each record once, and it ends with its parent."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from databases import DatabasePlace
from gateway import wait_until
from pointsman.accounting import burst
from pointsman.accounting.burst import Burst, Order, Report
from pointsman.accounting.idle import Pace
from pointsman.accounting.journal import Journal
from pointsman.accounting.projector import FAR_BEHIND_BYTES, Projector, ProjectorCounts
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
from pointsman.storage.database import FILE_NAME, Database
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


def append_alike(journal: Journal, count: int) -> None:
    """Records of one provider, of which a database that was told so takes only one."""
    for number in range(count):
        journal.append(
            RequestRecord(
                request_id=f"p{number}", created_at=number, operation="chat", route="/", dialect="d", provider="p"
            )
        )


async def refuse_alike(database: Database) -> None:
    """Tell it so."""
    async with database.write() as connection:
        await connection.execute(text("CREATE UNIQUE INDEX once ON requests (provider)"))


async def stored(database: Database) -> list[str]:
    """The ids in the database, in the order of storing."""
    rows = await RequestRepository(database).list_after(None, 0, 10 * COUNT)
    return [row.record.request_id for row in rows]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started from now on."""
    started: list[subprocess.Popen[bytes]] = []
    real = burst._start

    def start(*, background: bool) -> subprocess.Popen[bytes]:
        started.append(real(background=background))
        return started[-1]

    monkeypatch.setattr(burst, "_start", start)
    return started


def test_a_high_rate_is_handed_over_and_every_record_is_stored_once(database_place: DatabasePlace) -> None:
    directory = database_place.data_dir / "journal"
    journal = fill(directory, COUNT)

    async def story() -> None:
        database = database_place.open()
        other = Burst(database_place.data_dir, database_place.url)
        handed_over: list[int] = []
        work = other.run

        async def counted(stop: asyncio.Event) -> object:
            done = await work(stop)
            handed_over.append(done.projected)
            return done

        other.run = counted  # type: ignore[method-assign, assignment]
        projector = Projector(database, directory, SystemClock(), batch_rows=50, retention_days=7)
        running = asyncio.create_task(projector.run(0.01, other))
        async with asyncio.timeout(90):
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
    projector = Projector(database, directory, SystemClock(), batch_rows=50, retention_days=7)

    async def story() -> None:
        async with asyncio.timeout(30):
            await projector.run(0.01, Taking())
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


def test_what_the_process_logs_is_not_among_its_reports(sqlite_place: DatabasePlace) -> None:
    (sqlite_place.data_dir / FILE_NAME).write_bytes(b"no database" * 1000)
    fill(sqlite_place.data_dir / "journal", 10).close()
    order = Order(data_dir=str(sqlite_place.data_dir), database_url=None)
    command = [sys.executable, "-P", "-m", "pointsman.accounting.burst"]
    done = subprocess.run(
        command, input=msgspec.json.encode(order) + b"\n", capture_output=True, timeout=30, check=False
    )
    assert b"projection at high rate ended" in done.stderr
    reports = [msgspec.json.decode(line, type=Report) for line in done.stdout.splitlines()]
    assert [report.counts.projected for report in reports] == [0]


def test_a_line_that_is_no_report_ends_nothing(sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    report = msgspec.json.encode(Report(counts=ProjectorCounts(projected=7), lag_bytes=0)).decode()
    lines = ("2026-11-22 12:00:00 [warning] said by somebody", "[]", report, "", "{")
    program = f"import sys; sys.stdin.readline(); [print(line) for line in {lines!r}]  # %r"
    monkeypatch.setattr(burst, "PROGRAM", program)

    async def story() -> ProjectorCounts:
        return await Burst(sqlite_place.data_dir, None).run(asyncio.Event())

    assert asyncio.run(story()) == ProjectorCounts(projected=7)


def test_a_process_that_gets_few_turns_goes_on_while_records_wait(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burst, "ROWS_PER_BATCH", 100)
    monkeypatch.setattr(burst, "LOW_RATE", 1e9)  # so every rate is low
    monkeypatch.setattr(burst, "LOW_SECONDS", 0.0)
    fill(sqlite_place.data_dir / "journal", COUNT).close()
    order = Order(data_dir=str(sqlite_place.data_dir), database_url=None)

    async def story() -> int:
        await burst.project(order, asyncio.Event())
        database = sqlite_place.open()
        try:
            return len(await stored(database))
        finally:
            await database.aclose()

    assert asyncio.run(story()) == COUNT


def test_the_process_is_in_the_idle_class_before_its_first_line(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "(__import__('os').sched_getscheduler(0), __import__('os').getpriority(0, 0))"
    monkeypatch.setattr(burst, "PROGRAM", f"print({told}, flush=True); __import__('sys').stdin.read()  # %r")
    heard: list[bytes] = []
    monkeypatch.setattr(burst, "_read_report", heard.append)

    async def story() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(Burst(sqlite_place.data_dir, None).run(stop))
        async with asyncio.timeout(30):
            while not heard:  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.01)
            stop.set()
            await running

    asyncio.run(story())
    assert heard == [f"({os.SCHED_IDLE}, 19)\n".encode()]


def test_the_less_of_a_core_a_process_gets_the_smaller_are_its_transactions() -> None:
    shares = (0.0, burst.LEAST_SHARE, burst.GOOD_SHARE, 1.0)
    assert [burst.rows_at(share) for share in shares] == [0, burst.FEW_ROWS, burst.ROWS_PER_BATCH, burst.ROWS_PER_BATCH]


def test_a_process_that_gets_no_turns_begins_no_transaction_until_it_gets_some(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burst, "INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(burst, "LOW_SECONDS", 0.0)
    fill(sqlite_place.data_dir / "journal", 10).close()
    order = Order(data_dir=str(sqlite_place.data_dir), database_url=None)
    stored_before: list[int] = []

    class Starving(Pace):
        """Gets enough of the processor at the twentieth look."""

        def share(self) -> float:
            if len(stored_before) == 20:
                return burst.LEAST_SHARE
            with closing(sqlite3.connect(sqlite_place.data_dir / FILE_NAME)) as connection:
                stored_before.extend(connection.execute("SELECT count(*) FROM requests").fetchone())
            return burst.LEAST_SHARE * 0.9

    async def story() -> int:
        await burst.project(order, asyncio.Event(), Starving(SystemClock()))
        database = sqlite_place.open()
        try:
            return len(await stored(database))
        finally:
            await database.aclose()

    assert asyncio.run(story()) == 10
    assert stored_before == [0] * 20


@pytest.mark.parametrize(
    "said",
    [(), (Report(counts=ProjectorCounts(), lag_bytes=9),) * 2, (Report(counts=ProjectorCounts(3), lag_bytes=9),) * 9],
    ids=["nothing", "no progress", "progress once"],
)
def test_a_process_that_makes_no_progress_is_ended(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch, said: tuple[Report, ...]
) -> None:
    lines = tuple(msgspec.json.encode(report).decode() for report in said)
    say = f"[(print(line, flush=True), time.sleep(0.05)) for line in {lines!r}]"
    monkeypatch.setattr(burst, "PROGRAM", f"import time; {say}; time.sleep(60)  # %r")
    monkeypatch.setattr(burst, "STARVED_SECONDS", 2.0)  # a busy machine may need one to start it
    started = watched(monkeypatch)

    async def story() -> ProjectorCounts:
        async with asyncio.timeout(20):
            return await Burst(sqlite_place.data_dir, None).run(asyncio.Event())

    assert asyncio.run(story()).projected == (said[-1].counts.projected if said else 0)
    [process] = started
    wait_until(lambda: process.returncode is not None, "end of the process")
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_goes_on_or_has_nothing_to_do_is_left_alone(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [Report(counts=ProjectorCounts(number), lag_bytes=9) for number in range(1, 11)]
    reports += [Report(counts=ProjectorCounts(10), lag_bytes=rest, unreadable_bytes=rest) for rest in range(10)]
    lines = tuple(msgspec.json.encode(report).decode() for report in reports)
    say = f"[(print(line, flush=True), time.sleep(0.1)) for line in {lines!r}]"
    monkeypatch.setattr(burst, "PROGRAM", f"import time; {say}  # %r")
    monkeypatch.setattr(burst, "STARVED_SECONDS", 1.2)  # of two seconds
    started = watched(monkeypatch)

    async def story() -> ProjectorCounts:
        return await Burst(sqlite_place.data_dir, None).run(asyncio.Event())

    assert asyncio.run(story()).projected == 10
    [process] = started
    wait_until(lambda: process.returncode is not None, "end of the process")
    assert process.returncode == 0


class Idle:
    """In the place of another process: notes when it is called, and does nothing, as one that can't run."""

    lag_bytes = None

    def __init__(self, error: OSError | None = None) -> None:
        self.calls = 0
        self._error = error

    async def run(self, stop: asyncio.Event) -> ProjectorCounts:
        """Nothing."""
        self.calls += 1
        if self._error is not None:
            raise self._error
        return ProjectorCounts()


@asynccontextmanager
async def projecting(projector: Projector, other: Idle) -> AsyncIterator[None]:
    """It runs, and may hand over to ``other``, until the end of the block, half a minute at most."""
    running = asyncio.create_task(projector.run(0.001, other))
    async with asyncio.timeout(30):
        yield
        projector.stop()
        await running


async def projected(projector: Projector, count: int) -> None:
    """Wait until it has projected so many."""
    while projector.counts.projected < count:  # noqa: ASYNC110 - the projector has no event to wait for
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("error", [None, OSError("no more processes")], ids=["ends_at_once", "can_not_start"])
def test_a_process_that_does_nothing_is_not_started_again_and_again(
    database_place: DatabasePlace, error: OSError | None
) -> None:
    directory = database_place.data_dir / "journal"
    journal = fill(directory, COUNT)
    other = Idle(error)
    database = database_place.open()
    projector = Projector(database, directory, SystemClock(), batch_rows=100, retention_days=7)

    async def story() -> None:
        async with projecting(projector, other):
            await projected(projector, COUNT)
        await database.aclose()

    asyncio.run(story())
    journal.close()
    assert other.calls == 1


def test_a_batch_that_failed_is_tried_again_before_anything_is_handed_over(database_place: DatabasePlace) -> None:
    # After it nobody knows what is in the database already: all of the journal seems to wait.
    directory = database_place.data_dir / "journal"
    journal = fill(directory, COUNT)
    other = Idle()
    database = database_place.open()
    projector = Projector(database, directory, SystemClock(), batch_rows=2 * COUNT, retention_days=7)

    async def story() -> None:
        async with projecting(projector, other):
            await projected(projector, COUNT)
            async with database.write() as connection:
                await connection.execute(text("ALTER TABLE requests RENAME TO hidden"))
            journal.append(RequestRecord(request_id="one", created_at=1, operation="chat", route="/", dialect="d"))
            while projector.counts.failures < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        await database.aclose()

    asyncio.run(story())
    journal.close()
    assert other.calls == 0


def test_nothing_is_handed_over_for_what_can_not_be_read_or_is_refused(
    database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = database_place.data_dir / "journal"
    journal = fill(directory, 5)
    append_alike(journal, 2)
    unreadable = directory / "0000000000000-1-0123456789abcdef.journal"
    unreadable.mkdir()  # a directory can be opened but not read
    monkeypatch.setattr("pointsman.accounting.projector.FAR_BEHIND_BYTES", unreadable.stat().st_size - 1)
    other = Idle()
    database = database_place.open()
    projector = Projector(database, directory, SystemClock(), batch_rows=100, retention_days=7)

    async def story() -> None:
        await refuse_alike(database)
        async with projecting(projector, other):
            await projected(projector, 6)
            while not projector.counts.refused:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        await database.aclose()

    asyncio.run(story())
    journal.close()
    assert other.calls == 0


def test_a_batch_that_is_refused_is_carried_one_by_one_without_a_rest(
    database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = fill(database_place.data_dir / "journal", 50)
    append_alike(journal, 2)
    monkeypatch.setattr(burst, "INTERVAL_SECONDS", 3600.0)

    async def story() -> None:
        database = database_place.open()
        await refuse_alike(database)
        order = Order(data_dir=str(database_place.data_dir), database_url=database_place.url)
        running = asyncio.create_task(burst.project(order, asyncio.Event()))
        async with asyncio.timeout(60):
            while len(await stored(database)) < 51:  # noqa: ASYNC110 - the process under test has no event to wait for
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await database.aclose()

    asyncio.run(story())
    journal.close()


@pytest.mark.parametrize("turns", range(1, 4))
def test_whoever_is_cancelled_while_the_process_starts_leaves_none_behind(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(burst, "PROGRAM", "import sys; sys.stdin.read()  # %r")
    started = watched(monkeypatch)

    async def story() -> None:
        running = asyncio.create_task(Burst(sqlite_place.data_dir, None).run(asyncio.Event()))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(story())
    [process] = started
    wait_until(lambda: process.returncode is not None, "end of the process")


def test_a_process_that_is_gone_before_it_was_told_anything_is_none(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = burst._start

    def start(*, background: bool) -> subprocess.Popen[bytes]:
        process = real(background=background)
        wait_until(lambda: process.returncode is not None, "end of the process")
        return process

    monkeypatch.setattr(burst, "PROGRAM", "pass  # %r")
    monkeypatch.setattr(burst, "_start", start)
    with pytest.raises(BrokenPipeError):
        asyncio.run(Burst(sqlite_place.data_dir, None).run(asyncio.Event()))
