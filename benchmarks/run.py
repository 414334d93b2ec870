"""``make bench``: no proxy, nginx and Pointsman on one core, side by side; prints one table. See README.md."""

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, scenarios
from benchmarks.load import Load, ask_once, wait_for_answer
from benchmarks.machine import BenchError
from benchmarks.measure import Meter, memory_mb, wait_until_settled
from benchmarks.report import Report, append_record
from benchmarks.scenarios import Effort, Field
from benchmarks.targets import Target, require_free_ports, start_mock, start_target, targets


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under a minute, rough figures")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every scenario")
    parser.add_argument("--seconds", type=float, metavar="S", help="seconds of every run")
    parser.add_argument(
        "--only", metavar="A,B", help=f"scenarios: {', '.join(scenarios.NAMES)}; streams means all three"
    )
    parser.add_argument("--targets", metavar="A,B", help=f"targets: {', '.join(targets())}")
    parser.add_argument("--connections", metavar="A,B", default="64", help="connections of the requests scenario")
    parser.add_argument("--ladder", action="store_true", help="requests at 1, 32, 64 and 256 connections")
    parser.add_argument("--cores", metavar="A,B", default="0,1", help="core of the target, core of load and upstream")
    parser.add_argument("--favour", action="store_true", help="raise the priority on a busy machine; needs root")
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    return parser.parse_args(arguments)


def _chosen(text: str | None, known: list[str], what: str) -> list[str]:
    """The names in a comma-separated option, in their usual order; all without the option. Raises BenchError."""
    if text is None:
        return known
    names = [name.strip() for name in text.split(",")]
    if what == "scenario" and "streams" in names:
        names += scenarios.STREAMS
        names.remove("streams")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BenchError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def _efforts(options: argparse.Namespace) -> dict[str, Effort]:
    efforts = dict(scenarios.QUICK if options.quick else scenarios.FULL)
    for name, effort in efforts.items():
        rounds = effort.rounds if options.rounds is None else options.rounds
        seconds = effort.seconds if options.seconds is None else options.seconds
        efforts[name] = replace(effort, rounds=rounds, seconds=seconds)
    return efforts


def _lock(stack: ExitStack) -> None:
    """Only one benchmark at a time: a second one would share ports and cores with the first."""
    file = stack.enter_context((machine.SCRATCH / "lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise BenchError("another benchmark is running in this checkout") from None


def _start_all(field: Field, scratch: Path, core: int, report: Report, stack: ExitStack, *, favour: bool) -> None:
    """Starts every target, waits for its first right answer, and notes its memory while idle."""
    for target in field.targets:
        process = start_target(target, scratch, core, favour=favour)
        field.running[target.name] = process
        if process is not None:
            stack.callback(process.stop)
        for endpoint in [target.json, *target.streams.values()]:
            wait_for_answer(endpoint, process)
        if process is not None:
            wait_until_settled(process.pid)
            size = memory_mb(process.pid)
            if size:
                report.idle_mb[target.name] = size


def _measure(field: Field, names: list[str], options: argparse.Namespace, report: Report) -> None:
    efforts = _efforts(options)
    if "requests" in names:
        scenarios.warm_up(field)
        ladder = scenarios.LADDER if options.ladder else [int(n) for n in options.connections.split(",")]
        for connections in ladder:
            report.outcomes.append(scenarios.requests(field, efforts["requests"], connections))
    if "latency" in names:
        report.outcomes.append(scenarios.latency(field, efforts["latency"]))
    for name, shape in scenarios.STREAMS.items():
        if name in names:
            report.outcomes.append(scenarios.streams(field, efforts[name], shape))
    for target in field.targets:
        ask_once(target.json)  # answers must still be right after all that


def run(options: argparse.Namespace, report: Report) -> None:
    """Measures what the options say into ``report``; raises BenchError when that cannot be done or not be finished."""
    rows = targets()
    chosen: list[Target] = [rows[name] for name in _chosen(options.targets, list(rows), "target")]
    names = _chosen(options.only, list(scenarios.NAMES), "scenario")
    target_core, load_core = (int(core) for core in options.cores.split(","))
    machine.require_tools()
    machine.require_cores((target_core, load_core))
    with ExitStack() as stack:
        programs = machine.build_programs()
        _lock(stack)
        require_free_ports(chosen)
        scratch = machine.SCRATCH / "run"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        os.sched_setaffinity(0, {load_core})  # this program must not disturb the target
        mock = start_mock(programs, scratch, load_core, favour=options.favour)
        stack.callback(mock.stop)
        if "start" in names:
            for target in chosen:
                if target.timed_start:
                    report.starts[target.name] = scenarios.start_times(
                        target, scratch, target_core, favour=options.favour
                    )
        load = Load(programs, scratch, load_core, favour=options.favour)
        meter = Meter((target_core, load_core), mock.pid)
        field = Field(chosen, {}, load, meter)
        _start_all(field, scratch, target_core, report, stack, favour=options.favour)
        _measure(field, names, options, report)


def main() -> int:
    """Runs the benchmark; 0 when every answer was right, 1 when some failed, 2 when it could not run."""
    options = _options(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    begin = time.monotonic()
    report = Report()
    try:
        run(options, report)
    except BenchError as error:
        print(report.text())  # what was measured before
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(report.text())
    print(f"\n{time.monotonic() - begin:.0f} s in all")
    if options.record:
        append_record(report, shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]]))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
