"""Healthy clients beside many idle connections and a slowloris attack, against `pointsman serve` as users run it.

`python -m benchmarks.slowloris [--idle 10000] [--attackers 1000] [--record]` prints how fast the healthy are answered
alone, beside the idle, and beside the attack as well. Each attacker sends a request byte by byte, one a second, half of
them in the head and half in the body, and comes back at once when it is cut off.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from ctypes import c_long
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from benchmarks.idle import PATIENCE_S, allow_files, chat, connect, gateway, resident_mib
from benchmarks.report import append_section
from benchmarks.targets import favour_session

BYTE_SECONDS = 1.0  # between two bytes of one attacker
CLIENTS = 16
PAUSE_SECONDS = 0.01  # of a healthy client between two calls
MOST_MS = 20.0
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\n"
ATTACKS = (HEAD + b"x-slow: ", HEAD + b"content-length: 100000\r\n\r\n")


@dataclass
class Stage:
    """What healthy clients saw: milliseconds of each call, and calls that went wrong."""

    name: str
    times: list[float] = field(default_factory=list)
    failed: int = 0
    resident_mib: float = 0.0

    def percentile(self, number: int) -> float:
        """Milliseconds that so many of a hundred calls took at most."""
        return quantiles(self.times, n=100)[number - 1] if len(self.times) > 1 else float("inf")

    def row(self) -> str:
        """A row of the table."""
        cells = [f"{len(self.times):,}", str(self.failed), *(f"{self.percentile(part):.2f}" for part in (50, 99))]
        return f"| {self.name} | {' | '.join(cells)} | {max(self.times):.2f} | {self.resident_mib:.0f} |"


@dataclass
class Siege:
    """All stages, idle connections that were still open at the end, and what the attackers did."""

    stages: list[Stage]
    idle_left: int = 0
    bytes_sent: int = 0
    cut_off: int = 0

    def text(self) -> str:
        """The table and what else was seen, in Markdown."""
        head = "| healthy clients | calls | failed | p50 ms | p99 ms | longest ms | RSS MiB |"
        lines = [head, "|---|--:|--:|--:|--:|--:|--:|", *(stage.row() for stage in self.stages)]
        lines += ["", f"- the attack: {self.bytes_sent:,} bytes one by one, {self.cut_off:,} connections cut off"]
        return "\n".join([*lines, f"- idle connections still open at the end: {self.idle_left:,}"])


class Attacker:
    """One slow connection, opened anew whenever the server ends it."""

    def __init__(self, port: int, beginning: bytes) -> None:
        self._port = port
        self._beginning = beginning
        self._socket: socket.socket | None = None

    def step(self) -> bool:
        """Send one more byte; False when the connection was cut off."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), PATIENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(self._beginning)
            self._socket.setblocking(False)
        try:
            self._socket.send(b"x")
            self._socket.recv(4096)  # an answer or the end: either way it is over
        except BlockingIOError:
            return True
        except OSError:
            pass
        self._socket.close()
        self._socket = None
        return False


def attack(port: int, count: int, sent: Any, cut_off: Any) -> None:
    """Attack for ever, in a process of its own; the shared numbers ``sent`` and ``cut_off`` are counted up."""
    attackers = [Attacker(port, ATTACKS[number % len(ATTACKS)]) for number in range(count)]
    while True:
        begin = time.monotonic()
        for number, attacker in enumerate(attackers):
            cut_off.value += not attacker.step()
            sent.value += 1
            time.sleep(max(0.0, begin + BYTE_SECONDS * number / count - time.monotonic()))


@contextlib.contextmanager
def attacking(port: int, count: int, siege: Siege) -> Iterator[None]:
    """The attack, once every attacker is connected; what it did is added to ``siege`` at its end."""
    context = multiprocessing.get_context("spawn")
    sent: Any = context.Value(c_long, 0, lock=False)
    cut_off: Any = context.Value(c_long, 0, lock=False)
    process = context.Process(target=attack, args=(port, count, sent, cut_off), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while sent.value < count:
            assert process.is_alive(), "the attack ended"
            assert time.monotonic() < deadline, "the attack does not begin"
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.join()
        siege.bytes_sent, siege.cut_off = sent.value, cut_off.value


async def _healthy(port: int, stage: Stage, end: float) -> None:
    """Calls on one connection with pauses, until the end."""
    message = chat("sim/sim-model#tokens=3", stream=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < end:
            begin = time.perf_counter()
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or b"0"))
            stage.times.append((time.perf_counter() - begin) * 1000)
            stage.failed += not head.startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(PAUSE_SECONDS)
    except (OSError, asyncio.IncompleteReadError):
        stage.failed += 1
    finally:
        writer.close()


def observe(name: str, pid: int, port: int, seconds: float) -> Stage:
    """What healthy clients see for some seconds."""
    stage = Stage(name)

    async def clients() -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(_healthy(port, stage, end) for _ in range(CLIENTS)))

    asyncio.run(clients())
    stage.resident_mib = resident_mib(pid)
    return stage


def connect_idlers(port: int, count: int) -> list[socket.socket]:
    """Connections that have had one answer: from then on they may be idle for long."""
    idlers = connect(port, count)
    for one in idlers:
        one.sendall(b"GET /health HTTP/1.1\r\nhost: bench\r\n\r\n")
        assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
    return idlers


def still_open(idlers: list[socket.socket]) -> int:
    """How many of these connections the server has not closed."""
    left = 0
    for one in idlers:
        one.setblocking(False)
        try:
            one.recv(1)
        except BlockingIOError:
            left += 1
    return left


def measure(idle: int, attackers: int, seconds: float, core: int | None = None, **server: float) -> Siege:
    """The three stages, of so many seconds each; the gateway on ``core``, with settings of the table ``server``."""
    allow_files(idle + 3 * attackers + 1000)
    with gateway(idle + 3 * attackers + 1000, server=server) as (process, port):
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        observe("warm-up", process.pid, port, min(2.0, seconds))
        siege = Siege([observe("alone", process.pid, port, seconds)])
        idlers = connect_idlers(port, idle)
        siege.stages.append(observe(f"beside {idle:,} idle connections", process.pid, port, seconds))
        with attacking(port, attackers, siege):
            siege.stages.append(observe(f"and {attackers:,} attackers", process.pid, port, seconds))
        siege.idle_left = still_open(idlers)
        for one in idlers:
            one.close()
    return siege


def main() -> int:
    """Measures; 0 when all is well and the healthy clients' p99 stays under MOST_MS."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slowloris", description=__doc__)
    parser.add_argument("--idle", type=int, default=10_000, metavar="N")
    parser.add_argument("--attackers", type=int, default=1_000, metavar="N")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of each stage, default 30")
    parser.add_argument("--cores", metavar="A,B", default="0,1", help="core of the gateway, core of all others")
    parser.add_argument("--favour", action="store_true", help="raise the priority on a busy machine; needs root")
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    options = parser.parse_args()
    first, second = (int(core) for core in options.cores.split(","))
    os.sched_setaffinity(0, {second})
    if options.favour:
        favour_session(os.getpid())
    siege = measure(options.idle, options.attackers, options.seconds, first)
    print(siege.text())
    if options.record:
        command = shlex.join(["python", "-m", "benchmarks.slowloris", *sys.argv[1:]])
        append_section("idle connections and slowloris", command, [], siege.text())
    failed = sum(stage.failed for stage in siege.stages) or siege.idle_left < options.idle
    return int(bool(failed) or siege.stages[-1].percentile(99) >= MOST_MS)


if __name__ == "__main__":
    sys.exit(main())
