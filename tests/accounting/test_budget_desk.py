"""Several processes spend one budget through its escrow, on real databases, with journals, projectors and crashes."""

import asyncio
import uuid
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from budget_stage import Process, Stage, stage
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.accounting.budget_desk import Hold
from pointsman.accounting.budget_pots import Shortage
from pointsman.canonical.windows import Window
from pointsman.storage.budget_leases import BudgetLeaseRepository, LeaseGrant
from pointsman.storage.budgets import BudgetRow
from pointsman.storage.database import StorageError

T = TypeVar("T")


def test_what_a_call_reserves_and_does_not_spend_is_there_for_other_processes_within_one_round(
    database_place: DatabasePlace,
) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            first, second = one.process(), one.process()
            hold = await first.reserve(row, 1000)
            with pytest.raises(Shortage) as caught:
                await second.reserve(row, 1, (first,))
            assert (caught.value.grant.held, caught.value.grant.spent) == (1000, 0)
            first.finish(row, hold, 400, "req_1")
            one.clock.advance(0.2)
            second.finish(row, await second.reserve(row, 600, (first,)), 600, "req_2")
            one.clock.advance(0.2)
            with pytest.raises(Shortage):
                await first.reserve(row, 1, (second,))
            await one.project()
            standing = await one.budgets.standing(row)
            assert (standing.spent, standing.held, standing.calls) == (1000, 0, 2)
            assert await one.budgets.recount(row) == (1000, 1000)

    asyncio.run(story())


def test_a_dead_process_lease_comes_back_without_what_its_journal_says_it_spent(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            first, second = one.process(), one.process()
            first.finish(row, await first.reserve(row, 500), 300, "req_1")
            await first.reserve(row, 700)
            one.processes.remove(first)
            await first.die()
            with pytest.raises(Shortage):
                await second.reserve(row, 700)
            one.clock.advance(0.2)
            await one.project()
            standing = await one.budgets.standing(row)
            assert (standing.spent, standing.held) == (300, 0)
            second.finish(row, await second.reserve(row, 700), 700, "req_2")
            await one.project()
            assert (await one.budgets.standing(row)).spent == 1000

    asyncio.run(story())


@pytest.mark.parametrize(("reserved", "cost"), [(73, 1), (1000, 1000)])
def test_nobody_waits_for_a_process_that_has_spent_all_it_holds(
    database_place: DatabasePlace, reserved: int, cost: int
) -> None:
    """It sleeps, and what it spent may be stored late: it was asked for two seconds what it can't give."""

    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            first, second = one.process(), one.process()
            first.finish(row, await first.reserve(row, reserved), cost, "req_1")
            for _ in range(30):
                one.clock.advance(0.1)
                await first.desk.turn()
            begun = one.clock.monotonic()
            with pytest.raises(Shortage) as caught:
                await second.reserve(row, 1000, (first,))
            assert (caught.value.grant.held, caught.value.grant.unanswered) == (cost, 0)
            assert one.clock.monotonic() - begun < 1
            await one.project()
            one.clock.advance(0.2)
            if cost < 1000:  # it wakes up again, and is asked again
                first.finish(row, await first.reserve(row, 900, (second,)), 10, "req_2")
                one.clock.advance(0.2)
                second.finish(row, await second.reserve(row, 980, (first,)), 0, "req_3")

    asyncio.run(story())


def test_who_has_waited_for_a_dead_process_still_waits_for_one_that_answers(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            dead, first, second = one.process(), one.process(), one.process()
            await dead.reserve(row, 500)
            one.processes.remove(dead)
            await dead.die()
            with pytest.raises(Shortage) as caught:
                await first.reserve(row, 900)
            assert caught.value.grant.unanswered == 1
            await one.project()
            second.finish(row, await second.reserve(row, 1000, (first,)), 0, "req_1")
            one.clock.advance(0.2)
            first.finish(row, await first.reserve(row, 900, (second,)), 0, "req_2")

    asyncio.run(story())


def test_a_call_that_comes_while_the_escrow_is_asked_for_others_is_not_refused_with_them(
    database_place: DatabasePlace,
) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 100)
            process = one.process()
            escrow = BudgetLeaseRepository(process.database)
            calls: list[asyncio.Task[Hold]] = []

            async def call() -> Hold:
                hold = process.desk.hold(((row.id, row.window),), one.clock.now_us())
                await hold.resize(50)
                return hold

            async def exchange(*asked: Any) -> list[LeaseGrant]:
                if len(calls) == 1:
                    calls.append(asyncio.ensure_future(call()))
                    await asyncio.sleep(0)
                return await escrow.exchange(*asked)

            process.desk._escrow = SimpleNamespace(
                exchange=exchange, recalled=escrow.recalled, register=escrow.register
            )  # type: ignore[assignment]
            calls.append(asyncio.ensure_future(call()))
            await asyncio.sleep(0)
            await process.desk.turn()
            assert len(calls) == 2
            await process.desk.turn()
            for hold in await asyncio.gather(*calls):
                hold.settle(0)

    asyncio.run(story())


def test_what_goes_back_is_told_again_when_the_escrow_has_not_heard_it(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            first, second = one.process(), one.process()
            first.finish(row, await first.reserve(row, 900), 10, "req_1")
            await one.project()
            one.clock.advance(1.5)
            break_once(first)
            running = asyncio.create_task(first.desk.run())
            async with asyncio.timeout(20):
                while not first.desk.events["failure"]:  # noqa: ASYNC110 - the desk has no event to wait for
                    await asyncio.sleep(0.005)
                one.clock.advance(2.5)
                while (await one.budgets.standing(row)).held:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.005)
            second.finish(row, await second.reserve(row, 900), 0, "req_2")
            first.desk.stop()
            await running

    asyncio.run(story())


def test_a_process_gives_back_to_itself_what_it_holds_in_another_slot_of_a_rolling_window(
    database_place: DatabasePlace,
) -> None:
    async def story() -> None:
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000, Window("rolling", 3600))
            process = one.process()
            process.finish(row, await process.reserve(row, 900), 10, "req_1")
            one.clock.jump(60)
            process.finish(row, await process.reserve(row, 500), 10, "req_2")

    asyncio.run(story())


