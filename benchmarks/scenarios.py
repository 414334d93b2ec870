"""What is run against the targets, in interleaved rounds: each round measures every target once, in turn.

Other work on the machine comes and goes within minutes, so a ratio is only fair between neighbours: it is taken within
a round, and the median over the rounds counts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load, Result, wait_for_answer
from benchmarks.measure import Meter, Sample, wait_until_settled
from benchmarks.targets import Running, Target, start_target

LADDER = (1, 32, 64, 256)
STEADY_CONNECTIONS = 32
STARTS_AGAIN = 5


@dataclass(frozen=True)
class Effort:
    """How often and how long each target is measured. Seconds of plain requests are rounded up to whole ones."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class StreamShape:
    """One load of streams: kind of upstream, streams at once, and over how long their starts are spread."""

    title: str
    upstream: str
    connections: int
    ramp_ms: int


# The ramps are no multiple of the gaps, so that the streams' events do not fall on the same instants.
STREAMS = {
    "streams-fast": StreamShape("32 streams, no gaps", "plain", 32, 0),
    "streams-5ms": StreamShape("300 streams, 5 ms gaps", "5ms", 300, 230),
    "streams-25ms": StreamShape("500 streams, 25 ms gaps", "25ms", 500, 530),
}
NAMES = ("start", "requests", "latency", *STREAMS)

FULL = {
    "requests": Effort(5, 3),
    "latency": Effort(3, 2),
    "streams-fast": Effort(3, 2),
    "streams-5ms": Effort(2, 3),
    "streams-25ms": Effort(2, 3),
}
QUICK = {
    "requests": Effort(2, 1),
    "latency": Effort(1, 1),
    "streams-fast": Effort(1, 1),
    "streams-5ms": Effort(1, 1),
    "streams-25ms": Effort(1, 1),
}


@dataclass(frozen=True)
class Outcome:
    """All samples of one scenario by target. ``paced``: the load offers a fixed rate, so latencies can be compared."""

    title: str
    unit: str
    paced: bool
    samples: dict[str, list[Sample]]


@dataclass(frozen=True)
class StartTimes:
    """Seconds from exec to the first right answer: on an empty data directory, then on that directory again."""

    first_ever: float
    again: list[float]


@dataclass(frozen=True)
class Field:
    """The chosen targets, their processes, and what loads and measures them."""

    targets: list[Target]
    running: dict[str, Running | None]
    load: Load
    meter: Meter

    def pid(self, target: Target) -> int | None:
        """The process of a target; raises BenchError if it has ended."""
        process = self.running[target.name]
        if process is None:
            return None
        process.check_alive()
        return process.pid


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _rounds(field: Field, effort: Effort, load: Callable[[Target], Result]) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {target.name: [] for target in field.targets}
    for number in range(effort.rounds):
        for target in field.targets:
            pid = field.pid(target)
            sample = field.meter.run(pid, lambda target=target: load(target), settles=target.settles)
            samples[target.name].append(sample)
            _say(f"  round {number + 1}/{effort.rounds} {target.name}: {sample.rate:,.0f}/s")
    return samples


def warm_up(field: Field) -> None:
    """One second of requests on every target, not counted."""
    for target in field.targets:
        field.load.closed(target.json, 64, 1)
        pid = field.pid(target)
        if pid is not None and target.settles:
            wait_until_settled(pid)


def requests(field: Field, effort: Effort, connections: int) -> Outcome:
    """Plain requests as fast as ``connections`` can carry them."""
    title = f"requests, {connections} connections"
    _say(title)
    samples = _rounds(field, effort, lambda target: field.load.closed(target.json, connections, effort.seconds))
    return Outcome(title, "request", False, samples)


def latency(field: Field, effort: Effort) -> Outcome:
    """Plain requests to every target at one fixed rate: half of what the slowest can carry."""
    rates = []
    for target in field.targets:
        result = field.load.closed(target.json, STEADY_CONNECTIONS, 1)
        rates.append(result.done / result.seconds)
        pid = field.pid(target)
        if pid is not None and target.settles:
            wait_until_settled(pid)
    rate = max(100.0, round(min(rates) / 2, -2))
    title = f"half load, {STEADY_CONNECTIONS} connections, {rate:,.0f}/s"
    _say(title)
    run = field.load.steady
    samples = _rounds(field, effort, lambda target: run(target.json, STEADY_CONNECTIONS, rate, effort.seconds))
    return Outcome(title, "request", True, samples)


def streams(field: Field, effort: Effort, shape: StreamShape) -> Outcome:
    """Streams back to back; counts their events."""
    _say(shape.title)

    def load(target: Target) -> Result:
        endpoint = target.streams[shape.upstream]
        return field.load.streams(endpoint, shape.connections, effort.seconds, shape.ramp_ms)

    return Outcome(shape.title, "event", shape.upstream != "plain", _rounds(field, effort, load))


def start_times(target: Target, scratch: Path, core: int, *, favour: bool) -> StartTimes:
    """Starts and ends a target again and again; its data directory must not exist yet."""
    _say(f"start of {target.name}")
    times = []
    for number in range(1 + STARTS_AGAIN):
        begin = time.monotonic()
        running = start_target(target, scratch, core, favour=favour)
        try:
            wait_for_answer(target.json, running)
            times.append(time.monotonic() - begin)
        finally:
            if running is not None and not running.stop():
                _say(f"  {target.name} did not end on SIGTERM and was killed")
        _say(f"  start {number + 1}/{1 + STARTS_AGAIN}: {times[-1]:.3f} s")
    return StartTimes(times[0], times[1:])


def median_start(times: StartTimes) -> float:
    """The usual start: median of the starts on an existing data directory, in seconds."""
    return statistics.median(times.again)
