"""The C library's advice is taken."""

import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators take no advice")
# Each thread holds many small blocks while all others do; malloc_info(3) lists the arenas then.
THREADS = """
import ctypes, sys, threading
from pointsman import heap
{advice}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(7)
def work():
    [libc.malloc(ctypes.c_size_t(2000)) for _ in range(100)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads]
barrier.wait()
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


def arenas(advice: str) -> int:
    """How many a process with six threads beside its first has."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS.format(advice=advice)], capture_output=True, text=True, check=True
    )
    return done.stdout.count("<heap nr=")


@glibc
def test_all_threads_but_the_first_share_an_arena() -> None:
    assert arenas("assert heap.share_freed_memory()") == 2
    assert arenas("") > 2


@glibc
def test_freed_memory_is_kept_for_the_next_body() -> None:
    program = "from pointsman import heap; assert heap.keep_freed_memory()"
    subprocess.run([sys.executable, "-c", program], check=True)