def break_once(process: Process) -> None:
    """The escrow does not answer this process' next question."""
    escrow: Any = process.desk._escrow
    exchange = escrow.exchange

    async def fail(*_: Any) -> list[LeaseGrant]:
        escrow.exchange = exchange
        raise StorageError("it is away")

    escrow.exchange = fail


class Market(RuleBasedStateMachine):
    """Processes reserve, spend, fail, die and are replaced, clocks jump, and the projector runs when it likes.

    The model: of every window, what was recorded and what running calls may still cost fits the limit. Calls whose
    process died before it wrote anything cost nothing that anybody knows of.
    """

    place: DatabasePlace  # set by the test
    LIMIT = 1000

    @initialize(window=st.sampled_from([Window(), Window("day"), Window("week"), Window("rolling", 3600)]))
    def open(self, window: Window) -> None:
        """A new budget in the same database, and three processes."""
        self.loop = asyncio.new_event_loop()
        self.stage = Stage(self.place, DrivenClock())
        name, now = uuid.uuid4().hex, self.stage.clock.now_us()
        row = BudgetRow(id=name, scope="key", subject=name, limit_nano_usd=self.LIMIT, window=window, updated_at=now)
        self.row, _ = self.run(self.stage.rows.put(row))
        self.calls: list[tuple[Process, Hold, int, int]] = []
        self.recorded: list[tuple[int, int]] = []  # instant, cost
        for _ in range(3):
            self.stage.process()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """In the loop of this run."""
        return self.loop.run_until_complete(work)

    @rule(number=st.integers(0, 2), amount=st.one_of(st.integers(1, 400), st.just(1000)))
    def reserve(self, number: int, amount: int) -> None:
        """A call begins, or is refused: then so much is really not there, whoever has it."""
        clock = self.stage.clock
        process = self.stage.processes[number]
        others = tuple(one for one in self.stage.processes if one is not process)
        at = clock.now_us()
        try:
            hold = self.run(process.reserve(self.row, amount, others))
        except Shortage:
            assert self.used(at) + amount > self.LIMIT or self.lost
        else:
            self.calls.append((process, hold, amount, at))
            assert self.used(at) <= self.LIMIT

    lost = False  # a dead process' leases are not back yet

    def used(self, at: int) -> int:
        """What counts in the windows that hold the instant."""
        window = self.row.window
        low, high = window.span(window.period(at))
        spent = sum(cost for when, cost in self.recorded if low <= window.period(when) <= high)
        return spent + sum(amount for _, _, amount, when in self.calls if low <= window.period(when) <= high)

    @precondition(lambda self: self.calls)
    @rule(place=st.integers(0, 99), part=st.floats(0, 1))
    def finish(self, place: int, part: float) -> None:
        """A call ends with a part of what it might have cost, or with nothing."""
        process, hold, amount, at = self.calls.pop(place % len(self.calls))
        cost = round(amount * part)
        process.finish(self.row, hold, cost, uuid.uuid4().hex, at)
        self.recorded.append((at, cost))

    @rule(number=st.integers(0, 2))
    def kill(self, number: int) -> None:
        """kill -9, and another process in its place."""
        dead = self.stage.processes.pop(number)
        self.run(dead.die())
        self.calls = [one for one in self.calls if one[0] is not dead]
        self.stage.processes.insert(number, Process(self.place, self.stage.clock))
        self.lost = True

    @rule()
    def project(self) -> None:
        """What is written is stored, and what dead processes held is free again."""
        self.run(self.stage.project())
        self.lost = False

    @rule(number=st.integers(0, 2))
    def turn(self, number: int) -> None:
        """A process looks after its leases."""
        self.run(self.stage.processes[number].desk.turn())

    @rule(seconds=st.one_of(st.floats(0, 3), st.sampled_from([70.0, 3600.0, 86_400.0, 700_000.0])))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.stage.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-1.0, -90.0, -3600.0, -86_400.0, 86_400.0]))
    def jump(self, seconds: float) -> None:
        """Somebody sets the clock; the monotonic one does not know."""
        self.stage.clock.jump(seconds)

    @invariant()
    def nothing_is_overspent(self) -> None:
        """No window ever holds more than the limit."""
        if hasattr(self, "row"):
            for at, _ in self.recorded:
                assert self.used(at) <= self.LIMIT
                if self.row.window.kind == "rolling":
                    begin = at - self.row.window.seconds * 1_000_000
                    assert sum(cost for when, cost in self.recorded if begin < when <= at) <= self.LIMIT

    def teardown(self) -> None:
        """In the end nothing is held, and what is stored is what was recorded."""
        if not hasattr(self, "row"):
            return
        for process, hold, _, at in self.calls:
            process.finish(self.row, hold, 0, uuid.uuid4().hex, at)
        self.stage.clock.advance(5)
        for process in self.stage.processes:
            self.run(process.desk.turn())
        self.run(self.stage.project())
        window, now = self.row.window, self.stage.clock.now_us()
        for at in {now, *(at for at, _ in self.recorded)}:
            low, high = window.span(window.period(at))
            row = BudgetRow(id=self.row.id, scope="key", subject="k", limit_nano_usd=0, window=window)
            spending = self.run(self.stage.rows.spendings((row,), at))[row.id]
            assert spending.spent == sum(cost for when, cost in self.recorded if low <= window.period(when) <= high)
            assert spending.held == 0
            stored, counted = self.run(self.stage.rows.recount(self.row.id, window, at))
            assert stored == counted
        for process in self.stage.processes:
            self.run(process.die())
        self.run(self.stage.database.aclose())
        self.loop.close()


def test_no_window_is_ever_overspent_whatever_dies_and_whoever_sets_the_clock(database_place: DatabasePlace) -> None:
    class Here(Market):
        place = database_place

    few = settings(max_examples=6, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Here, settings=few)
