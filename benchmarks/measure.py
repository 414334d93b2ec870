"""What a run costs: CPU time and memory of a process tree, and the CPU time that others took meanwhile. Reads /proc."""

import os
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Result

TICK = os.sysconf("SC_CLK_TCK")
# A target has settled when it used less than this part of a core for this long; it gets this long at most.
QUIET_SHARE = 0.03
QUIET_SECONDS = 1.0
SETTLE_LIMIT_SECONDS = 20.0


@dataclass(frozen=True)
class Sample:
    """One measured run. CPU in us per answer or event; ``others`` is the part of both cores taken by strangers."""

    result: Result
    cpu_us: float | None
    settled_cpu_us: float | None
    settled: bool
    others: float
    memory_mb: float | None

    @property
    def rate(self) -> float:
        """Answers or events per second."""
        return self.result.done / self.result.seconds


def process_tree(root: int) -> list[int]:
    """``root`` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(root: int | None) -> float:
    """User and system time of a process tree so far, with the children that have ended; 0 without a process."""
    if root is None:
        return 0.0
    fields = [_stat_fields(pid) for pid in process_tree(root)]
    return sum(sum(map(int, f[11:15])) for f in fields if f) / TICK


def memory_mb(root: int | None) -> tuple[float, float] | None:
    """(resident, proportional) size of a process tree in MiB; None without a process."""
    if root is None:
        return None
    resident = proportional = 0
    for pid in process_tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        sizes = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE))
        resident += int(sizes.get("Rss", 0))
        proportional += int(sizes.get("Pss", 0))
    return resident / 1024, proportional / 1024


def _busy_seconds(cores: tuple[int, int]) -> float:
    """CPU seconds that anything has used on these cores since the machine started."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        found = re.match(r"cpu(\d+) (.*)", line)
        if found and int(found[1]) in cores:
            ticks = [int(value) for value in found[2].split()]
            total += sum(ticks[:8]) - ticks[3] - ticks[4]  # all but idle and waiting for a disk
    return total / TICK


def _own_seconds() -> float:
    """CPU seconds of this process and of its ended children, which include the load programs."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def wait_until_settled(root: int) -> bool:
    """Waits until a process tree is quiet; False if it never was within the limit."""
    end = time.monotonic() + SETTLE_LIMIT_SECONDS
    history = [(time.monotonic(), cpu_seconds(root))]
    while time.monotonic() < end:
        time.sleep(0.1)
        now, used = time.monotonic(), cpu_seconds(root)
        history.append((now, used))
        window = [entry for entry in history if now - entry[0] >= QUIET_SECONDS]
        if window and used - window[-1][1] <= QUIET_SHARE * (now - window[-1][0]):
            return True
    return False


class Meter:
    """Measures runs: knows the cores, the upstream's processes and whatever else belongs to the benchmark."""

    def __init__(self, cores: tuple[int, int], upstream_pids: list[int]) -> None:
        self._cores = cores
        self._upstream_pids = upstream_pids

    def run(self, pid: int | None, load: Callable[[], Result], *, settles: bool) -> Sample:
        """Runs one load against the target with process ``pid``; waits until the target has settled, if it does."""
        before = self._spent(pid)
        start = time.monotonic()
        result = load()
        wall = time.monotonic() - start
        after = self._spent(pid)
        busy, ours = after[0] - before[0], after[1] - before[1]
        others = max(0.0, (busy - ours) / wall / len(self._cores))
        if pid is None:
            return Sample(result, None, None, True, others, None)
        settled = wait_until_settled(pid) if settles else True
        per = 1e6 / max(1, result.done)
        used, total = after[2] - before[2], cpu_seconds(pid) - before[2]
        memory = memory_mb(pid)
        return Sample(result, used * per, total * per, settled, others, memory[1] if memory else None)

    def _spent(self, pid: int | None) -> tuple[float, float, float]:
        """CPU seconds so far: of the cores, of the benchmark's own processes, of the target."""
        target = cpu_seconds(pid)
        upstream = sum(map(cpu_seconds, self._upstream_pids))
        return _busy_seconds(self._cores), target + upstream + _own_seconds(), target
