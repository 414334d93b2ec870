"""The ticker: deadlines fire never early and at most half a second late; members may come and go meanwhile."""

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.ticker import INTERVAL_SECONDS, Ticker


class DrivenClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now_us(self) -> int:
        return int((1_700_000_000 + self.seconds) * 1e6)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_1"


class DrivenLoop:
    """The one method of a loop that the ticker uses; `run_until` moves the clock from timer to timer."""

    def __init__(self, clock: DrivenClock) -> None:
        self.clock = clock
        self.timers: list[tuple[float, Any, Handle]] = []

    def call_later(self, delay: float, callback: Any) -> "Handle":
        handle = Handle()
        self.timers.append((self.clock.seconds + delay, callback, handle))
        return handle

    def run_until(self, end: float, late: float = 0.0) -> None:
        """Run timers that are due by ``end``, each ``late`` seconds after its time."""
        while True:
            self.timers = [timer for timer in self.timers if not timer[2].cancelled]
            due = min(self.timers, key=lambda timer: timer[0], default=None)
            if due is None or due[0] > end:
                self.clock.seconds = end
                return
            self.timers.remove(due)
            self.clock.seconds = due[0] + late
            due[1]()


class Handle:
    """A timer's handle."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Member:
    """Notes when it expired; then does what the test wants."""

    def __init__(self, clock: DrivenClock, deadline: float, then: Any = None) -> None:
        self.clock = clock
        self.deadline = deadline
        self.then = then
        self.fired: list[float] = []

    def expired(self) -> None:
        self.fired.append(self.clock.seconds)
        self.deadline = float("inf")
        if self.then is not None:
            self.then(self)


def make() -> tuple[DrivenClock, DrivenLoop, Ticker]:
    """A started ticker on a clock of the test's own."""
    clock = DrivenClock()
    loop = DrivenLoop(clock)
    ticker = Ticker(loop, clock)  # type: ignore[arg-type]
    ticker.start()
    return clock, loop, ticker


@given(wait=st.floats(0, 3), seconds=st.floats(0.001, 30))
@settings(max_examples=300, deadline=None)
def test_a_deadline_is_never_early_and_at_most_half_a_second_late(wait: float, seconds: float) -> None:
    clock, loop, ticker = make()
    loop.run_until(clock.seconds + wait)
    asked = clock.seconds
    member = Member(clock, ticker.now + seconds)
    ticker.members.add(member)
    loop.run_until(asked + seconds + 1)
    (fired,) = member.fired
    assert fired >= asked + seconds - 1e-9
    assert fired <= asked + seconds + 2 * INTERVAL_SECONDS + 1e-9


def test_members_may_leave_while_others_expire() -> None:
    clock, loop, ticker = make()
    members: list[Member] = []
    for _ in range(10):
        member = Member(clock, clock.seconds, then=lambda one: ticker.members.difference_update(members))
        members.append(member)
    ticker.members.update(members)
    loop.run_until(clock.seconds + 1)
    assert not ticker.members
    assert sum(len(member.fired) for member in members) >= 1


def test_members_may_come_while_others_expire() -> None:
    clock, loop, ticker = make()
    late = Member(clock, clock.seconds)
    ticker.members.add(Member(clock, clock.seconds, then=lambda one: ticker.members.add(late)))
    loop.run_until(clock.seconds + 1)
    assert len(late.fired) == 1


def test_a_member_that_left_before_its_turn_is_not_told() -> None:
    clock, loop, ticker = make()
    pair: list[Member] = []

    def leave_both(one: Member) -> None:
        for member in pair:
            ticker.members.discard(member)

    pair += [Member(clock, clock.seconds, leave_both), Member(clock, clock.seconds, leave_both)]
    ticker.members.update(pair)
    loop.run_until(clock.seconds + 1)
    assert sorted(len(member.fired) for member in pair) == [0, 1]


def test_one_member_that_fails_does_not_stop_the_ticker() -> None:
    clock, loop, ticker = make()

    def fail(one: Member) -> None:
        raise RuntimeError("broken member")

    ticker.members.add(Member(clock, clock.seconds, fail))
    other = Member(clock, clock.seconds + 2)
    ticker.members.add(other)
    for _ in range(3):
        try:
            loop.run_until(clock.seconds + 4)
        except RuntimeError:
            pass
    assert len(other.fired) == 1


def test_a_stopped_ticker_fires_nothing() -> None:
    clock, loop, ticker = make()
    member = Member(clock, clock.seconds + 1)
    ticker.members.add(member)
    ticker.stop()
    ticker.stop()
    loop.run_until(clock.seconds + 10)
    assert member.fired == []


def test_lag_is_how_late_the_sweep_came() -> None:
    clock, loop, ticker = make()
    loop.run_until(clock.seconds + 1)
    assert ticker.lag_seconds == pytest.approx(0, abs=1e-9)
    loop.run_until(clock.seconds + 0.25, late=0.1)
    assert ticker.lag_seconds == pytest.approx(0.1)


def test_the_date_header_follows_the_clock() -> None:
    clock, loop, ticker = make()
    for _ in range(3):
        assert ticker.date_header.startswith(b"date: ")
        assert ticker.date_header.endswith(b" GMT\r\n")
        shown = parsedate_to_datetime(ticker.date_header[6:].decode().strip()).timestamp()
        assert 0 <= clock.now_us() / 1e6 - shown < 1 + INTERVAL_SECONDS
        loop.run_until(clock.seconds + 1.5)


def test_it_ticks_on_a_real_loop() -> None:
    async def run() -> None:
        from pointsman.clock import SystemClock

        loop = asyncio.get_running_loop()
        clock = SystemClock()
        ticker = Ticker(loop, clock)
        ticker.start()
        done = loop.create_future()

        class Real:
            deadline = ticker.now + 0.01

            def expired(self) -> None:
                if not done.done():
                    done.set_result(clock.monotonic())

        start = clock.monotonic()
        ticker.members.add(Real())
        fired = await asyncio.wait_for(done, 10)
        ticker.stop()
        assert fired - start >= 0.01

    asyncio.run(run())
