"""The machine: the tools the benchmark needs, its load programs built from C, and the description for the record."""

import fcntl
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path(__file__).resolve().parent / "load"
SCRATCH = ROOT / ".bench"
PROGRAMS = ("mock", "streams", "steady")
# Command -> the Debian package that has it.
TOOLS = {"nginx": "nginx-light", "wrk": "wrk", "gcc": "gcc", "taskset": "util-linux"}
PEER_TOOLS = {"npm": "npm"}
# Debian keeps nginx where an ordinary user's PATH does not look.
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


class BenchError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


def tool(name: str) -> str:
    """The path of a command; raises BenchError if it is not installed."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise BenchError(f"{name} is not installed: apt-get install {(TOOLS | PEER_TOOLS)[name]}")
    return path


def require_tools() -> None:
    """Raises BenchError that names every Debian package that is missing."""
    missing = [package for name, package in TOOLS.items() if shutil.which(name, path=SEARCH_PATH) is None]
    if missing:
        raise BenchError(f"tools are missing: apt-get install {' '.join(missing)}")


def require_cores(cores: Sequence[int]) -> None:
    """Raises BenchError unless this process may run on every one of ``cores``."""
    allowed = os.sched_getaffinity(0)
    if not allowed.issuperset(cores):
        raise BenchError(f"cores {list(cores)} are wanted, only {sorted(allowed)} are allowed; choose with --cores A,B")


@contextmanager
def only_one() -> Iterator[None]:
    """Only one benchmark at a time: a second one would share ports and cores with the first. Raises BenchError."""
    with (SCRATCH / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BenchError("another benchmark is running in this checkout") from None
        yield


def build_programs() -> Path:
    """Compiles the load programs whose sources changed; returns the folder that holds them."""
    folder = SCRATCH / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        program = folder / name
        newest = max(source.stat().st_mtime for source in [SOURCES / f"{name}.c", *SOURCES.glob("*.h")])
        if program.exists() and program.stat().st_mtime > newest:
            continue
        command = [tool("gcc"), "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", str(program), str(SOURCES / f"{name}.c")]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise BenchError(f"{name}.c does not compile:\n{result.stderr}")
    return folder


def _output(*command: str) -> str:
    """What a command says on stdout and stderr, stripped; empty if it cannot run."""
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    except OSError:
        return ""
    return result.stdout.strip()


def commit() -> str:
    """The commit of the checkout, with "+ changes" if anything but the record itself differs from it."""
    changes = [line for line in _output("git", "status", "--porcelain").splitlines() if "RESULTS.md" not in line]
    return _output("git", "rev-parse", "--short=12", "HEAD") + (" + changes" if changes else "")


def describe() -> list[tuple[str, str]]:
    """(what, value) pairs: processor, cores, memory, kernel and the versions of the programs that take part."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return [
        ("processor", f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"),
        ("memory", f"{int(memory[1]) / 1024 / 1024:.1f} GiB" if memory else "unknown"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("nginx", _output(tool("nginx"), "-v").rpartition("/")[2]),
        ("wrk", _output(tool("wrk"), "-v").split("[")[0].replace("wrk", "").strip()),
    ]
