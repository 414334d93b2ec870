"""How the C library keeps freed memory: whoever needs some reuses it, and the kernel is not asked each time."""

import asyncio
import ctypes
from collections.abc import Callable
from functools import cache
from typing import Final

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
KEPT_BYTES: Final = 32 * 1024 * 1024  # free memory at the heap's end that is kept; what is beyond goes back
LARGEST_KEPT_BYTES: Final = 4 * 1024 * 1024  # a larger block is mapped, and unmapped when it is freed
ARENAS: Final = 2  # glibc hands them out to threads in turn; the event loop has the first, and others too
GIVE_BACK_SECONDS: Final = 60.0


def share_freed_memory() -> bool:
    """Let all threads share two arenas; False where the C library can't be told. To be called before any starts.

    By default each thread has one of its own, up to eight for each core, and what it once needed is free for itself
    alone: those of SQLite's connections grew on for an hour.
    """
    return _advise({_M_ARENA_MAX: ARENAS})


def keep_freed_memory() -> bool:
    """Keep up to 32 MB of freed memory for the next body; False where the C library can't be told.

    By default glibc gives freed blocks of a megabyte back at once, and each page of the next is zeroed and mapped anew:
    a request and an answer of 1 MB cost 960 page faults, a third of their time.
    """
    return _advise({_M_TRIM_THRESHOLD: KEPT_BYTES, _M_MMAP_THRESHOLD: LARGEST_KEPT_BYTES})


def give_back() -> bool:
    """Give pages of which all is free, between blocks in use and behind the last, back to the kernel.

    False where that can't be asked. Otherwise the holes that a burst has left, and the most that was ever in use at
    once, stay in memory for as long as the process lives. Takes 1 ms with a heap of 20 MB, some more where much goes
    back.
    """
    trim = _of_the_c_library("malloc_trim")
    if trim is None:
        return False
    trim(ctypes.c_size_t(0))
    return True


async def give_back_regularly() -> None:
    """Do so once a minute, in a thread: until it is cancelled, or at once where it can't be done."""
    while True:
        await asyncio.sleep(GIVE_BACK_SECONDS)
        if not await asyncio.to_thread(give_back):
            return


def _advise(advice: dict[int, int]) -> bool:
    mallopt = _of_the_c_library("mallopt")
    return mallopt is not None and all([mallopt(name, value) for name, value in advice.items()])


@cache  # each CDLL is a class of its own, in rings that only the garbage collector finds: 3 kB a minute
def _of_the_c_library(name: str) -> Callable[..., int] | None:
    """One of its functions; None where it has none of that name, as musl's, whose allocator takes no advice."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return found
