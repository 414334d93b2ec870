"""``make defences``: take each defence away in turn, in a copy of the repository; its tests have to fail then.

    python -m defences.run [--jobs N] [ITEM ...]

Before that each test has to pass with all defences, and an ordinary call has to be answered without the one that is
taken away: what is broken altogether proves nothing. The exit status is 1 when a defence can go unnoticed.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from defences.table import ROOT, Defence, read_table

ORDINARY_CALL = "server/test_conduct.py::test_a_connection_serves_many_requests"
GIVEN_UP_SECONDS = 300
PASSED, FAILED = 0, 1  # pytest's exit statuses
SKIPPED = re.compile(r"\d+ skipped")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one test.

    :param status: "passed", "failed" or "broken" (it could not be run)
    :param reason: the first line that says why; empty when it passed
    """

    status: str
    reason: str = ""


def copy_repository(target: Path) -> None:
    """Copy all files that git knows, as they are now."""
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, known.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_pytest(tests: list[str], copy: Path, *options: str, patience_s: float | None = None) -> tuple[int, str]:
    """Run tests on the code of a copy; pytest's exit status and all that it said.

    :raises subprocess.TimeoutExpired: it did not end in time
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *options]
    path = os.pathsep.join([str(copy / "src"), str(copy)])
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=patience_s,
        check=False,
    )
    return done.returncode, done.stdout


def run_test(test: str, copy: Path) -> Outcome:
    """Run one test (with all its parameters, up to the first failure) on the code of a copy."""
    try:
        status, said = run_pytest([test], copy, "-x", patience_s=GIVEN_UP_SECONDS)
    except subprocess.TimeoutExpired:
        return Outcome("broken", f"no end after {GIVEN_UP_SECONDS} s")
    if status == PASSED:
        skipped = SKIPPED.search(said)
        return Outcome("broken", skipped[0]) if skipped else Outcome("passed")
    told = re.findall(r"^(?:E  +|FAILED .* - |ERROR .* - )(.+)$", said, flags=re.MULTILINE)
    reason = (told or said.strip().splitlines()[-1:] or ["nothing was said"])[0][:160]
    reason = "".join(letter if letter.isprintable() else "?" for letter in reason)
    failed = status == FAILED and re.search(r"^FAILED ", said, flags=re.MULTILINE)
    return Outcome("failed" if failed else "broken", reason)


class Copies:
    """Copies of the repository, each of which one thread uses at a time."""

    def __init__(self, folder: Path, number: int) -> None:
        """Make ``number`` copies below ``folder``."""
        self._free: SimpleQueue[Path] = SimpleQueue()
        for name in map(str, range(number)):
            copy_repository(folder / name)
            self._free.put(folder / name)

    @contextmanager
    def one(self) -> Iterator[Path]:
        """A copy that nobody else uses meanwhile."""
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)

    def try_without(self, defence: Defence) -> dict[str, Outcome]:
        """What comes of an ordinary call and of the defence's tests while it is taken away.

        :raises NotInTheCode: the table does not fit the code
        """
        with self.one() as copy:
            try:
                for removal in defence.removals:
                    removal.write(copy)
                return {test: run_test(test, copy) for test in (ORDINARY_CALL, *defence.tests)}
            finally:
                for removal in defence.removals:
                    shutil.copy2(ROOT / removal.file, copy / removal.file)


def tell(defence: Defence, outcomes: dict[str, Outcome]) -> bool:
    """Print what came of it; False when the defence can go unnoticed."""
    print(f"{defence.item:>3}  {defence.text}", flush=True)
    unnoticed = False
    for test, outcome in outcomes.items():
        wanted = "passed" if test == ORDINARY_CALL else "failed"
        if outcome.status != wanted:
            unnoticed = True
            print(f"     WRONG: {test} {outcome.status}: {outcome.reason}", flush=True)
        elif test != ORDINARY_CALL:
            print(f"     {test.rpartition('::')[2]}: {outcome.reason}", flush=True)
    return not unnoticed


def try_all(chosen: list[Defence], tests: list[str], jobs: int, copies: Copies) -> int:
    """Run the tests with all defences, then without one after another; the exit status."""
    print(f"{len(tests)} tests with all defences ...", flush=True)
    with copies.one() as copy:
        status, said = run_pytest(tests, copy, f"--numprocesses={jobs}", "--dist=loadfile")
    if status != PASSED or SKIPPED.search(said):
        print(said, "These tests have to pass first.", sep="\n")
        return 1
    print(f"They pass. Without each of {len(chosen)} defences, by item:", flush=True)
    pool = ThreadPoolExecutor(jobs)
    try:
        tried = zip(chosen, pool.map(copies.try_without, chosen), strict=True)
        noticed = [tell(defence, outcomes) for defence, outcomes in tried]
    finally:
        pool.shutdown(cancel_futures=True)
    print(f"{sum(noticed)} of {len(chosen)} defences are missed when they are gone.")
    return 0 if all(noticed) else 1


def main() -> int:
    """Take away the defences against the items that the arguments name; all without."""
    parser = argparse.ArgumentParser(prog="python -m defences.run", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one for each core")
    parser.add_argument("items", nargs="*", type=int, metavar="ITEM", help="numbers of docs/security-tests.md")
    options = parser.parse_args()
    chosen = [defence for defence in read_table() if not options.items or defence.item in options.items]
    if not chosen:
        parser.error("the table has no defence against these")
    tests = sorted({ORDINARY_CALL, *(test for defence in chosen for test in defence.tests)})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the copies are removed
    with tempfile.TemporaryDirectory(prefix="pointsman-defences-") as folder:
        return try_all(chosen, tests, options.jobs, Copies(Path(folder), options.jobs))


if __name__ == "__main__":
    sys.exit(main())
