"""The idle scheduling class, for processes of background work. Imports nothing heavy: it is the first thing they do."""

import os
from typing import Final

NICE: Final = 19


def yield_processor() -> None:
    """Run this process only when nobody else wants to.

    With a mere nice value Linux lets a running process finish its time slice, milliseconds, before a waking one gets
    the processor; one of the idle class is interrupted at once.
    """
    os.nice(NICE)
    if hasattr(os, "SCHED_IDLE"):
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except OSError:
            pass  # a container may forbid it; the nice value stays
