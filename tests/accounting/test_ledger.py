"""The ledger: durable when written; a journal that fails closes it, loses nothing and writes nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pointsman.accounting.journal import Journal, JournalError, UnwritableRecordError, list_segments, read_segment
from pointsman.accounting.ledger import Ledger
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock


def record(number: int, **more: object) -> RequestRecord:
    """A settled record."""
    fields = {
        "request_id": f"r{number}",
        "created_at": 1,
        "operation": "chat",
        "route": "/",
        "dialect": "d",
        "connection_id": "c",
    }
    return RequestRecord(**{**fields, **more})  # type: ignore[arg-type]


def written(directory: Path) -> list[RequestRecord]:
    """Every record in a journal, oldest first; nothing may be damaged."""
    records = []
    for name in list_segments(directory):
        position = 0
        while True:
            part = read_segment(directory / name, position, 1000, live=False)
            assert part.damages == []
            records += part.records
            if part.at_end:
                break
            position = part.position
    return records


class FailingJournal:
    """A journal whose disk is full as often as it is told."""

    def __init__(self, failures: list[bool]) -> None:
        self.failures = failures
        self.appended: list[str] = []
        self.closed = 0

    def append(self, one: RequestRecord) -> bytes:
        if self.failures and self.failures.pop(0):
            raise JournalError("No space left on device")
        self.appended.append(one.request_id)
        return msgspec.json.encode(one)

    def close(self) -> None:
        self.closed += 1


def test_a_record_is_in_the_journal_when_write_returns(tmp_path: Path) -> None:
    lines: list[bytes] = []
    ledger = Ledger(Journal(tmp_path, SystemClock(), 1 << 20), lines.append)
    ledger.write(record(1, request_model="m"))
    (found,) = written(tmp_path)
    assert (found.request_id, found.request_model) == ("r1", "m")
    assert [json.loads(line)["request_id"] for line in lines] == ["r1"]
    assert ledger.closed_reason is None
    ledger.close()


def test_a_failing_journal_parks_the_record_and_closes() -> None:
    journal = FailingJournal([True])
    ledger = Ledger(journal, None)  # type: ignore[arg-type]
    ledger.write(record(1))
    assert ledger.parked == 1
    assert ledger.closed_reason is not None
    assert "journal" in ledger.closed_reason
    assert journal.appended == []


def test_retry_writes_what_was_parked_and_opens() -> None:
    journal = FailingJournal([True, True, True, True])
    lines: list[bytes] = []
    ledger = Ledger(journal, lines.append)  # type: ignore[arg-type]
    for number in (1, 2):
        ledger.write(record(number))
    assert not ledger.retry()
    assert (ledger.parked, ledger.closed_reason is None, lines) == (2, False, [])
    assert ledger.retry()
    assert (ledger.parked, ledger.closed_reason) == (0, None)
    assert journal.appended == ["r1", "r2"]
    assert len(lines) == 2
    assert ledger.retry()
    assert journal.appended == ["r1", "r2"]


def test_closing_tells_how_many_records_are_lost_with_a_disk_that_is_still_full() -> None:
    ledger = Ledger(FailingJournal([True] * 4), None)  # type: ignore[arg-type]
    for number in range(2):
        ledger.write(record(number))
    with capture_logs() as logs:
        ledger.close()
    assert [line["records"] for line in logs if "lost" in line["event"]] == [2]


def test_closing_tries_what_is_parked_once_more() -> None:
    journal = FailingJournal([True])
    ledger = Ledger(journal, None)  # type: ignore[arg-type]
    ledger.write(record(1))
    ledger.close()
    assert (journal.appended, journal.closed) == (["r1"], 1)


@given(failures=st.lists(st.booleans(), max_size=60), actions=st.lists(st.sampled_from("wwwr"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_and_nothing_is_written_twice(failures: list[bool], actions: list[str]) -> None:
    journal = FailingJournal(list(failures))
    lines: list[bytes] = []
    ledger = Ledger(journal, lines.append)  # type: ignore[arg-type]
    made = 0
    for action in actions:
        if action == "w":
            ledger.write(record(made))
            made += 1
        else:
            assert ledger.retry() is (ledger.parked == 0)
        assert len(journal.appended) + ledger.parked == made
        assert len(set(journal.appended)) == len(journal.appended) == len(lines)
        assert (ledger.closed_reason is not None) is (ledger.parked > 0)
    journal.failures.clear()
    ledger.retry()
    assert sorted(journal.appended) == sorted(f"r{number}" for number in range(made))


@pytest.mark.parametrize(
    "more",
    [
        {"request_model": "m" * 2_000_000},
        {"response_model": "m" * 2_000_000},
        {"request_model": "\ud800"},
        {"finish_reason": "\ud800"},
        {"route": "/" + "x" * 2_000_000},
        {"input_tokens": 2**70},
        {"cost_nano_usd": 2**70},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_record_that_can_never_be_written_does_not_close_the_gateway(tmp_path: Path, more: dict[str, object]) -> None:
    ledger = Ledger(Journal(tmp_path, SystemClock(), 1 << 26), None)
    ledger.write(record(1, output_tokens=7, **more))
    ledger.write(record(2))
    assert ledger.closed_reason is None
    assert ledger.parked == 0
    assert [(one.request_id, one.output_tokens) for one in written(tmp_path)] == [("r1", 7), ("r2", 0)]
    ledger.close()


def test_a_record_that_stays_unwritable_is_given_up_at_once() -> None:
    attempts = 0

    class Refusing(FailingJournal):
        """A journal for which one record is never right."""

        def append(self, one: RequestRecord) -> bytes:
            nonlocal attempts
            if one.request_id == "r1":
                attempts += 1
                assert attempts < 5, "tried for ever"
                raise UnwritableRecordError("can't be encoded")
            return super().append(one)

    journal = Refusing([])
    ledger = Ledger(journal, None)  # type: ignore[arg-type]
    ledger.write(record(1))
    ledger.write(record(2))
    assert (journal.appended, ledger.parked, ledger.closed_reason) == (["r2"], 0, None)


FULL_DISK = """
import json, pathlib, resource, signal, sys
from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger import Ledger
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that may not grow: EFBIG, as a full disk gives ENOSPC
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
ledger = Ledger(Journal(pathlib.Path(sys.argv[1]), SystemClock(), 1 << 20), None)
made = 0

def write():
    global made
    fields = dict(created_at=1, operation="chat", route="/", dialect="d", connection_id="c")
    ledger.write(RequestRecord(request_id=f"r{made}", **fields))
    made += 1

for _ in range(3):
    write()
    size = ledger._journal.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))  # in the middle of the next line
    write(), write()
    assert ledger.parked == 2 and ledger.closed_reason and not ledger.retry()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.retry() and ledger.closed_reason is None
write()
ledger.close()
print(json.dumps(made))
"""


def test_a_disk_that_was_full_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    made = int(done.stdout.splitlines()[-1])
    assert [one.request_id for one in written(tmp_path)] == [f"r{number}" for number in range(made)]
