"""For the processes that a server starts: none of them outlives it."""

import ctypes
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent() -> None:
    """End with the process that has started this one, however it ends, and at once when told to.

    For those who have nothing to save. The end of standard input says the same, but goes unseen while native code
    runs, or while the processor is others'.
    """
    # The default action ends the process even while native code holds the interpreter.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
