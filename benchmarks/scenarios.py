"""What is run against the targets, in interleaved rounds: each round measures every target once, in turn.

Other work on the machine comes and goes within minutes, so a ratio is only fair between neighbours: it is taken within
a round, and the median over the rounds counts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.load import Load, Result, wait_for_answer
from benchmarks.measure import Meter, Sample, wait_until_settled
from benchmarks.targets import FAST, TLS, TRANSLATED, TRANSLATED_STREAM, Running, Target, start_target

LADDER = (1, 8, 32, 64, 128, 256)
MAIN_STEP = 64  # measured longest
STEADY_CONNECTIONS = 32
LOWEST_RATE = 20.0


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
    "streams-fast": StreamShape("32 streams, no gaps", FAST, 32, 0),
    "streams-25ms": StreamShape("500 streams, 25 ms gaps", "25ms", 500, 530),
    "streams-5ms": StreamShape("100 streams, 5 ms gaps", "5ms", 100, 230),
    "streams-5ms-500": StreamShape("500 streams, 5 ms gaps", "5ms", 500, 230),
    "streams-translated": StreamShape("100 streams, 5 ms gaps, translated", TRANSLATED_STREAM, 100, 230),
    "streams-few": StreamShape("10 streams, 25 ms gaps", "25ms", 10, 530),  # as much as the slowest peers can carry
}
# Requests of another kind than the usual: kind of upstream -> title.
OTHERS = {
    TLS: "TLS upstream",
    "100kb": "100 kB both ways",
    "1mb": "1 MB both ways",
    TRANSLATED: "Anthropic's chat with a tool, translated",
}
OTHER_CONNECTIONS = {TLS: 64, "100kb": 32, "1mb": 16, TRANSLATED: 64}


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


def say(text: str) -> None:
    """A line about the progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _rounds(field: Field, effort: Effort, load: Callable[[Target], Result]) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {target.name: [] for target in field.targets}
    for number in range(effort.rounds):
        for target in field.targets:
            pid = field.pid(target)
            sample = field.meter.run(pid, partial(load, target), settles=target.settles)
            samples[target.name].append(sample)
            result = sample.result
            figures = f"{sample.rate:,.0f}/s, p50 {result.p50:.2f}, p99 {result.p99:.2f} ms"
            say(f"  round {number + 1}/{effort.rounds} {target.name}: {figures}")
    return samples


def settle(field: Field, target: Target) -> None:
    """Waits until a target has done what it does after its last answer."""
    pid = field.pid(target)
    if pid is not None and target.settles:
        wait_until_settled(pid)


def warm_up(field: Field) -> None:
    """One second of requests on every target, not counted."""
    for target in field.targets:
        field.load.closed(target.json, MAIN_STEP, 1)
        settle(field, target)


def requests(field: Field, effort: Effort, connections: int) -> Outcome:
    """Plain requests as fast as ``connections`` can carry them."""
    title = f"requests, {connections} connections"
    say(title)
    samples = _rounds(field, effort, lambda target: field.load.closed(target.json, connections, effort.seconds))
    return Outcome(title, "request", False, samples)


def others(field: Field, effort: Effort, kind: str) -> Outcome:
    """Requests of another kind than the usual, as fast as they go."""
    connections = OTHER_CONNECTIONS[kind]
    title = f"{OTHERS[kind]}, {connections} connections"
    say(title)
    able = replace(field, targets=[target for target in field.targets if kind in target.endpoints])
    run = field.load.closed
    samples = _rounds(able, effort, lambda target: run(target.endpoints[kind], connections, effort.seconds))
    return Outcome(title, "request", False, samples)


def latency(field: Field, effort: Effort) -> Outcome:
    """Plain requests to every target at one fixed rate: half of what the slowest can carry."""
    rates = []
    for target in field.targets:
        result = field.load.closed(target.json, STEADY_CONNECTIONS, 1)
        rates.append(result.done / result.seconds)
        settle(field, target)
    rate = max(LOWEST_RATE, round(min(rates) / 2, -2 if min(rates) > 1000 else -1))
    title = f"half load, {STEADY_CONNECTIONS} connections, {rate:,.0f}/s"
    say(title)
    run = field.load.steady
    samples = _rounds(field, effort, lambda target: run(target.json, STEADY_CONNECTIONS, rate, effort.seconds))
    return Outcome(title, "request", True, samples)


def streams(field: Field, effort: Effort, shape: StreamShape) -> Outcome:
    """Streams back to back; counts their events."""
    say(shape.title)

    def load(target: Target) -> Result:
        endpoint = target.endpoints[shape.upstream]
        return field.load.streams(endpoint, shape.connections, effort.seconds, shape.ramp_ms)

    able = replace(field, targets=[target for target in field.targets if shape.upstream in target.endpoints])
    return Outcome(shape.title, "event", shape.upstream != FAST, _rounds(able, effort, load))


def start_times(target: Target, scratch: Path, cores: str, starts: int, *, favour: bool) -> StartTimes:
    """Starts and ends a target once and ``starts`` times more; its data directory must not exist yet."""
    say(f"start of {target.name}")
    times = []
    for number in range(1 + starts):
        begin = time.monotonic()
        running = start_target(target, scratch, cores, favour=favour)
        try:
            wait_for_answer(target.json, running)
            times.append(time.monotonic() - begin)
        finally:
            if running is not None and not running.stop():
                say(f"  {target.name} did not end on SIGTERM and was killed")
        say(f"  start {number + 1}/{1 + starts}: {times[-1]:.3f} s")
    return StartTimes(times[0], times[1:])


def median_start(times: StartTimes) -> float:
    """The usual start: median of the starts on an existing data directory, in seconds."""
    return statistics.median(times.again)
