"""``make soak``: a long, mixed load below the knee. Does anything grow: memory, open files, tasks, the journal's lag?

The load: buffered calls at a constant rate, streams at once and back to back, and clients and upstreams that misbehave.
"""

import argparse
import asyncio
import os
import random
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.load import Load, Result, wait_for_answer
from benchmarks.machine import BenchError
from benchmarks.measure import memory_mb, process_tree, wait_until_settled
from benchmarks.nuisance import Nuisances
from benchmarks.report import append_section
from benchmarks.slope import slope
from benchmarks.targets import (
    POINTSMAN_PORT,
    Running,
    pointsman,
    pointsman_program,
    require_free_ports,
    start_mock,
    start_target,
    start_tls,
)

SIMULATOR_PORT = 23600
SIMULATOR = (
    f'[[connections]]\nid = "sim"\nkind = "openai"\nbase_url = "http://127.0.0.1:{SIMULATOR_PORT}/v1"\n'
    'api_key = "sk-simulated-0123456789"\n'
)
INTERVAL_SECONDS = 5.0
CONNECTIONS = 32
STREAM_RAMP_MS = 730
# Caches, pools and the interpreter's own arenas fill up first, in a run of an hour until about minute 12: that says
# nothing about growth. A shorter run has no more than this part of it for that.
WARM_UP_MINUTES = 12.0
WARM_UP_PART = 0.4
SURE_MINUTES = 20.0
MOST_MB_PER_HOUR = 1.0
MOST_FILES_PER_HOUR = 10.0
MOST_TASKS_PER_HOUR = 10.0
MOST_BLOCKS_PER_HOUR = 15_000.0  # of some 70 bytes
MOST_LAG_MB = 8.0
GAUGES = {"tasks": "pointsman_asyncio_tasks", "blocks": "pointsman_python_blocks", "lag": "pointsman_journal_lag_bytes"}


@dataclass(frozen=True)
class Moment:
    """One sample. ``seconds`` since the load began, ``blocks`` of Python's memory, ``lag`` in bytes of the journal."""

    seconds: float
    rss_mb: float
    files: float
    tasks: float
    blocks: float
    lag: float


