"""Memory of a target: before, under load, and after it."""

import threading
from dataclasses import dataclass

from benchmarks.load import Load, wait_for_answer
from benchmarks.measure import memory_mb, wait_until_settled
from benchmarks.scenarios import say
from benchmarks.targets import Running, Target

CONNECTIONS = 64
STREAMS = 1000
RAMP_MS = 730
INTERVAL_SECONDS = 0.2


@dataclass(frozen=True)
class Plateau:
    """Resident sizes in MiB: idle, the highest under requests and under streams, and when all was done."""

    name: str
    idle: float
    requests: float
    streams: float
    after: float

    def line(self) -> str:
        """The findings as a sentence."""
        return (
            f"{self.name}, RSS: idle {self.idle:.0f} MB, {CONNECTIONS} connections under load {self.requests:.0f} MB, "
            f"{STREAMS} streams {self.streams:.0f} MB, idle again {self.after:.0f} MB"
        )


class _Watch:
    """The largest resident size of a process tree while it is open."""

    def __init__(self, pid: int) -> None:
        self.largest = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.largest = max(self.largest, _resident(self._pid))
            if self._over.wait(INTERVAL_SECONDS):
                return


def _resident(pid: int) -> float:
    size = memory_mb(pid)
    return size[0] if size is not None else 0.0


def measure(target: Target, running: Running | None, load: Load, seconds: float) -> Plateau:
    """Loads a target that was started for this with requests, then with streams; ends it."""
    assert running is not None
    say(f"memory of {target.name}")
    try:
        wait_for_answer(target.json, running)
        return _measure(target, running.pid, load, seconds)
    finally:
        running.stop()


def _measure(target: Target, pid: int, load: Load, seconds: float) -> Plateau:
    wait_until_settled(pid)
    idle = _resident(pid)
    with _Watch(pid) as requests:
        load.closed(target.json, CONNECTIONS, seconds)
    with _Watch(pid) as streams:
        load.streams(target.endpoints["25ms"], STREAMS, seconds, RAMP_MS)
    wait_until_settled(pid)
    return Plateau(target.name, idle, requests.largest, streams.largest, _resident(pid))
