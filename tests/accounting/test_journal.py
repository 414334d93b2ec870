"""The journal's file: what was appended is read, whatever happens to the bytes."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.accounting.journal import (
    MAX_LINE_BYTES,
    Damage,
    Journal,
    JournalError,
    is_live,
    list_segments,
    read_segment,
)
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.clock import SystemClock

CLOCK = SystemClock()


def record(number: int, model: str = "m") -> RequestRecord:
    """A record with text that JSON must escape."""
    return RequestRecord(
        request_id=f"req_{number}",
        created_at=number,
        operation="chat",
        route="/v1/chat/completions",
        dialect="openai",
        request_model=model,
        outcome=Outcome.SUCCESS,
        input_tokens=number,
    )


def written(directory: Path, records: list[RequestRecord]) -> Path:
    """A segment that its writer has left."""
    journal = Journal(directory, CLOCK, 1 << 20)
    for one in records:
        journal.append(one)
    journal.close()
    return journal.path


def read_all(path: Path, *, live: bool = False, limit: int = 7) -> tuple[list[RequestRecord], list[Damage]]:
    """Everything in the segment, in parts."""
    records: list[RequestRecord] = []
    damages: list[Damage] = []
    position = 0
    while True:
        part = read_segment(path, position, limit, live=live)
        records += part.records
        damages += part.damages
        if part.at_end:
            assert part.position == position
            return records, damages
        assert part.position > position
        position = part.position


def test_appended_records_are_read_in_order(tmp_path: Path) -> None:
    records = [record(n, 'line\nfeed "quote" ünï\0') for n in range(100)]
    assert read_all(written(tmp_path, records)) == (records, [])


def test_append_gives_the_json_of_the_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK, 1 << 20)
    assert msgspec.json.decode(journal.append(record(1)), type=RequestRecord) == record(1)
    journal.close()


def test_a_segment_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "journal", [record(1)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_segment_is_live_until_its_writer_closes_it_also_for_the_writer_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK, 1 << 20)
    journal.append(record(1))
    assert is_live(journal.path)
    ask = "import sys, pathlib, pointsman.accounting.journal as j; print(j.is_live(pathlib.Path(sys.argv[1])))"
    other = subprocess.run([sys.executable, "-c", ask, str(journal.path)], capture_output=True, text=True, check=True)
    assert other.stdout == "True\n"
    journal.close()
    assert not is_live(journal.path)


def test_a_full_segment_is_left_for_a_new_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK, 1000)
    records = [record(n) for n in range(50)]
    for one in records:
        journal.append(one)
    names = list_segments(tmp_path)
    assert len(names) > 5
    assert [name for name in names if is_live(tmp_path / name)] == [journal.path.name]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    found = [one for name in names for one in read_all(tmp_path / name)[0]]
    assert sorted(found, key=lambda one: one.created_at) == records
    journal.close()


def test_a_record_larger_than_a_segment_gets_through(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK, 1000)
    large = record(1, "x" * 200_000)
    journal.append(large)
    journal.append(record(2))
    journal.close()
    found = [one for name in list_segments(tmp_path) for one in read_all(tmp_path / name)[0]]
    assert sorted(found, key=lambda one: one.created_at) == [large, record(2)]


@pytest.mark.parametrize("model", ["\ud800", "x" * MAX_LINE_BYTES], ids=["surrogate", "huge"])
def test_a_record_that_has_no_line_is_refused_and_the_next_is_written(tmp_path: Path, model: str) -> None:
    journal = Journal(tmp_path, CLOCK, 1 << 30)
    with pytest.raises(JournalError, match="record"):
        journal.append(record(1, model))
    journal.append(record(2))
    journal.close()
    assert read_all(journal.path) == ([record(2)], [])


def test_an_empty_segment_is_removed_when_its_writer_closes(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK, 1000)
    journal.close()
    journal.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JournalError):
        journal.append(record(1))


def test_a_journal_that_can_not_begin_a_segment_goes_on_with_the_old_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "there", CLOCK, 300)
    journal.append(record(1))
    old = journal.path
    (tmp_path / "there").rename(tmp_path / "gone")
    records = [record(n) for n in range(2, 9)]
    for one in records:
        journal.append(one)
    (tmp_path / "gone").rename(tmp_path / "there")
    for _ in range(9):
        journal.append(record(9))
    journal.close()
    found, damages = read_all(old)
    assert found[:8] == [record(1), *records]
    assert damages == []
    assert len(list_segments(tmp_path / "there")) > 1


def test_a_full_disk_loses_only_the_records_that_were_reported(tmp_path: Path) -> None:
    """The file size limit makes real short writes and then a real error of the kernel."""
    script = """