@dataclass
class Soak:
    """What was seen: samples under load, the moment after it, and what the load programs and nuisances saw."""

    minutes: float
    rate: float
    streams: int
    moments: list[Moment] = field(default_factory=list)
    before: Moment | None = None
    after: Moment | None = None
    results: dict[str, Result] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Table, verdict and what the load saw, in Markdown."""
        lines = ["| figure | before | median | highest | after | per hour |", "|---|--:|--:|--:|--:|--:|"]
        lines += [self._row(name, title) for name, title in FIGURES.items()]
        lines += ["", *[f"- {line}" for line in [*self._load(), self.verdict()]]]
        return "\n".join(lines)

    def _steady(self) -> list[Moment]:
        begin = min(WARM_UP_MINUTES, self.minutes * WARM_UP_PART) * 60
        return [moment for moment in self.moments if moment.seconds >= begin]

    def growth(self, name: str) -> tuple[float, float]:
        """Growth per hour after the warm-up, and its standard error."""
        steady = self._steady()
        line = slope([moment.seconds for moment in steady], [getattr(moment, name) for moment in steady])
        return line.per_second * 3600, line.error * 3600

    def _row(self, name: str, title: str) -> str:
        values = sorted(getattr(moment, name) for moment in self.moments)
        edges = [f"{getattr(moment, name):,.1f}" if moment else "-" for moment in (self.before, self.after)]
        rise, error = self.growth(name)
        cells = [edges[0], f"{values[len(values) // 2]:,.1f}", f"{values[-1]:,.1f}", edges[1]]
        return f"| {title} | {' | '.join(cells)} | {rise:+,.2f} ± {error:,.2f} |"

    def _load(self) -> list[str]:
        lines = [
            f"{name}: {result.done:,} in {result.seconds:.0f} s, {result.failed} failed, p50 {result.p50:.2f} ms, "
            f"p99 {result.p99:.2f} ms"
            for name, result in self.results.items()
        ]
        seen = ", ".join(f"{what} {count:,}" for what, count in sorted(self.statuses.items()))
        return [*lines, f"nuisances: {seen}"]

    def complaints(self) -> list[str]:
        """What is wrong, each as a sentence; empty when the soak was passed."""
        found = list(self.faults)
        limits = {
            "rss_mb": MOST_MB_PER_HOUR,
            "files": MOST_FILES_PER_HOUR,
            "tasks": MOST_TASKS_PER_HOUR,
            "blocks": MOST_BLOCKS_PER_HOUR,
        }
        for name, limit in limits.items():
            rise, error = self.growth(name)
            if self.minutes >= SURE_MINUTES and rise - 2 * error > limit:
                found.append(f"{FIGURES[name]} grow by {rise:,.1f} ± {error:,.1f} an hour")
        found += [f"{name}: {result.failed} failed" for name, result in self.results.items() if result.failed]
        if self.moments and max(moment.lag for moment in self._steady()) > MOST_LAG_MB * 2**20:
            found.append(f"the journal was more than {MOST_LAG_MB:g} MB ahead of the database")
        if self.statuses.get("no answer"):
            found.append(f"{self.statuses['no answer']} requests got no answer")
        return found

    def verdict(self) -> str:
        """One sentence."""
        found = self.complaints()
        if found:
            return f"verdict: FAILED: {'; '.join(found)}"
        if self.minutes < SURE_MINUTES:
            return f"verdict: nothing found, but {self.minutes:g} minutes are too short to tell a slow leak"
        rise, error = self.growth("rss_mb")
        sure = rise + 2 * error < MOST_MB_PER_HOUR
        return "verdict: passed" if sure else "verdict: passed, but memory moves too much for a sure figure"


FIGURES = {
    "rss_mb": "RSS MB",
    "files": "open files",
    "tasks": "asyncio tasks",
    "blocks": "blocks of Python's",
    "lag": "journal lag bytes",
}


def look(pid: int, begin: float) -> Moment:
    """A sample of a process tree and of its gauges."""
    with urllib.request.urlopen(f"http://127.0.0.1:{POINTSMAN_PORT}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    gauges = {}
    for name, gauge in GAUGES.items():
        found = re.search(rf"^{gauge} (\S+)$", metrics, re.MULTILINE)
        if found is None:
            raise BenchError(f"/metrics has no {gauge}")
        gauges[name] = float(found[1])
    size = memory_mb(pid)
    files = sum(len(os.listdir(f"/proc/{one}/fd")) for one in process_tree(pid))
    return Moment(
        time.monotonic() - begin, size[0] if size else 0.0, files, gauges["tasks"], gauges["blocks"], gauges["lag"]
    )


def _start_simulator(scratch: Path, core: str, stack: ExitStack) -> None:
    command = [pointsman_program(), "simulate", "openai", "--port", str(SIMULATOR_PORT)]
    simulator = Running("simulator", command, core, scratch / "simulator.log", env={}, favour=False)
    stack.callback(simulator.stop)


def _load_threads(soak: Soak, load: Load, seconds: float) -> list[threading.Thread]:
    """The load programs, each waited for in a thread of its own."""
    endpoints = pointsman().endpoints

    def steady() -> None:
        soak.results["buffered calls"] = load.steady(endpoints["plain"], CONNECTIONS, soak.rate, seconds)

    def streams() -> None:
        soak.results["streams"] = load.streams(endpoints["25ms"], soak.streams, seconds, STREAM_RAMP_MS)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BenchError as error:
            soak.faults.append(str(error))

    return [threading.Thread(target=guarded, args=(work,), daemon=True) for work in (steady, streams)]


async def _watch(soak: Soak, running: Running, nuisances: Nuisances, seconds: float) -> None:
    """Samples until the time is over, with the nuisances beside."""
    begin = time.monotonic()
    task = asyncio.create_task(nuisances.run())
    try:
        while time.monotonic() - begin < seconds:
            await asyncio.sleep(INTERVAL_SECONDS)
            running.check_alive()
            moment = await asyncio.to_thread(look, running.pid, begin)
            soak.moments.append(moment)
            if len(soak.moments) % 12 == 0:
                print(f"  {moment.seconds / 60:.0f} min: {moment}", file=sys.stderr, flush=True)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    soak.statuses = dict(nuisances.statuses)


def run(soak: Soak, cores: tuple[str, str], nuisances_per_second: float) -> None:
    """Starts everything, loads and samples; raises BenchError when that cannot be done."""
    machine.require_tools()
    with ExitStack() as stack:
        programs = machine.build_programs()
        stack.enter_context(machine.only_one())
        target = pointsman(further=SIMULATOR)
        require_free_ports([target])
        scratch = machine.SCRATCH / "run"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        os.sched_setaffinity(0, {int(cores[1])})
        stack.callback(start_mock(programs, scratch, cores[1], favour=False).stop)
        stack.callback(start_tls(scratch, cores[1], favour=False).stop)
        _start_simulator(scratch, cores[1], stack)
        running = start_target(target, scratch, cores[0], favour=False)
        assert running is not None
        stack.callback(running.stop)
        wait_for_answer(target.json, running)
        load = Load(programs, scratch, cores[1], favour=False)
        wait_until_settled(running.pid)
        soak.before = look(running.pid, time.monotonic())
        threads = _load_threads(soak, load, soak.minutes * 60)
        for thread in threads:
            thread.start()
        asyncio.run(_watch(soak, running, Nuisances(nuisances_per_second, random.Random(1)), soak.minutes * 60))
        for thread in threads:
            thread.join()
        wait_until_settled(running.pid)
        soak.after = look(running.pid, time.monotonic())
        soak.faults += _bad_lines(scratch / "pointsman.log")
        running.check_alive()


def _bad_lines(log: Path) -> list[str]:
    """Complaints of the gateway itself in its log: errors and tracebacks."""
    text = log.read_text(errors="replace")
    found = [line for line in text.splitlines() if '"level":"error"' in line or line.startswith("Traceback")]
    return [f"{len(found)} errors in {log}, the first: {found[0][:200]}"] if found else []


def main() -> int:
    """Soaks; 0 when passed, 1 when something grew or failed, 2 when it could not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="default 30")
    parser.add_argument("--rate", type=float, default=500.0, metavar="R", help="buffered calls a second, default 500")
    parser.add_argument("--streams", type=int, default=100, metavar="N", help="streams at once, default 100")
    parser.add_argument("--nuisances", type=float, default=20.0, metavar="R", help="misbehaving clients a second")
    parser.add_argument("--cores", metavar="A,B", default="0,1", help="core of the gateway, core of load and upstream")
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    first, second = options.cores.split(",")
    soak = Soak(options.minutes, options.rate, options.streams)
    try:
        run(soak, (first, second), options.nuisances)
    except BenchError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    print(soak.text())
    if options.record:
        command = shlex.join(["python", "-m", "benchmarks.soak", *sys.argv[1:]])
        append_section(f"soak of {soak.minutes:g} minutes", command, [], soak.text())
    return 1 if soak.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
