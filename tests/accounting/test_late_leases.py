"""Answers about shared limits that come late, or never: nothing is lost that the store has granted, nothing twice."""

import asyncio
import signal
import socket

import pytest

from driven_clock import DrivenClock
from pointsman.accounting.counters import CountersError, UnaskedError
from pointsman.accounting.lease_book import LeaseBook
from pointsman.accounting.leases import (
    RETRY_SECONDS,
    LeaseAnswer,
    LeasedCounter,
    LeasedCounters,
    LeaseQuestion,
)
from pointsman.accounting.redis_store import RedisStore
from pointsman.accounting.telemetry import Sums
from pointsman.accounting.windows import DAY_US
from pointsman.keyring import Secret
from pointsman.server.worker_link import AnyMessage, AskLease, Channel, Lease, Place, WorkerLink
from redis_server import running_redis
from steady_load import until
from stories import tell

LIMIT = 10_000
PORTION = 100
SHORT_SECONDS = 0.05  # a time-out that is meant to pass
LONG_SECONDS = 30.0


class TroubledStore:
    """A book that may answer late, or fail before or after it has done what it was asked."""

    def __init__(self, clock: DrivenClock) -> None:
        self._book = LeaseBook(clock.now_us)
        self.answers = asyncio.Event()
        self.answers.set()
        self.reachable = True
        self.tells = True

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """What the book says, if it gets through, and when it does."""
        if not self.reachable:
            raise UnaskedError("nobody listens")
        answer = self._book.grant(name, question)
        await self.answers.wait()
        if not self.tells:
            raise CountersError("the connection broke")
        return answer

    async def leave(self) -> None:
        """The book stays."""

    def left(self) -> int:
        """What was given to nobody."""
        question = LeaseQuestion(limit=LIMIT, need=0, portion=0, slot_us=DAY_US // 60, owed=0, returned=())
        return self._book.grant("one", question).remaining


class Desk:
    """A process' counter of a day's limit."""

    def __init__(self, timeout_seconds: float = LONG_SECONDS) -> None:
        self.clock = DrivenClock()
        self.store = TroubledStore(self.clock)
        self.counters = LeasedCounters(self.store, self.clock, timeout_seconds)
        self.counter: LeasedCounter = self.counters.counter("one", DAY_US)

    async def fail(self) -> None:
        """Lease in vain, and let the time pass in which nobody asks again."""
        with pytest.raises(CountersError):
            await self.counter.lease(1, LIMIT)
        self.clock.advance(RETRY_SECONDS)

    async def give_back(self) -> None:
        """Let the lease end and give back what is left of it."""
        self.clock.advance(1.1)
        await self.counters.flush()


def test_what_a_late_answer_grants_is_given_back() -> None:
    async def story() -> None:
        desk = Desk(SHORT_SECONDS)
        desk.store.answers.clear()
        for _ in range(3):
            await desk.fail()
        assert desk.store.left() < LIMIT
        desk.store.answers.set()
        await until(lambda: desk.counters.holding, "the late answers")
        await desk.give_back()
        assert desk.store.left() == LIMIT
        await desk.counters.aclose()

    tell(story)


def test_a_late_answer_costs_nothing_of_what_a_later_question_got() -> None:
    async def story() -> None:
        desk = Desk(SHORT_SECONDS)
        desk.store.answers.clear()
        await desk.fail()
        late, desk.store.answers = desk.store.answers, asyncio.Event()
        desk.store.answers.set()
        await desk.counter.lease(7, LIMIT)
        late.set()
        await until(lambda: desk.counter.wait(7, LIMIT, desk.clock.us) is None, "the late answer")
        await desk.give_back()
        assert desk.store.left() == LIMIT
        await desk.counters.aclose()

    tell(story)


def test_a_caller_that_leaves_leaves_its_lease_to_others() -> None:
    async def story() -> None:
        desk = Desk()
        desk.store.answers.clear()
        caller = asyncio.create_task(desk.counter.lease(1, LIMIT))
        await until(lambda: desk.counters.round_trips, "the question")
        caller.cancel()
        await asyncio.wait({caller})
        desk.store.answers.set()
        await until(lambda: desk.counters.holding, "the answer")
        assert desk.counter.wait(PORTION, LIMIT, desk.clock.us) == 0
        await desk.counters.aclose()
        assert desk.store.left() == LIMIT

    tell(story)


def test_answers_that_never_come_cost_one_portion_and_then_no_more_than_what_was_needed() -> None:
    async def story() -> None:
        desk = Desk()
        desk.store.tells = False
        for _ in range(10):
            await desk.fail()
        assert desk.store.left() == LIMIT - PORTION - 9
        desk.store.tells = True
        await desk.counter.lease(1, LIMIT)
        assert desk.counter.wait(2, LIMIT, desk.clock.us) is None
        await desk.counter.lease(2, LIMIT)
        assert desk.counter.wait(PORTION, LIMIT, desk.clock.us) == 0
        await desk.counters.aclose()

    tell(story)


@pytest.mark.parametrize("reachable", [True, False])
def test_what_is_to_be_given_back_is_kept_when_nothing_was_sent_and_never_given_back_twice(reachable: bool) -> None:
    async def story() -> None:
        desk = Desk()
        await desk.counter.lease(1, LIMIT)
        assert desk.store.left() == LIMIT - PORTION
        desk.store.reachable, desk.store.tells = reachable, not reachable
        await desk.give_back()
        assert desk.store.left() == (LIMIT if reachable else LIMIT - PORTION)
        desk.store.reachable = desk.store.tells = True
        other = LeasedCounters(desk.store, desk.clock).counter("one", DAY_US)
        await other.lease(50, LIMIT)
        await desk.give_back()
        assert desk.store.left() == LIMIT - PORTION
        await desk.counters.aclose()

    tell(story)


def test_what_a_redis_that_hung_has_granted_is_given_back() -> None:
    async def story() -> None:
        clock = DrivenClock()
        store = RedisStore(Secret(redis.url), clock.now_us, LONG_SECONDS)
        counters = LeasedCounters(store, clock, SHORT_SECONDS)
        counter = counters.counter("one", DAY_US)
        look = LeaseQuestion(limit=LIMIT, need=0, portion=0, slot_us=DAY_US // 60, owed=0, returned=())
        assert (await store.grant("one", look)).remaining == LIMIT
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        with pytest.raises(CountersError):
            await counter.lease(1, LIMIT)
        redis.process.send_signal(signal.SIGCONT)
        await until(lambda: counters.holding, "the late answer")
        assert (await store.grant("one", look)).remaining == LIMIT - PORTION
        clock.advance(RETRY_SECONDS)
        await counters.flush()
        while (await store.grant("one", look)).remaining < LIMIT:  # noqa: ASYNC110 - Redis has no event
            await asyncio.sleep(0.005)
        await counters.aclose()

    with running_redis() as redis:
        tell(story)


class LateSupervisor:
    """The other end of a worker's link. It does what it is asked at once, and tells so when it is let."""

    def __init__(self, clock: DrivenClock) -> None:
        self.book = LeaseBook(clock.now_us)
        self.held: list[Lease] = []
        self.channel: Channel

    def receive(self, message: AnyMessage) -> None:
        """Hold the answer."""
        if isinstance(message, AskLease):
            self.held.append(Lease(number=message.number, answer=self.book.grant(message.name, message.question)))

    def tell(self) -> None:
        """Send the answers."""
        for lease in self.held:
            self.channel.send(lease)
        self.held.clear()


def test_what_a_late_supervisor_has_granted_is_given_back() -> None:
    async def story() -> None:
        clock = DrivenClock()
        ours, theirs = socket.socketpair()
        supervisor = LateSupervisor(clock)
        supervisor.channel = await Channel.over(ours, supervisor.receive, lambda: None)
        link = WorkerLink(Place(control=theirs.detach(), share=0, listeners=[]))
        await link.connect(Sums)
        counters = LeasedCounters(link, clock, SHORT_SECONDS)
        counter = counters.counter("one", DAY_US)
        with pytest.raises(CountersError):
            await counter.lease(1, LIMIT)
        await until(lambda: supervisor.held, "the question")
        supervisor.tell()
        await until(lambda: counters.holding, "the late answer")
        clock.advance(RETRY_SECONDS)
        await counters.aclose()
        await until(lambda: not supervisor.book.windows.by_name["one"].total, "what is given back")
        supervisor.channel.close()
        await link.aclose()

    tell(story)
