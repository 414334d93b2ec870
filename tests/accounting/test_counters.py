"""Sliding windows in memory, on a driven clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.accounting.counters import open_counters
from pointsman.accounting.windows import DAY_US, MINUTE_US, SlidingWindow, Windows
from pointsman.clock import SystemClock
from pointsman.errors import ConfigError
from pointsman.keyring import Secret

SECOND_US = 1_000_000
START_US = 1_000 * SECOND_US


def sliding(window_us: int = MINUTE_US) -> SlidingWindow:
    """A window of its own."""
    return Windows().counter("one", window_us)


def test_the_wait_is_exact_one_microsecond_earlier_it_is_refused() -> None:
    window = sliding()
    window.take(3, START_US)
    window.take(1, START_US + 10 * SECOND_US)
    now = START_US + 20 * SECOND_US
    wait = window.wait(2, 4, now)
    assert wait > 0
    assert window.wait(2, 4, now + wait - 1) == 1
    assert window.wait(2, 4, now + wait) == 0


def test_asking_changes_nothing() -> None:
    window = sliding()
    for _ in range(10):
        assert window.wait(5, 5, START_US) == 0
    assert window.remaining(5, START_US) == (5, 0)


def test_a_use_counts_a_window_and_at_most_a_sixtieth_longer() -> None:
    for window_us in (MINUTE_US, DAY_US):
        window = sliding(window_us)
        window.take(1, START_US)
        wait = window.wait(1, 1, START_US)
        assert window_us < wait <= window_us + window_us // 60


def test_what_is_given_back_is_there_at_once_and_only_once() -> None:
    window = sliding()
    slot = window.take(10, START_US)
    window.correct(slot, -4, START_US + SECOND_US)
    assert window.remaining(10, START_US + SECOND_US)[0] == 4
    window.correct(slot, -100, START_US + SECOND_US)
    assert window.remaining(10, START_US + SECOND_US) == (10, 0)


def test_giving_back_what_counts_no_more_changes_nothing() -> None:
    window = sliding()
    slot = window.take(10, START_US)
    later = START_US + 62 * SECOND_US
    window.take(3, later)
    window.correct(slot, -4, later)
    assert window.remaining(10, later)[0] == 7


def test_over_use_is_carried_and_must_leave_the_window_first() -> None:
    window = sliding()
    slot = window.take(2, START_US)
    window.correct(slot, 20, START_US + 5 * SECOND_US)
    assert window.remaining(10, START_US + 5 * SECOND_US)[0] == 0
    assert window.wait(1, 10, START_US + 61 * SECOND_US) == 5 * SECOND_US
    assert window.wait(1, 10, START_US + 66 * SECOND_US) == 0


def test_it_holds_at_most_61_slots() -> None:
    window = sliding()
    for second in range(1000):
        now = START_US + second * SECOND_US
        window.remaining(10**9, now)
        window.take(1, now)
    assert len(window._by_name["one"].slots) == 61
    assert window.remaining(100, START_US + 999 * SECOND_US)[0] == 39


def test_an_amount_above_the_limit_never_fits() -> None:
    with pytest.raises(ValueError, match="larger than the limit"):
        sliding().wait(11, 10, START_US)


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 70_000_000), st.integers(1, 20)), max_size=60),
)
def test_no_window_of_any_position_holds_more_than_the_limit(limit: int, steps: list[tuple[int, int]]) -> None:
    window, now = sliding(), START_US
    taken: list[tuple[int, int]] = []
    for pause, amount in steps:
        now += pause
        if amount <= limit and window.wait(amount, limit, now) == 0:
            window.take(amount, now)
            taken.append((now, amount))
            assert sum(size for at, size in taken if at > now - MINUTE_US) <= limit
        elif amount <= limit:
            later = now + window.wait(amount, limit, now)
            assert sum(size for at, size in taken if at > later - MINUTE_US * 61 // 60) + amount <= limit or later > now


@pytest.mark.parametrize("url", ["http://somewhere", "redis://host:port/0", "nonsense"])
def test_a_redis_url_that_can_not_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="redis_url") as caught:
        open_counters(Secret(url), SystemClock())
    assert url not in str(caught.value)
