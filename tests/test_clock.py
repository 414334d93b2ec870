"""The machine's clock: instants, durations and ids."""

import time
from pathlib import Path

import pytest

from pointsman.clock import SystemClock


def test_ids_are_unique_and_sort_by_time_of_creation() -> None:
    clock = SystemClock()
    ids = [clock.new_id("req") for _ in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_an_id_is_its_prefix_and_28_hex_digits() -> None:
    prefix, _, rest = SystemClock().new_id("key").partition("_")
    assert prefix == "key"
    assert len(rest) == 28
    assert int(rest, 16) >= 0


def test_two_clocks_never_make_the_same_id() -> None:
    one, other = SystemClock(), SystemClock()
    assert not {one.new_id("a") for _ in range(1000)} & {other.new_id("a") for _ in range(1000)}


def test_now_is_in_microseconds() -> None:
    before = time.time_ns() // 1000
    now = SystemClock().now_us()
    assert before <= now <= time.time_ns() // 1000


def test_monotonic_never_goes_back() -> None:
    clock = SystemClock()
    instants = [clock.monotonic() for _ in range(1000)]
    assert instants == sorted(instants)


@pytest.mark.parametrize("call", ["time.time(", "time.time_ns(", "time.monotonic(", "datetime.now(", "utcnow("])
def test_only_the_clock_reads_the_clock(call: str) -> None:
    sources = Path(__file__).resolve().parent.parent / "src" / "pointsman"
    allowed = {"clock.py", "price_lookup.py"}  # the second is a process of its own
    readers = {
        path.name
        for path in sources.rglob("*.py")
        if call in path.read_text(encoding="utf-8") and "testing" not in path.parts
    }
    assert readers <= allowed
