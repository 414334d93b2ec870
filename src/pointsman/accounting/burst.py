"""Projection at high rates, by a process of its own.

At some thousand requests a second projection takes a good part of a core, and inside the serving process its thread
and the event loop would wait for each other's turn at the interpreter. So the projector hands over while the rate is
high: the process runs only when the processor has nothing else to do, tells how far it is, and ends when the rate is
low again, or when its parent is gone. It begins no more than it can bring to an end soon, since others wait for the
locks of its transactions. When the journal grows too long, it gets an ordinary share. Two projectors do each other no
harm, so nothing depends on the hand-over being clean.
"""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pointsman.accounting.idle import GivingWay, Pace, step_back
from pointsman.accounting.projector import Projector, ProjectorCounts
from pointsman.clock import SystemClock
from pointsman.logs import configure_logging
from pointsman.orphans import die_with_parent
from pointsman.storage.database import Database, StorageError

INTERVAL_SECONDS: Final = 0.1
REPORT_SECONDS: Final = 0.25
ROWS_PER_BATCH: Final = 300  # 12 ms of a core; a thousand at once are hardly cheaper
# Others wait for the end of a transaction: the less of a core the process gets, the smaller it must be.
FEW_ROWS: Final = 100  # 6 ms: one or two turns at worst
GOOD_SHARE: Final = 0.25
LEAST_SHARE: Final = 0.02  # with less none is begun
LOW_RATE: Final = 500.0  # rows a second below which the serving process does it beside its work
# Its start takes half a second of a core, which requests feel in the processor's caches: no load needs two of them.
LOW_SECONDS: Final = 10.0
PROGRAM: Final = "from pointsman.accounting.burst import main; main(background=%r)"
STEPS_BETWEEN_TURNS: Final = 500  # of SQLite's machine, some 40 us: then it gives way
STARVED_SECONDS: Final = 10.0  # without progress, while records wait: then the serving process had better do it
URGENT_BYTES: Final = 256 * 1024 * 1024  # of waiting journal: from here on projecting is as important as serving
log = structlog.get_logger(__name__)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told on its first line of standard input. Segments are pruned by the parent alone."""

    data_dir: str
    database_url: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A line of its standard output: what it did so far, and the bytes of journal that still wait.

    ``unreadable_bytes`` of these can't be read: that they wait says nothing about the process.
    """

    counts: ProjectorCounts
    lag_bytes: int
    unreadable_bytes: int = 0


class Burst:
    """The parent's side: starts the process, follows its reports."""

    def __init__(self, data_dir: Path, database_url: str | None) -> None:
        self._order = Order(data_dir=str(data_dir), database_url=database_url)
        self._urgent = False
        self.lag_bytes: int | None = None  # while the process runs

    async def run(self, stop: asyncio.Event) -> ProjectorCounts:
        """Let it project until the rate is low, ``stop`` is set or it gets no turn; gives what it did.

        Raises OSError when it can't start.
        """
        urgent, self._urgent = self._urgent, False
        process = _start(background=not urgent)
        orders, output = process.stdin, process.stdout
        if orders is None or output is None:
            raise OSError("no pipes to the projecting process")
        counts, lines = ProjectorCounts(), asyncio.StreamReader()
        reading: asyncio.BaseTransport | None = None
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: orders.close())
        try:
            loop = asyncio.get_running_loop()
            reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), output)
            orders.write(msgspec.json.encode(self._order) + b"\n")
            async with asyncio.timeout(STARVED_SECONDS) as patience:
                async for line in lines:
                    report = _read_report(line)
                    if report is None:
                        continue
                    if report.counts.projected > counts.projected or report.lag_bytes <= report.unreadable_bytes:
                        patience.reschedule(loop.time() + STARVED_SECONDS)
                    counts, self.lag_bytes = report.counts, report.lag_bytes
                    if not urgent and report.lag_bytes > URGENT_BYTES:
                        self._urgent = True  # the next process, at once: this one can't raise itself
                        orders.close()
        except TimeoutError:
            log.warning("the projecting process gets no turn", waited_seconds=STARVED_SECONDS, lag_bytes=self.lag_bytes)
            process.kill()
        except BaseException:
            process.kill()
            raise
        finally:
            stopping.cancel()
            orders.close()
            if reading is not None:
                reading.close()
            self.lag_bytes = None
        return counts


