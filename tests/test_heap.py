"""The C library's advice is taken."""

import gc
import subprocess
import sys

import pytest

from pointsman import heap

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


def test_all_threads_share_two_arenas() -> None:
    assert arenas("assert heap.share_freed_memory()") == 2
    assert arenas("") > 2


def faults(advice: str) -> int:
    """How many pages a process asks the kernel for while it makes and frees a megabyte a hundred times."""
    program = f"""
import resource
from pointsman import heap
{advice}
def asked():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * (1 << 20)
before = asked()
for _ in range(100):
    b"x" * (1 << 20)
    b"x" * (3 << 20)
print(asked() - before)
"""
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_kept_for_the_next_body() -> None:
    assert 2 * faults("assert heap.keep_freed_memory()") < faults("")


GIVEN_BACK = """
from pathlib import Path
from pointsman import heap
def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
heap.keep_freed_memory()
blocks = [b"x" * 100_000 for _ in range(400)]
del blocks[{freed}]
before = resident_pages()
assert heap.give_back()
print(before - resident_pages())
"""


@pytest.mark.parametrize("freed", ["::2", "200:"])
def test_free_pages_between_blocks_in_use_and_behind_them_are_given_back(freed: str) -> None:
    program = GIVEN_BACK.format(freed=freed)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200 * 20  # two hundred blocks of 24 pages


def test_nothing_is_left_for_the_garbage_collector_by_giving_back() -> None:
    assert heap.give_back()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        assert heap.give_back()
        gc.collect()
        assert not [one for one in gc.garbage if "ctypes" in f"{type(one)}{one}"]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