import json, resource, signal, sys
from pathlib import Path
from zlib import crc32
from pointsman.accounting.journal import Journal, JournalError
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), SystemClock(), 1 << 20)
kept, lost = [], []
for limit in (1000, 1001, 1500, 1530, 5000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for n in range(20):
        name = f"{limit}-{n}"
        try:
            journal.append(RequestRecord(request_id=name, created_at=n, operation="o", route="/", dialect="d"))
            kept.append(name)
        except JournalError as error:
            assert "File too large" in str(error), error
            lost.append(name)
print(json.dumps([kept, lost]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    kept, lost = json.loads(done.stdout)
    assert len(kept) > 30
    assert len(lost) > 30
    [name] = list_segments(tmp_path)
    found, damages = read_all(tmp_path / name)
    assert [one.request_id for one in found] == kept
    assert damages == []


def test_a_piece_that_can_not_be_taken_back_is_left_in_a_segment_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK, 1 << 20)
    journal.append(record(1))
    old = journal.path
    # What is left after a failed write and a failed ftruncate: half a line, and the journal knows.
    os.write(journal._descriptor, b"0000")
    journal._torn, journal._size, journal._limit = True, journal._size + 4, 0
    journal.append(record(2))
    journal.close()
    assert journal.path != old
    assert read_all(journal.path) == ([record(2)], [])
    found, damages = read_all(old)
    assert found == [record(1)]
    assert [damage.reason for damage in damages] == ["torn"]


def test_a_torn_piece_becomes_a_line_of_its_own_when_no_segment_can_be_begun(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "there", CLOCK, 1 << 20)
    journal.append(record(1))
    os.write(journal._descriptor, b"0000")
    journal._torn, journal._size, journal._limit = True, journal._size + 4, 0
    (tmp_path / "there").rename(tmp_path / "moved")
    journal.append(record(2))
    journal.append(record(3))
    journal.close()
    found, damages = read_all(tmp_path / "moved" / journal.path.name)
    assert found == [record(1), record(2), record(3)]
    assert [damage.reason for damage in damages] == ["checksum"]


def test_an_unfinished_last_line_is_not_yet_while_live_and_torn_once_when_dead(tmp_path: Path) -> None:
    path = written(tmp_path, [record(1), record(2)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    first = whole.index(b"\n") + 1
    assert read_all(path, live=True) == ([record(1)], [])
    assert read_all(path) == (
        [record(1)],
        [Damage(segment=path.name, offset=first, length=len(whole) - 1 - first, reason="torn")],
    )
    path.write_bytes(whole)
    assert read_segment(path, first, 9, live=True).records == [record(2)]


def test_unknown_fields_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    path = written(tmp_path, [record(1)])
    fields = {**msgspec.to_builtins(record(2)), "invented_later": {"a": 1}}
    payload = json.dumps(fields).encode()
    with path.open("ab") as file:
        file.write(b"%08x %b\n" % (crc32(payload), payload))
    assert read_all(path) == ([record(1), record(2)], [])


def test_a_whole_line_that_is_no_record_is_reported_and_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, [record(1)])
    size = path.stat().st_size
    line = b"%08x {}\n" % crc32(b"{}")
    with path.open("ab") as file:
        file.write(line)
    found, damages = read_all(path)
    assert found == [record(1)]
    assert damages == [Damage(segment=path.name, offset=size, length=len(line), reason="undecodable")]


def test_megabytes_of_zeros_after_a_power_cut_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, [record(1), record(2)])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\0" * (5 * MAX_LINE_BYTES) + b"\n" + second)
    found, damages = read_all(path)
    assert found == [record(1), record(2)]
    assert {damage.reason for damage in damages} == {"too_long", "checksum"}


def test_what_is_no_segment_is_not_listed(tmp_path: Path) -> None:
    path = written(tmp_path, [record(1)])
    for name in ("notes.txt", "1-2-3.journal", path.name + ".bak", path.stem + ".draft"):
        (tmp_path / name).touch()
    assert list_segments(tmp_path) == [path.name]
    assert list_segments(tmp_path / "missing") == []


RECORDS = [record(n, "é\n" * n) for n in range(8)]


def segment_bytes(directory: Path) -> bytes:
    """The bytes of a segment with RECORDS."""
    return written(directory, RECORDS).read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), live=st.booleans(), limit=st.integers(1, 9))
def test_a_truncation_anywhere_loses_only_the_last_line(data: st.DataObject, live: bool, limit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        whole = segment_bytes(Path(directory))
        cut = data.draw(st.integers(0, len(whole)))
        path = Path(directory) / "cut"
        path.write_bytes(whole[:cut])
        found, damages = read_all(path, live=live, limit=limit)
        complete = whole[:cut].count(b"\n")
        assert found == RECORDS[:complete]
        torn = cut - (whole[:cut].rfind(b"\n") + 1)
        assert [(one.length, one.reason) for one in damages] == ([(torn, "torn")] if torn and not live else [])


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    live=st.booleans(),
    limit=st.integers(1, 9),
)
def test_changed_bytes_lose_only_the_lines_they_touch(changes: list[tuple[float, int]], live: bool, limit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        whole = segment_bytes(Path(directory))
        broken = bytearray(whole)
        for place, value in changes:
            broken[int(place * len(whole))] = value
        path = Path(directory) / "broken"
        path.write_bytes(broken)
        found, damages = read_all(path, live=live, limit=limit)
        expected = untouched(whole, bytes(broken))
        assert [one.created_at for one in found] == expected
        assert all(one == RECORDS[one.created_at] for one in found)
        if not live:
            assert bool(damages) == (bytes(broken) != whole)


def untouched(whole: bytes, broken: bytes) -> list[int]:
    """Which lines are still there with both their ends."""
    kept, start = [], 0
    for number, line in enumerate(whole.splitlines(keepends=True)):
        end = start + len(line)
        begins = start == 0 or broken[start - 1 : start] == b"\n"
        if begins and broken[start:end] == line:
            kept.append(number)
        start = end
    return kept


@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(max_size=400), live=st.booleans())
def test_any_bytes_are_read_without_a_crash_and_give_no_record(garbage: bytes, live: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "garbage"
        path.write_bytes(garbage)
        found, damages = read_all(path, live=live)
        assert found == []
        if not live:
            assert sum(damage.length for damage in damages) == len(garbage)
