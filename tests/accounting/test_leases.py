"""Counters of several processes behind a real Redis, and behind the memory of one process, on a driven clock."""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from driven_clock import DrivenClock
from pointsman.accounting.counters import CountersError
from pointsman.accounting.lease_book import LeaseBook
from pointsman.accounting.leases import (
    TIMEOUT_SECONDS,
    LeaseAnswer,
    LeasedCounter,
    LeasedCounters,
    LeaseQuestion,
    LeaseStore,
)
from pointsman.accounting.redis_store import RedisStore
from pointsman.accounting.windows import MINUTE_US
from pointsman.keyring import Secret
from redis_server import RedisProcess, running_redis

PROCESSES = 3
PAUSES = st.one_of(st.sampled_from([0.1, 0.4, 0.9, 1.1, 58.9, 59.1, 59.6, 60.5]), st.floats(0, 70))


Place = Callable[[DrivenClock], LeaseStore]


class BookStore:
    """The memory of one process, asked by others, as a supervisor is by its workers."""

    def __init__(self, book: LeaseBook) -> None:
        self._book = book

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """What the book says, a turn of the loop later."""
        await asyncio.sleep(0)
        return self._book.grant(name, question)

    async def leave(self) -> None:
        """The book stays."""


def place_in_redis(url: str) -> Place:
    """Every process has a connection of its own."""
    return lambda clock: RedisStore(Secret(url), clock.now_us, 30.0)


def place_in_memory() -> Place:
    """One book for all processes of a clock."""
    books: dict[DrivenClock, LeaseBook] = {}
    return lambda clock: BookStore(books.setdefault(clock, LeaseBook(clock.now_us)))


@pytest.fixture(params=["redis", "memory"])
def place(request: pytest.FixtureRequest) -> Place:
    """Where the windows are kept."""
    if request.param == "memory":
        return place_in_memory()
    return place_in_redis(request.getfixturevalue("redis_url"))


class Node:
    """One process' counters, with what it needs to make a call."""

    def __init__(self, place: Place, clock: DrivenClock, name: str, timeout: float = 30.0) -> None:
        self.store = place(clock)
        self.counters = LeasedCounters(self.store, clock, timeout)
        self.counter: LeasedCounter = self.counters.counter(name, MINUTE_US)
        self._clock = clock

    async def take(self, amount: int, limit: int) -> int | None:
        """Take as a call does; gives the slot, None: refused."""
        for _ in range(5):
            wait = self.counter.wait(amount, limit, self._clock.us)
            if wait == 0:
                return self.counter.take(amount, self._clock.us)
            if wait is not None:
                return None
            await self.counter.lease(amount, limit)
        raise AssertionError("neither granted nor refused")

    async def die(self) -> None:
        """Close the sockets and tell nobody anything."""
        await self.store.leave()


class ThreeProcesses(RuleBasedStateMachine):
    """Any order of calls, settlements, flushes, deaths and time."""

    place: Any

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = DrivenClock()
        self.name = uuid.uuid4().hex
        self.limit = 1
        self.taken: list[list[int]] = []  # [time, amount that stays used]
        self.open: deque[tuple[int, int, list[int]]] = deque()  # process, slot, its row in `taken`
        self.nodes = [Node(self.place, self.clock, self.name) for _ in range(PROCESSES)]

    def run(self, work: Any) -> Any:
        """Run it in the machine's loop."""
        return self.loop.run_until_complete(work)

    @initialize(limit=st.sampled_from([1, 2, 5, 40, 1000]))
    def choose_limit(self, limit: int) -> None:
        self.limit = limit

    @rule(which=st.integers(0, PROCESSES - 1), share=st.floats(0, 1), times=st.integers(1, 8))
    def call(self, which: int, share: float, times: int) -> None:
        amount = max(1, int(self.limit * share * share))
        for _ in range(times):
            if not self._take(which, amount):
                break

    @rule(which=st.integers(0, PROCESSES - 1), seconds=PAUSES)
    def take_all_there_is_and_wait(self, which: int, seconds: float) -> None:
        self._take_all(which)
        self.clock.advance(seconds)
        self._take_all(which)
        self.never_more_than_the_limit_in_a_minute()

    def _take_all(self, which: int) -> None:
        amount = self.limit
        while amount:
            if not self._take(which, amount):
                amount //= 2

    def _take(self, which: int, amount: int) -> bool:
        slot = self.run(self.nodes[which].take(amount, self.limit))
        if slot is not None:
            row = [self.clock.us, amount]
            self.taken.append(row)
            self.open.append((which, slot, row))
        return slot is not None

    @precondition(lambda self: self.open)
    @rule(used=st.floats(0, 1))
    def settle_with_less(self, used: float) -> None:
        which, slot, row = self.open.popleft()
        less = row[1] - int(row[1] * used)
        self.nodes[which].counter.correct(slot, -less, self.clock.us)
        row[1] -= less

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, PROCESSES - 1))
    def flush(self, which: int) -> None:
        self.run(self.nodes[which].counters.flush())

    @rule(which=st.integers(0, PROCESSES - 1))
    def die(self, which: int) -> None:
        self.run(self.nodes[which].die())
        self.nodes[which] = Node(self.place, self.clock, self.name)
        self.open = deque(one for one in self.open if one[0] != which)

    @invariant()
    def never_more_than_the_limit_in_a_minute(self) -> None:
        assert sum(amount for at, amount in self.taken if at > self.clock.us - MINUTE_US) <= self.limit

    def teardown(self) -> None:
        """After a window of rest all capacity is there, whoever died."""
        try:
            self.clock.advance(62)
            assert self.run(self.nodes[0].take(self.limit, self.limit)) is not None
        finally:
            for node in self.nodes:
                self.run(node.die())
            self.loop.close()


