"""The idle scheduling class, for processes of background work."""

import os
import selectors
from typing import Final

NICE: Final = 19


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


class GivingWay(selectors.DefaultSelector):
    """For the event loop of a background process: gives way at every turn."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready, as the loop asks."""
        give_way()
        return super().select(timeout)
