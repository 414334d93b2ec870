"""How many windows are kept, and that nobody notices which."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from driven_clock import DrivenClock
from pointsman.accounting.counters import MemoryCounters
from pointsman.accounting.lease_book import LeaseBook
from pointsman.accounting.leases import LeaseAnswer, LeasedCounters, LeaseQuestion
from pointsman.accounting.windows import DAY_US, MINUTE_US, SLOTS, Windows

SECOND_US = 1_000_000
START_US = 1_000 * SECOND_US


def test_keys_that_come_and_go_leave_nothing() -> None:
    windows = Windows()
    most = 0
    for number in range(20_000):
        now = START_US + number * SECOND_US // 10  # some 610 in a window
        windows.counter(f"key:{number}", MINUTE_US).take(1, now)
        most = max(most, len(windows.by_name))
    assert most < 1_000
    assert windows.forgotten == 0
    assert len(windows._turns) == len(windows.by_name)


def test_windows_of_keys_that_are_idle_are_found_at_a_flush() -> None:
    clock = DrivenClock()
    counters = MemoryCounters(clock)
    for number in range(3_000):
        counters.counter(f"key:{number}", MINUTE_US).take(1, clock.us)
    clock.advance(62.0)
    for _ in range(3):
        asyncio.run(counters.flush())
    assert counters.windows.by_name == {}


def test_beyond_the_bound_the_least_used_are_forgotten() -> None:
    windows = Windows(most=100)
    spent = windows.counter("spent", DAY_US)
    spent.take(10, START_US)
    for number in range(5_000):
        windows.counter(f"key:{number}", DAY_US).take(1, START_US + number)
    assert len(windows.by_name) <= 100
    assert windows.forgotten == 4_901
    assert spent.wait(1, 10, START_US + 5_000) > 0


def test_counters_of_one_name_count_together_also_when_their_window_came_and_went() -> None:
    windows = Windows()
    first = windows.counter("one", MINUTE_US)
    first.take(1, START_US)
    later = START_US + 62 * SECOND_US
    windows.sweep(10, later)
    assert windows.by_name == {}
    second = windows.counter("one", MINUTE_US)
    second.take(3, later)
    assert first.remaining(10, later)[0] == second.remaining(10, later)[0] == 7
    first.take(7, later)
    assert second.wait(1, 10, later) > 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 70_000_000), st.integers(1, 5)), max_size=80))
def test_what_is_swept_away_changes_no_answer(steps: list[tuple[int, int, int]]) -> None:
    shared, now = Windows(), START_US
    alone = [Windows().counter("it", MINUTE_US) for _ in range(6)]
    for owner, pause, amount in steps:
        now += pause
        shared.sweep(3, now)
        window = shared.counter(str(owner), MINUTE_US)
        assert window.wait(amount, 9, now) == alone[owner].wait(amount, 9, now)
        if window.wait(amount, 9, now) == 0:
            assert window.take(amount, now) == alone[owner].take(amount, now)
        assert window.remaining(9, now) == alone[owner].remaining(9, now)


def question(need: int = 1) -> LeaseQuestion:
    slot_us = MINUTE_US // SLOTS
    return LeaseQuestion(limit=10, need=need, portion=0, slot_us=slot_us, owed=0, returned=())


def test_a_supervisors_book_forgets_what_counts_no_more() -> None:
    clock = DrivenClock()
    book = LeaseBook(clock.now_us)
    for number in range(5_000):
        book.grant(f"key:{number}", question())
        clock.advance(0.1)
    assert len(book.windows.by_name) < 1_000
    clock.advance(62.0)
    for _ in range(1_000):
        book.grant("asks for nothing", question(need=0))
    assert book.windows.by_name == {}


class BookStore:
    """A book that is asked at once."""

    def __init__(self, book: LeaseBook) -> None:
        self.book = book

    async def grant(self, name: str, asked: LeaseQuestion) -> LeaseAnswer:
        """What the book says."""
        return self.book.grant(name, asked)

    async def leave(self) -> None:
        """The book stays."""


def test_a_worker_keeps_no_counter_that_no_rule_names_and_that_has_nothing_to_give_back() -> None:
    async def story() -> None:
        clock = DrivenClock()
        counters = LeasedCounters(BookStore(LeaseBook(clock.now_us)), clock)
        for number in range(500):
            await counters.counter(f"key:{number}", MINUTE_US).lease(1, 1_000)
        assert len(counters._counters) == 500  # each holds a lease
        clock.advance(2.0)
        await counters.flush()
        await counters.flush()
        assert len(counters._counters) == 0

    asyncio.run(story())