def test_three_processes_never_exceed_a_limit_and_lose_no_capacity_for_ever(place: Place) -> None:
    _place = place

    class Machine(ThreeProcesses):
        place = staticmethod(_place)

    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=20, deadline=None))


def run(work: Any) -> Any:
    """Run a coroutine."""
    return asyncio.run(work)


def test_of_a_need_beyond_the_limit_nothing_is_granted(place: Place) -> None:
    async def story() -> LeaseAnswer:
        store = place(DrivenClock())
        question = LeaseQuestion(limit=10, need=11, portion=1, slot_us=1_000_000, owed=0, returned=())
        answer = await store.grant(uuid.uuid4().hex, question)
        await store.leave()
        return answer

    answer = asyncio.run(story())
    assert (answer.granted, answer.remaining) == (0, 10)


def test_most_calls_cost_no_round_trip(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        node = Node(place, clock, uuid.uuid4().hex)
        for _ in range(1000):
            assert await node.take(1, 60_000) is not None
        assert node.counters.round_trips == 2
        await node.counters.aclose()

    run(work())


def test_a_wait_told_by_the_store_is_exact(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        first, second = (Node(place, clock, name) for name in [uuid.uuid4().hex] * 2)
        assert await first.take(5, 5) is not None
        clock.advance(7.5)
        assert await second.take(1, 5) is None
        wait = second.counter.wait(1, 5, clock.us)
        assert wait
        clock.us += wait - 1
        assert await second.take(1, 5) is None
        clock.us += 1
        assert await second.take(1, 5) is not None
        for node in (first, second):
            await node.counters.aclose()

    run(work())


def test_a_refusal_is_not_believed_any_more_when_something_was_given_back(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        node = Node(place, clock, uuid.uuid4().hex)
        slot = await node.take(5, 5)
        assert slot is not None
        assert await node.take(1, 5) is None
        assert node.counter.wait(1, 5, clock.us)
        assert node.counter.wait(1, 6, clock.us) is None  # another limit, another question
        node.counter.correct(slot, -2, clock.us)
        assert await node.take(1, 5) is not None
        await node.counters.aclose()

    run(work())


class FarStore(BookStore):
    """A book to which a question takes 0.2 s, as the answer does on its way back."""

    def __init__(self, book: LeaseBook, clock: DrivenClock) -> None:
        super().__init__(book)
        self._clock = clock

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """What the book says on the question's arrival."""
        self._clock.advance(0.2)
        answer = await super().grant(name, question)
        self._clock.advance(0.2)
        return answer


def test_what_a_far_store_tells_of_times_is_never_too_early() -> None:
    async def work() -> None:
        clock = DrivenClock()
        book = LeaseBook(clock.now_us)
        far = Node(lambda clock: FarStore(book, clock), clock, "one")
        near = Node(lambda clock: BookStore(book), clock, "one")
        assert await near.take(5, 5) is not None
        clock.advance(7.5)
        assert await far.take(1, 5) is None
        wait, reset = far.counter.wait(1, 5, clock.us), far.counter.remaining(5, clock.us)[1]
        assert wait
        assert wait <= reset <= 61_000_000 - 7_500_000
        clock.us += wait
        assert await near.take(5, 5) is not None

    run(work())


def test_a_lease_of_a_far_store_ends_no_later_than_its_slot() -> None:
    async def work() -> None:
        clock = DrivenClock()
        clock.advance(0.5 - clock.us / 1e6 % 1)  # the store answers 0.3 s before its slot ends
        counter = Node(lambda clock: FarStore(LeaseBook(clock.now_us), clock), clock, "one").counter
        await counter.lease(1, 1000)
        clock.advance(0.15)
        assert counter.wait(1, 1000, clock.us) is None

    run(work())


def test_what_a_process_leaves_over_is_given_back_at_its_end(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        first, second = (Node(place, clock, name) for name in [uuid.uuid4().hex] * 2)
        assert await first.take(1, 1000) is not None
        assert first.counter.remaining(1000, clock.us)[0] == 999
        assert await second.take(995, 1000) is None
        await first.counters.aclose()
        clock.advance(1.0)
        assert await second.take(995, 1000) is not None
        await second.counters.aclose()

    run(work())


def test_before_the_first_lease_and_a_window_after_the_last_all_of_a_limit_is_left(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        node = Node(place, clock, uuid.uuid4().hex)
        assert node.counter.remaining(1000, clock.us) == (1000, 0)
        slot = await node.take(400, 1000)
        assert slot is not None
        remaining, reset = node.counter.remaining(1000, clock.us)
        assert remaining == 600
        clock.us += reset - 1
        assert node.counter.remaining(1000, clock.us) == (600, 1)
        clock.us += 1
        assert node.counter.remaining(1000, clock.us) == (1000, 0)
        node.counter.correct(slot, 300, clock.us)  # counted from now on
        assert node.counter.remaining(1000, clock.us) == (700, 0)
        await node.counters.aclose()

    run(work())


def test_over_use_is_owed_and_reported(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        first, second = (Node(place, clock, name) for name in [uuid.uuid4().hex] * 2)
        slot = await first.take(10, 100)
        assert slot is not None
        first.counter.correct(slot, 200, clock.us)
        await first.counters.flush()
        assert await second.take(1, 100) is None
        clock.advance(62)
        assert await second.take(100, 100) is not None
        for node in (first, second):
            await node.counters.aclose()

    run(work())


def test_calls_at_once_share_leases_and_stay_exact(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        nodes = [Node(place, clock, name) for name in [uuid.uuid4().hex] * 3]
        results = await asyncio.gather(*(nodes[number % 3].take(1, 100) for number in range(1000)))
        assert sum(result is not None for result in results) <= 100
        assert sum(result is not None for result in results) >= 95
        for node in nodes:
            await node.counters.aclose()

    run(work())


def test_redis_own_clock_is_used_outside_of_tests(redis_url: str) -> None:
    async def work() -> None:
        node = Node(lambda _: RedisStore(Secret(redis_url)), DrivenClock(), uuid.uuid4().hex)
        assert await node.take(1, 10) is not None
        assert await node.take(10, 10) is None
        await node.counters.aclose()

    run(work())


@pytest.fixture
def own_redis() -> Any:
    """A server that the test may kill."""
    with running_redis() as redis:
        yield redis


def test_an_outage_is_told_fast_once_and_over_when_redis_is_back(own_redis: RedisProcess) -> None:
    async def work() -> None:
        clock = DrivenClock()
        node = Node(place_in_redis(own_redis.url), clock, uuid.uuid4().hex)
        assert await node.take(1, 5) is not None
        own_redis.stop()
        for _ in range(3):
            with pytest.raises(CountersError):
                await node.take(5, 5)
        assert node.counters.failures == 1  # the others did not even try
        own_redis.start()
        with pytest.raises(CountersError):
            await node.take(5, 5)
        clock.advance(1.1)
        assert await node.take(5, 5) is not None
        await node.counters.aclose()

    run(work())


def test_a_redis_that_hangs_is_waited_for_no_longer_than_the_time_out(own_redis: RedisProcess) -> None:
    import signal
    import time

    async def work() -> None:
        node = Node(place_in_redis(own_redis.url), DrivenClock(), uuid.uuid4().hex, TIMEOUT_SECONDS)
        assert own_redis.process is not None
        own_redis.process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(CountersError):
            await node.take(1, 5)
        assert 0.4 < time.monotonic() - begin < 3.0
        own_redis.process.send_signal(signal.SIGCONT)
        await node.counters.aclose()

    run(work())


def test_a_lease_ends_with_its_slot(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        node = Node(place, clock, uuid.uuid4().hex)
        clock.advance(0.9)
        assert await node.take(1, 1000) is not None
        assert node.counter.wait(1, 1000, clock.us) == 0
        clock.advance(0.1)
        assert node.counter.wait(1, 1000, clock.us) is None
        await node.counters.aclose()

    run(work())


def test_nothing_is_given_back_twice(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        first, second = (Node(place, clock, name) for name in [uuid.uuid4().hex] * 2)
        assert await first.take(1, 1000) is not None
        clock.advance(1.1)
        for _ in range(3):
            await first.counters.flush()
        assert await second.take(1000, 1000) is None
        assert await second.take(999, 1000) is not None
        for node in (first, second):
            await node.counters.aclose()

    run(work())


def test_of_many_counters_only_those_that_hold_something_are_looked_at(place: Place) -> None:
    async def work() -> None:
        clock = DrivenClock()
        node = Node(place, clock, uuid.uuid4().hex)
        for _ in range(20):
            idle = node.counters.counter(uuid.uuid4().hex, MINUTE_US)
            await idle.lease(1, 1000)
            assert idle.wait(1, 1000, clock.us) == 0
        clock.advance(1.1)
        await node.counters.flush()
        assert not node.counters.holding
        slot = await node.take(1, 10)
        assert slot is not None
        await node.counters.flush()
        assert not node.counters.holding
        node.counter.correct(slot, -1, clock.us)
        assert node.counters.holding == {node.counter}
        clock.advance(1.1)
        await node.counters.flush()
        assert not node.counters.holding
        assert await node.take(10, 10) is not None
        await node.counters.aclose()

    run(work())
