"""Windows of budgets, against the calendar of the standard library."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.windows import DAY_US, SECOND_US, Window

INSTANTS = st.integers(0, 4_000_000_000 * SECOND_US)  # until 2096
CALENDAR = st.sampled_from([Window("day"), Window("week"), Window("month")])


def moment(at: int) -> datetime.datetime:
    """An instant in UTC."""
    return datetime.datetime.fromtimestamp(at // SECOND_US, datetime.UTC)


@given(INSTANTS, CALENDAR)
def test_every_instant_is_in_one_period_that_begins_at_midnight_utc_and_ends_where_the_next_begins(
    at: int, window: Window
) -> None:
    begin, end = window.period(at), window.end(window.period(at))
    assert end is not None
    assert begin <= at < end
    assert begin % DAY_US == 0
    assert window.period(begin) == window.period(end - 1) == begin
    assert window.period(end) == end
    first = moment(begin)
    assert window.kind != "week" or (first.weekday() == 0 and end - begin == 7 * DAY_US)
    assert window.kind != "month" or (first.day == 1 and moment(end - SECOND_US).month == first.month)


@given(INSTANTS, INSTANTS, st.integers(60, 366 * 86_400))
def test_two_instants_within_a_rolling_window_always_count_together(one: int, other: int, seconds: int) -> None:
    window = Window("rolling", seconds)
    low, high = window.span(window.period(one))
    if abs(one - other) < seconds * SECOND_US:
        assert low <= window.period(other) <= high
    elif abs(one - other) > (seconds + seconds // 30 + 2) * SECOND_US:
        assert not low <= window.period(other) <= high


@given(INSTANTS)
def test_a_window_without_an_end_has_one_period(at: int) -> None:
    window = Window()
    assert (window.period(at), window.end(0), window.span(0), window.turn(at)) == (0, None, (0, 0), 0)
