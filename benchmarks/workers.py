"""One worker and two, when load, upstream and gateway compete for the same two cores."""

import os
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.load import Load, wait_for_answer
from benchmarks.measure import wait_until_settled
from benchmarks.scenarios import MAIN_STEP, Effort, say
from benchmarks.targets import Running, Target, pointsman, pointsman_program, start_target

PORTS = {1: 23401, 2: 23402}
NOT_AVAILABLE = "workers: not available, this Pointsman has no --workers"


def available() -> bool:
    """True when `pointsman serve` can run several workers."""
    command = [pointsman_program(), "serve", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    return "--workers" in text.stdout


def target(workers: int) -> Target:
    """Pointsman with so many workers."""
    return replace(pointsman(f"pointsman-{workers}w", PORTS[workers], ("--workers", str(workers))), starts=0)


def measure(mock: Running, load: Load, scratch: Path, cores: tuple[int, int], effort: Effort) -> str:
    """Requests through one worker and two in turn, nothing pinned to a core of its own; the findings as a sentence."""
    if not available():
        return NOT_AVAILABLE
    say("workers")
    both = ",".join(map(str, cores))
    pinned = os.sched_getaffinity(mock.pid)
    os.sched_setaffinity(mock.pid, set(cores))
    rates: dict[int, list[float]] = {workers: [] for workers in PORTS}
    try:
        with ExitStack() as stack:
            rows = {workers: _start(target(workers), load, scratch, both, stack) for workers in PORTS}
            for _ in range(effort.rounds):
                for workers, (row, pid) in rows.items():
                    wait_until_settled(pid)
                    result = load.closed(row.json, MAIN_STEP, effort.seconds)
                    rates[workers].append(result.done / result.seconds)
                    say(f"  {row.name}: {rates[workers][-1]:,.0f}/s")
    finally:
        os.sched_setaffinity(mock.pid, pinned)
    one, two = median(rates[1]), median(rates[2])
    shares = [second / first for first, second in zip(rates[1], rates[2], strict=True)]
    return (
        f"workers, {MAIN_STEP} connections, load and upstream on the same two cores: one {one:,.0f}/s, "
        f"two {two:,.0f}/s, {median(shares):.2f} times as much"
    )


def _start(row: Target, load: Load, scratch: Path, cores: str, stack: ExitStack) -> tuple[Target, int]:
    running = start_target(row, scratch, cores, favour=False)
    assert running is not None
    stack.callback(running.stop)
    wait_for_answer(row.json, running)
    load.closed(row.json, MAIN_STEP, 1)
    return row, running.pid
