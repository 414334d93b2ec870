"""The idle scheduling class, for processes of background work."""

import os
import selectors
from collections.abc import Callable
from typing import Final

from pointsman.clock import Clock

NICE: Final = 19
PATIENT_SECONDS: Final = 0.05  # so long it gives way to others; then what it holds is in somebody's way


def step_back(pid: int) -> None:
    """Let a process run only when nobody else wants to.

    With a mere nice value Linux lets a running process finish its time slice, milliseconds, before a waking one gets
    the processor; one of the idle class is interrupted at once. Its parent calls this, not the process itself: an
    interpreter takes 20 ms of a core before it gets to its first line.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        pass  # it has ended, or a container forbids it


def give_way() -> None:
    """Let whoever is ready to run have the processor now.

    The idle class alone isn't enough. It is interrupted when somebody wakes up; but Linux shares the processor out in
    turns, and now and then it is the idle process' turn while another is ready (because that one's time slice just
    ended, or one of its threads went to sleep). Nothing wakes up then, so it keeps the processor up to the next tick of
    the clock, 4 ms at 250 Hz. Giving way often ends such a turn early; when nobody waits it costs half a microsecond.
    """
    os.sched_yield()


def turns_of_processor() -> tuple[int, int]:
    """Nanoseconds that this thread ran, and that it waited for a turn while it could have run; zeros: nobody knows.

    From Linux's statistics of its run queues: Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat".
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            ran, waited, _ = file.read().split()
    except (OSError, ValueError):
        return 0, 0
    return int(ran), int(waited)


class Pace:
    """What a process of the idle class may begin, so that it never holds for long what others wait for.

    On a machine that has nothing to spare such a process gets a thousandth of a core, in turns that are seconds apart;
    giving a turn away then costs another second, and so does each wait for an answer. A transaction of 50 ms held the
    lock of its database for 45 s.
    """

    def __init__(self, clock: Clock, turns: Callable[[], tuple[int, int]] = turns_of_processor) -> None:
        self._clock = clock
        self._turns = turns
        self._patient_until = 0.0
        self._before = turns()

    def begin(self) -> None:
        """Something begins: give way for a while, then be done with it."""
        self._patient_until = self._clock.monotonic() + PATIENT_SECONDS

    def give_way(self) -> None:
        """Let others run, unless what was begun takes too long already."""
        if self._clock.monotonic() < self._patient_until:
            give_way()

    def share(self) -> float:
        """Of the time in which this thread wanted to run, the part in which it did, since this was last asked."""
        before, self._before = self._before, self._turns()
        ran, waited = self._before[0] - before[0], self._before[1] - before[1]
        return ran / (ran + waited) if ran + waited > 0 else 1.0


class GivingWay(selectors.DefaultSelector):
    """For the event loop of a background process: gives way at every turn."""

    def __init__(self, give_way: Callable[[], None]) -> None:
        super().__init__()
        self._give_way = give_way

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready, as the loop asks."""
        self._give_way()
        return super().select(timeout)
