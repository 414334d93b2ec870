"""Calls that lease from shared limits at the same time: each is taken in or refused in its turn, none is sent away."""

import asyncio
import random

import pytest

from driven_clock import DrivenClock
from pointsman.accounting.lease_book import LeaseBook
from pointsman.accounting.leases import LeaseAnswer, LeasedCounters, LeaseQuestion
from pointsman.canonical.limits import NO_LIMITS, Limits
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.policy import limits as policy
from pointsman.policy.limits import Limiter, LimitTable, Reservation
from stories import tell

CALLS = 150


class DistantStore:
    """A book that others ask. Its answers take many turns of the loop, so that calls overtake each other."""

    def __init__(self, clock: DrivenClock) -> None:
        self._book = LeaseBook(clock.now_us)
        self.reachable = asyncio.Event()
        self.reachable.set()

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """What the book says, on the way back for a while."""
        await self.reachable.wait()
        answer = self._book.grant(name, question)
        for _ in range(2 * CALLS):
            await asyncio.sleep(0)
        return answer

    async def leave(self) -> None:
        """The book stays."""


class Desk:
    """A limiter of shared limits."""

    def __init__(self, *, keys: Limits = NO_LIMITS, workspaces: Limits = NO_LIMITS) -> None:
        clock = DrivenClock()
        self.store = DistantStore(clock)
        self.counters = LeasedCounters(self.store, clock, timeout_seconds=30.0)
        self.limiter = Limiter(self.counters, clock)
        self.table = LimitTable(self.counters, keys=keys, workspaces=workspaces)

    async def call(self, tokens: int, key: str = "key_1") -> Reservation | None:
        """Take a call in as a request is."""
        rules = self.table.caller_rules(Key(id=key, name="one", role="inference", workspace_id="default"))
        return self.limiter.try_reserve(rules, tokens) or await self.limiter.reserve(rules, tokens)


def test_far_from_their_limits_all_calls_of_a_moment_are_taken_in() -> None:
    async def story() -> None:
        plenty = Limits(requests_per_minute=30_000, tokens_per_minute=1_000_000)
        desk = Desk(keys=plenty, workspaces=plenty)
        sizes = random.Random(1)
        reservations = await asyncio.gather(*(desk.call(sizes.randint(2000, 4000)) for _ in range(CALLS)))
        assert None not in reservations

    tell(story)


def test_many_keys_of_a_workspace_use_up_exactly_what_it_has() -> None:
    async def story() -> None:
        desk = Desk(
            keys=Limits(requests_per_minute=10, tokens_per_minute=10_000),
            workspaces=Limits(requests_per_minute=CALLS, tokens_per_minute=CALLS * 100),
        )
        calls = [desk.call(100, f"key_{number}") for number in range(CALLS + 30)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, Reservation) for result in results) == CALLS
        refusals = [result for result in results if isinstance(result, GatewayError)]
        assert [refusal.kind for refusal in refusals] == [Kind.RATE_LIMITED] * 30

    tell(story)


def test_a_call_that_leaves_lets_the_next_one_ask() -> None:
    async def story() -> None:
        desk = Desk(keys=Limits(requests_per_minute=10, tokens_per_minute=1000))
        desk.store.reachable.clear()
        first, second, third = calls = [asyncio.create_task(desk.call(10)) for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
        first.cancel()  # it asks
        second.cancel()  # it waits for the first
        desk.store.reachable.set()
        assert await third is not None
        await asyncio.gather(*calls, return_exceptions=True)
        assert [call.cancelled() for call in calls] == [True, True, False]

    tell(story)


def test_a_call_whose_turn_does_not_come_in_time_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "PATIENCE_SECONDS", 0.05)

    async def story() -> None:
        desk = Desk(keys=Limits(requests_per_minute=10))
        desk.store.reachable.clear()
        results = await asyncio.gather(desk.call(1), desk.call(1), return_exceptions=True)
        errors = [result for result in results if isinstance(result, GatewayError)]
        assert [(error.kind, error.retry_after_seconds) for error in errors] == [(Kind.OVERLOADED, 1)] * 2
        desk.store.reachable.set()
        assert await desk.call(1) is not None

    tell(story)
