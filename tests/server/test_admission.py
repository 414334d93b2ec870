"""The places for inference calls and the queue in front of them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pointsman.canonical.limits import HIGH, LOW, NORMAL
from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.runner import Runner
from pointsman.server.admission import Admission
from pointsman.settings import ServerSettings
from pointsman.ticker import Ticker


class Gate:
    """An admission with one place and callers that note their turn."""

    def __init__(self, **settings: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.ticker = Ticker(self.loop, SystemClock())
        values = {"max_concurrent_requests": 1, "max_queued_requests": 3, **settings}
        self.admission = Admission(ServerSettings(**values), self.ticker)
        self.served: list[str] = []
        self.refused: dict[str, GatewayError] = {}

    def arrive(self, name: str, priority: int = NORMAL) -> Runner:
        """A call that comes now, and leaves its place when `leave` is called."""

        async def call() -> None:
            try:
                if not self.admission.try_enter(priority):
                    await self.admission.enter(priority)
            except GatewayError as error:
                self.refused[name] = error
                return
            self.served.append(name)

        runner = Runner(self.loop, call())
        runner.start()
        return runner

    async def leave(self) -> None:
        """The call that has the place is done; the next has its turn."""
        self.admission.leave()
        await asyncio.sleep(0)


def gated(test: Callable[[Gate], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a gate in a loop of its own."""

    async def work() -> None:
        await test(Gate(**settings))

    asyncio.run(work())


def test_the_highest_priority_goes_first_and_within_it_the_first_that_came() -> None:
    async def work(gate: Gate) -> None:
        gate.arrive("running")
        for name, priority in (("l1", LOW), ("n1", NORMAL), ("h1", HIGH), ("n2", NORMAL), ("h2", HIGH)):
            gate.arrive(name, priority)
        for _ in range(5):
            await gate.leave()
        assert gate.served == ["running", "h1", "h2", "n1", "n2", "l1"]
        assert (gate.admission.running, gate.admission.queued) == (1, 0)
        await gate.leave()
        assert gate.admission.running == 0

    gated(work, max_queued_requests=5)


def test_a_full_queue_is_told_at_once() -> None:
    async def work(gate: Gate) -> None:
        for name in ("running", "q1", "q2", "q3", "over"):
            gate.arrive(name)
        assert gate.refused["over"].kind is Kind.OVERLOADED
        assert gate.refused["over"].retry_after_seconds == 1
        assert gate.admission.refused["full"] == 1

    gated(work)


def test_a_full_queue_gives_way_to_a_higher_priority() -> None:
    async def work(gate: Gate) -> None:
        for name, priority in (("running", LOW), ("l1", LOW), ("l2", LOW), ("n1", NORMAL)):
            gate.arrive(name, priority)
        gate.arrive("high", HIGH)
        await asyncio.sleep(0)
        assert list(gate.refused) == ["l2"]
        await gate.leave()
        assert gate.served == ["running", "high"]
        gate.arrive("l3", LOW)
        gate.arrive("l4", LOW)
        assert "l4" in gate.refused

    gated(work)


def test_a_client_that_leaves_frees_its_place_in_the_queue_at_once() -> None:
    async def work(gate: Gate) -> None:
        gate.arrive("running")
        waiting = [gate.arrive(name) for name in ("q1", "q2", "q3")]
        waiting[1].cancel()
        assert gate.admission.queued == 2
        assert len(gate.ticker.members) == 2
        gate.arrive("q4")
        for _ in range(3):
            await gate.leave()
        assert gate.served == ["running", "q1", "q3", "q4"]

    gated(work)


def test_a_client_that_leaves_between_its_turn_and_its_start_passes_the_place_on() -> None:
    async def work(gate: Gate) -> None:
        gate.arrive("running")
        first = gate.arrive("q1")
        gate.arrive("q2")
        gate.admission.leave()
        first.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gate.served == ["running", "q2"]
        await gate.leave()
        assert gate.admission.running == 0

    gated(work)


def test_who_waits_too_long_is_told_so() -> None:
    async def work(gate: Gate) -> None:
        gate.arrive("running")
        gate.arrive("q1")
        [turn] = gate.ticker.members
        assert 0 < turn.deadline - gate.ticker.now <= 7.0
        turn.expired()
        await asyncio.sleep(0)
        assert "within 7 s" in gate.refused["q1"].message
        assert (gate.admission.queued, len(gate.ticker.members)) == (0, 0)
        await gate.leave()
        assert gate.admission.running == 0

    gated(work, queue_timeout_seconds=7.0)


def test_a_late_loop_refuses_low_priority_only() -> None:
    async def work(gate: Gate) -> None:
        gate.ticker.lag_seconds = 0.6
        for name, priority in (("low", LOW), ("normal", NORMAL)):
            gate.arrive(name, priority)
        assert list(gate.refused) == ["low"]
        assert gate.served == ["normal"]
        gate.ticker.lag_seconds = 0.4
        gate.arrive("low again", LOW)
        assert gate.admission.queued == 1

    gated(work)


def test_thousands_that_fail_at_once_do_not_pile_up_on_the_stack() -> None:
    async def work(gate: Gate) -> None:
        gate.arrive("running")

        async def fails() -> None:
            if not gate.admission.try_enter(NORMAL):
                await gate.admission.enter(NORMAL)
            gate.admission.leave()

        for _ in range(5000):
            Runner(gate.loop, fails()).start()
        gate.admission.leave()
        for _ in range(5001):
            await asyncio.sleep(0)
        assert (gate.admission.running, gate.admission.queued) == (0, 0)

    gated(work, max_queued_requests=5000)


def test_no_room_at_all_means_nobody_waits() -> None:
    async def work(gate: Gate) -> None:
        gate.arrive("running")
        with pytest.raises(GatewayError):
            await gate.admission.enter(HIGH)

    gated(work, max_queued_requests=0)
