"""How the C library keeps freed memory: large bodies reuse it instead of asking the kernel for it each time."""

import ctypes
from typing import Final

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 32 * 1024 * 1024  # free memory at the heap's end that is kept; what is beyond goes back
LARGEST_KEPT_BYTES: Final = 4 * 1024 * 1024  # a larger block is mapped, and unmapped when it is freed


def keep_freed_memory() -> bool:
    """Keep up to 32 MB of freed memory for the next body; False where the C library can't be told.

    By default glibc gives freed blocks of a megabyte back at once, and each page of the next is zeroed and mapped anew:
    a request and an answer of 1 MB cost 960 page faults, a third of their time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # musl: its allocator takes no advice
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES))
