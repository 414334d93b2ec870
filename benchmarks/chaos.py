"""``make chaos``: does work go on when upstreams fail all the time, and a worker is killed in the middle?

Four simulated providers with changing weather, many clients, and a gateway with two workers between them.
"""

import argparse
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.chaos_clients import Plan
from benchmarks.chaos_findings import Findings, read_records, read_rows, read_upstreams
from benchmarks.chaos_upstreams import PORTS
from benchmarks.machine import BenchError
from benchmarks.measure import process_tree
from benchmarks.report import append_section
from benchmarks.targets import KEY, Running, pointsman_program

GATEWAY_PORT = 24400
WORKERS = 2
LIMIT_SECONDS = 2.0  # to the head, to the first byte, and between two bytes of an upstream
DEADLINE_SECONDS = 20.0
START_SECONDS = 20.0
# Fine weather first: what the same load takes when nothing fails.
CALM_PART = 0.15
MOST_CALM_SECONDS = 30.0
# Every order of the four begins with another one.
NAMES = tuple(PORTS)
COMBOS = {f"from-{name}": [*NAMES[at:], *NAMES[:at]] for at, name in enumerate(NAMES)}


@dataclass(frozen=True)
class Options:
    """What was asked for. ``pause``: seconds between two requests of a client, on average."""

    minutes: float
    clients: int
    pause: float
    seed: int
    cores: str


def configuration() -> str:
    """The gateway's pointsman.toml."""
    limits = ("headers", "first_byte", "idle")
    parts = ["[local]\nenabled = false\n[upstream]", f"total_timeout_seconds = {DEADLINE_SECONDS}"]
    parts += [f"{name}_timeout_seconds = {LIMIT_SECONDS}" for name in limits]
    for name, port in PORTS.items():
        url = f"http://127.0.0.1:{port}{'/v1' if name == 'openai' else ''}"
        parts.append(f'[[connections]]\nid = "{name}"\nkind = "{name}"\nbase_url = "{url}"')
        if name != "ollama":
            parts.append('api_key = "sk-simulated-0123456789"')
    for combo, order in COMBOS.items():
        targets = ", ".join(f'"{name}/sim-model"' for name in order)
        parts.append(f'[[combos]]\nname = "{combo}"\ntargets = [{targets}]\nstrategy = "priority"')
    return "\n".join(parts) + "\n"


def require_free() -> None:
    """Raises BenchError when a port is taken."""
    for port in (GATEWAY_PORT, *PORTS.values()):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise BenchError(f"something already listens on 127.0.0.1:{port}; end it first")


def _wait(until: Callable[[], bool], what: str, running: Running, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        running.check_alive()
        if time.monotonic() > deadline:
            raise BenchError(f"{what} took longer than {seconds:g} s")
        time.sleep(0.05)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _workers(pid: int) -> list[int]:
    return [one for one in process_tree(pid) if one != pid]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Chaos:
    """One run: its processes and its files."""

    def __init__(self, options: Options, scratch: Path) -> None:
        self._options = options
        self._scratch = scratch
        self._data = scratch / "data"
        self._env = {"PYTHONPATH": f"{machine.ROOT}:{os.environ.get('PYTHONPATH', '')}"}

    def _start(self, stack: ExitStack, name: str, command: list[str]) -> Running:
        env = {**self._env, "POINTSMAN_BOOTSTRAP_KEY": KEY}
        running = Running(name, command, self._options.cores, self._scratch / f"{name}.log", env=env, favour=False)
        stack.callback(running.stop)
        return running

    def run(self) -> Findings:
        """Everything, to the end. Raises BenchError when it can't be done."""
        options = self._options
        seconds = options.minutes * 60
        calm = min(seconds * CALM_PART, MOST_CALM_SECONDS)
        weather, asked = self._scratch / "upstreams.jsonl", self._scratch / "clients.jsonl"
        with ExitStack() as stack:
            upstreams = self._start(
                stack, "upstreams", _python("benchmarks.chaos_upstreams", str(weather), str(options.seed))
            )
            log = self._scratch / "upstreams.log"
            _wait(lambda: "ready" in log.read_text(), "the upstreams' start", upstreams, START_SECONDS)
            gateway = self._gateway(stack)
            plan = Plan(
                GATEWAY_PORT, options.clients, seconds, options.pause, DEADLINE_SECONDS, options.seed, tuple(COMBOS)
            )
            command = _python("benchmarks.chaos_clients", msgspec.json.encode(plan).decode(), str(asked))
            clients = self._start(stack, "clients", command)
            _say(f"fine weather for {calm:.0f} s")
            time.sleep(calm)
            changed_at = time.monotonic()
            upstreams.send(signal.SIGUSR1)
            _say("the weather changes")
            time.sleep((seconds - calm) / 2)
            killed_at = time.monotonic()
            notes = self._kill_one(gateway)
            _wait(clients.ended, "the clients", gateway, seconds + DEADLINE_SECONDS + 30)
            notes += self._bad_lines()
            if not gateway.stop():
                notes.append("the gateway did not end by itself")
        calls, fine = read_upstreams(weather, time.monotonic())
        records, stored = read_records(self._data)
        rows = read_rows(asked)
        return Findings(rows, calls, fine, records, stored, changed_at, killed_at, DEADLINE_SECONDS, notes)

    def _gateway(self, stack: ExitStack) -> Running:
        config = self._scratch / "pointsman.toml"
        config.write_text(configuration())
        command = [pointsman_program(), "serve", "--host", "127.0.0.1", "--port", str(GATEWAY_PORT)]
        command += ["--workers", str(WORKERS), "--data-dir", str(self._data), "--config", str(config)]
        gateway = self._start(stack, "gateway", command)
        log = self._scratch / "gateway.log"
        _wait(lambda: log.read_text().count("worker ready") >= WORKERS, "the gateway's start", gateway, START_SECONDS)
        return gateway

    def _kill_one(self, gateway: Running) -> list[str]:
        before = _workers(gateway.pid)
        os.kill(before[0], signal.SIGKILL)
        _say(f"worker {before[0]} of {before} killed")

        def replaced() -> bool:
            return len(set(_workers(gateway.pid)) - set(before)) > 0

        try:
            _wait(replaced, "a new worker", gateway, START_SECONDS)
        except BenchError as error:
            return [str(error)]
        return []

    def _bad_lines(self) -> list[str]:
        """Complaints of the gateway itself in its log."""
        lines = (self._scratch / "gateway.log").read_text(errors="replace").splitlines()
        found = [line for line in lines if '"level":"error"' in line or line.startswith("Traceback")]
        expected = [line for line in found if "worker" in line]  # that one was killed is to be told
        found = [line for line in found if line not in expected]
        return [f"{len(found)} errors in the gateway's log, the first: {found[0][:300]}"] if found else []


def main() -> int:
    """0 when all held, 1 when something did not, 2 when it could not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="default 1")
    parser.add_argument("--clients", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument(
        "--pause", type=float, default=1.0, metavar="S", help="a client's pause on average, default 1 s"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of weather and clients, default 1")
    parser.add_argument("--cores", metavar="A,B", default="0,1", help="cores of everything")
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    found = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = Options(found.minutes, found.clients, found.pause, found.seed, found.cores)
    scratch = machine.SCRATCH / "chaos"
    try:
        require_free()
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        findings = Chaos(options, scratch).run()
    except BenchError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    print(findings.text())
    if found.record:
        command = shlex.join(["python", "-m", "benchmarks.chaos", *sys.argv[1:]])
        append_section(f"chaos of {options.minutes:g} minutes", command, [], findings.text())
    return 1 if findings.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