def _start(*, background: bool) -> subprocess.Popen[bytes]:
    """The process, with its priority; a thread of its own takes note of its end. Raises OSError.

    Not by the event loop, which would give the new process some turns before it could be told to step back. And the
    loop must not wait for its end either, not even for a moment: Linux clears away an ended process' entries in /proc
    while its parent asks for it, together with its threads, which may be of the idle class and get no turn meanwhile.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM % background],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if background:
        step_back(process.pid)
    threading.Thread(target=process.wait, name="end of the projecting process", daemon=True).start()
    return process


def _read_report(line: bytes) -> Report | None:
    """What a line reports; None for a line of somebody else's (a library that prints), which ends nothing."""
    try:
        return msgspec.json.decode(line, type=Report)
    except msgspec.DecodeError:
        text = line[:300].decode("utf-8", "replace").rstrip()
        log.warning("the projecting process said something that is no report", line=text)
        return None


def rows_at(share: float) -> int:
    """The rows of a transaction of a process that gets this part of a core; 0: it must not begin any."""
    return 0 if share < LEAST_SHARE else FEW_ROWS if share < GOOD_SHARE else ROWS_PER_BATCH


async def project(order: Order, ended: asyncio.Event, pace: Pace | None = None) -> None:
    """The child's side: project until the rate has been low for a while, or the parent is gone.

    ``pace``: of a process that gives way to everybody.
    """
    clock = SystemClock()
    data_dir = Path(order.data_dir)
    database = Database.open(order.database_url, data_dir, inline=True)
    if pace is not None:
        database.between_steps(STEPS_BETWEEN_TURNS, pace.give_way)
    projector = Projector(database, data_dir / "journal", clock, batch_rows=ROWS_PER_BATCH, retention_days=1e6)
    rate, low_since, reported = LOW_RATE * 2, clock.monotonic(), 0.0
    try:
        while not ended.is_set():
            begin, most, rows = clock.monotonic(), ROWS_PER_BATCH, 0
            if pace is not None:
                pace.begin()
                most = rows_at(pace.share())
            if most:
                rows = await projector.step(most)
            if not most or (rows < most and not projector.one_by_one):
                await asyncio.sleep(INTERVAL_SECONDS)
            now = clock.monotonic()
            rate += (rows / max(now - begin, 1e-3) - rate) * min(1.0, now - begin)  # a mean over about a second
            if rate >= LOW_RATE or rows == most:  # it may be slow since it gets no turn
                low_since = now
            if now - reported > REPORT_SECONDS:
                reported = now
                _report(projector)
            if now - low_since > LOW_SECONDS:
                break
    finally:
        _report(projector)
        await database.aclose()


def _report(projector: Projector) -> None:
    lag = projector.lag()
    report = Report(counts=projector.counts, lag_bytes=lag.bytes, unreadable_bytes=lag.unreadable)
    line = msgspec.json.encode(report) + b"\n"
    try:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        pass  # the parent is gone; the end of standard input says so, too


async def _main(pace: Pace | None) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    order = msgspec.json.decode(await reader.readline(), type=Order)
    ended = asyncio.Event()

    async def watch() -> None:
        await reader.read()
        ended.set()

    watching = asyncio.create_task(watch())
    try:
        await project(order, ended, pace)
    except StorageError as error:
        log.warning("projection at high rate ended", reason=str(error))
    finally:
        watching.cancel()


def main(*, background: bool = False) -> None:
    """Read the order, project, report; ``background``: give way to everybody."""
    die_with_parent()
    configure_logging("info")  # to standard error: standard output belongs to the reports
    pace = Pace(SystemClock()) if background else None
    selector = None if pace is None else GivingWay(pace.give_way)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(_main(pace))


if __name__ == "__main__":
    main()
