"""``make bench``: no proxy, nginx and Pointsman on one core, side by side; prints one table. See README.md."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import frontier, machine, memory, peers, plan, scenarios, workers
from benchmarks.load import Load, ask_once, wait_for_answer
from benchmarks.machine import BenchError
from benchmarks.measure import Meter, memory_mb, wait_until_settled
from benchmarks.report import Report, append_record
from benchmarks.scenarios import Effort, Field
from benchmarks.targets import Target, pointsman, require_free_ports, start_mock, start_target, start_tls, targets

GROWN = "pointsman-grown"
GROWN_PORT = 23409


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under a minute, rough figures")
    parser.add_argument("--full", action="store_true", help="more and longer rounds, some twenty minutes")
    parser.add_argument("--peers", action="store_true", help="measure other gateways too, see README.md")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every scenario")
    parser.add_argument("--seconds", type=float, metavar="S", help="seconds of every run")
    parser.add_argument("--only", metavar="A,B", help=f"scenarios: {', '.join(plan.NAMES)}; streams means all of them")
    parser.add_argument("--targets", metavar="A,B", help=f"targets: {', '.join(targets())}, and those of --peers")
    parser.add_argument("--data", type=Path, metavar="DIR", help="also Pointsman on this data directory, which grows")
    parser.add_argument("--connections", metavar="A,B", help="connections of the requests scenario")
    parser.add_argument("--cores", metavar="A,B", default="0,1", help="core of the target, core of load and upstream")
    parser.add_argument("--favour", action="store_true", help="raise the priority on a busy machine; needs root")
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    return parser.parse_args(arguments)


def _chosen(text: str | None, usual: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated option, in their usual order; the usual ones without it. Raises BenchError."""
    if text is None:
        return list(usual)
    names = [name.strip() for name in text.split(",")]
    if what == "scenario" and "streams" in names:
        names += [name for name in scenarios.STREAMS if name in plan.USUAL_SCENARIOS]
        names.remove("streams")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BenchError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def _scenario_names(options: argparse.Namespace) -> list[str]:
    usual = plan.PEER_SCENARIOS if options.peers else plan.QUICK_SCENARIOS if options.quick else plan.USUAL_SCENARIOS
    return _chosen(options.only, usual, plan.NAMES, "scenario")


def _connections(options: argparse.Namespace) -> list[int]:
    if options.connections is None:
        return list(plan.ladder(quick=options.quick, peers=options.peers))
    return [int(text) for text in options.connections.split(",")]


def _start_all(field: Field, scratch: Path, cores: str, report: Report, stack: ExitStack, *, favour: bool) -> None:
    """Starts every target, waits for its first right answers, and notes its memory while idle."""
    for target in field.targets:
        process = start_target(target, scratch, cores, favour=favour)
        field.running[target.name] = process
        if process is not None:
            stack.callback(process.stop)
        for endpoint in target.endpoints.values():
            wait_for_answer(endpoint, process)
        if process is not None:
            wait_until_settled(process.pid)
            size = memory_mb(process.pid)
            if size:
                report.idle_mb[target.name] = size


def _measure(
    field: Field, names: list[str], connections: list[int], efforts: dict[str, Effort], report: Report
) -> None:
    if "requests" in names:
        scenarios.warm_up(field)
        for step in connections:
            report.outcomes.append(scenarios.requests(field, plan.step_effort(efforts["requests"], step), step))
    if "latency" in names:
        report.outcomes.append(scenarios.latency(field, efforts["latency"]))
    if "frontier" in names:
        for target in (target for target in field.targets if target.prepare is not None):
            effort = efforts["frontier"]
            report.lines.append(frontier.find(target, field.load, effort.rounds, effort.seconds).line())
            scenarios.settle(field, target)
    for name, shape in scenarios.STREAMS.items():
        if name in names:
            report.outcomes.append(scenarios.streams(field, efforts[name], shape))
    for kind in scenarios.OTHERS:
        if kind in names:
            report.outcomes.append(scenarios.others(field, efforts[kind], kind))
    for target in field.targets:
        ask_once(target.json)  # answers must still be right after all that


def _prepare(options: argparse.Namespace, stack: ExitStack) -> tuple[list[Target], Path, Path]:
    """Checks tools, cores and ports, takes the lock; gives the targets, the load programs and an empty work folder."""
    machine.require_tools()
    machine.require_cores(_cores(options))
    programs = machine.build_programs()
    stack.enter_context(machine.only_one())
    rows = targets()
    if options.peers:
        rows |= peers.install()
    if options.data is not None:
        rows[GROWN] = pointsman(GROWN, GROWN_PORT, ("--data-dir", str(options.data.absolute())))
    chosen = [rows[name] for name in _chosen(options.targets, list(rows), list(rows), "target")]
    require_free_ports(chosen)
    scratch = machine.SCRATCH / "run"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return chosen, programs, scratch


def _cores(options: argparse.Namespace) -> tuple[int, int]:
    target, load = (int(core) for core in options.cores.split(","))
    return target, load


def run(options: argparse.Namespace, report: Report) -> None:
    """Measures what the options say into ``report``; raises BenchError when that cannot be done or not be finished."""
    names = _scenario_names(options)
    efforts = plan.efforts(quick=options.quick, full=options.full, rounds=options.rounds, seconds=options.seconds)
    cores = _cores(options)
    target_core, load_core = map(str, cores)
    favour = options.favour
    with ExitStack() as stack:
        chosen, programs, scratch = _prepare(options, stack)
        every = set(names) >= set(plan.USUAL_SCENARIOS)
        report.complete = every and not (options.quick or options.connections or options.targets)
        os.sched_setaffinity(0, {cores[1]})  # this program must not disturb the target
        mock = start_mock(programs, scratch, load_core, favour=favour)
        stack.callback(mock.stop)
        ends_tls = start_tls(scratch, load_core, favour=favour)
        stack.callback(ends_tls.stop)
        load = Load(programs, scratch, load_core, favour=favour)
        for target in chosen:
            if "start" in names and target.starts:
                starts = min(target.starts, efforts["start"].rounds)
                report.starts[target.name] = scenarios.start_times(target, scratch, target_core, starts, favour=favour)
            if "memory" in names and target.prepare is not None:
                running = start_target(target, scratch, target_core, favour=favour)
                report.lines.append(memory.measure(target, running, load, efforts["memory"].seconds).line())
        field = Field(chosen, {}, load, Meter(cores, [mock.pid, ends_tls.pid]))
        _start_all(field, scratch, target_core, report, stack, favour=favour)
        _measure(field, names, _connections(options), efforts, report)
        if "workers" in names and "pointsman" in field.running:
            both = Load(programs, scratch, f"{target_core},{load_core}", favour=favour)
            report.lines.append(workers.measure(mock, both, scratch, cores, efforts["workers"]))


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
