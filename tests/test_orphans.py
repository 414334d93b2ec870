"""Processes that a server starts end with it."""

import os
import signal
import subprocess
import sys
import time

from gateway import wait_until

CHILD = "from pointsman.orphans import die_with_parent; die_with_parent(); print('on', flush=True); {work}"
PARENT = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True); {work}"
SLEEP = "__import__('time').sleep(60)"


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and is known to nobody yet does not."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_child_in_the_middle_of_something_ends_when_its_parent_is_killed() -> None:
    program = PARENT.format(child=CHILD.format(work=SLEEP), work=SLEEP)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "on\n"
        assert alive(child)
        parent.kill()
        wait_until(lambda: not alive(child), "end of the child")


def test_a_child_ends_at_once_when_told_to_whatever_it_does() -> None:
    program = CHILD.format(work="__import__('re').match('(a*)*b', 'a' * 40)")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "on\n"
        time.sleep(0.1)  # into the long match
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(10) == -signal.SIGTERM
