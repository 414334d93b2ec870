"""Wrong passwords are counted per address and per person, for a while."""

import pytest

from driven_clock import DrivenClock
from pointsman.identity.lockout import MAX_SOURCES, PERSON_FACTOR, Lockout


def failed(lockout: Lockout, times: int, address: str = "203.0.113.1", person: str = "") -> int:
    """The wait after so many failures."""
    for _ in range(times):
        lockout.note_failure(address, person)
    return lockout.wait_seconds(address, person)


def test_an_address_is_locked_after_its_failures_for_the_time_after_the_last() -> None:
    clock = DrivenClock()
    lockout = Lockout(clock, 5, 900.0)
    assert failed(lockout, 4) == 0
    clock.advance(60)
    assert failed(lockout, 1) == 900
    clock.advance(899)
    assert lockout.wait_seconds("203.0.113.1", "") == 1
    clock.advance(1)
    assert lockout.wait_seconds("203.0.113.1", "") == 0


def test_failures_of_long_ago_do_not_count() -> None:
    clock = DrivenClock()
    lockout = Lockout(clock, 5, 900.0)
    for _ in range(20):
        assert failed(lockout, 1) == 0
        clock.advance(226)


def test_success_forgets_failures() -> None:
    lockout = Lockout(DrivenClock(), 5, 900.0)
    failed(lockout, 4)
    lockout.note_success("203.0.113.1", "")
    assert failed(lockout, 4) == 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("203.0.113.1", "::ffff:203.0.113.1", True),
        ("2001:db8::1", "2001:db8::2", True),  # one line has all of them
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "203.0.113.1", False),
    ],
)
def test_what_counts_as_one_address(first: str, second: str, same: bool) -> None:
    lockout = Lockout(DrivenClock(), 5, 900.0)
    failed(lockout, 5, first, "a")
    assert (lockout.wait_seconds(second, "b") > 0) is same


def test_many_addresses_together_can_not_guess_one_persons_password() -> None:
    lockout = Lockout(DrivenClock(), 5, 900.0)
    for number in range(5 * PERSON_FACTOR):
        assert lockout.wait_seconds(f"198.51.100.{number}", "a@example.org") == 0
        lockout.note_failure(f"198.51.100.{number}", "a@example.org")
    assert lockout.wait_seconds("192.0.2.1", "a@example.org") > 0
    assert lockout.wait_seconds("192.0.2.1", "b@example.org") == 0


def test_what_is_remembered_is_bounded() -> None:
    lockout = Lockout(DrivenClock(), 5, 900.0)
    for number in range(MAX_SOURCES + 50):
        lockout.note_failure(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"{number}")
    assert len(lockout._sources) == MAX_SOURCES
