"""Leases of budgets expire when their node is lost, and nobody spends from one that may have expired."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from budget_stage import LEASE_SECONDS, Process, Stage, stage

from databases import DatabasePlace
from pointsman.accounting.budget_pots import Shortage
from pointsman.accounting.homes import home_of
from pointsman.accounting.lease_keeper import LeaseKeeper
from pointsman.accounting.projector import Projector
from pointsman.storage.budget_leases import BudgetLeaseRepository, Holder, Home
from pointsman.storage.budgets import BudgetRow

LOOK = LEASE_SECONDS / 10


def play(place: DatabasePlace, story: Callable[[Stage, BudgetRow], Awaitable[None]], limit: int = 1000) -> None:
    """Tell a story of a budget."""

    async def run() -> None:
        async with stage(place) as one:
            row, _ = await one.budgets.set("key", "key_1", limit)
            await story(one, row)

    asyncio.run(run())


async def pass_time(
    one: Stage, keepers: tuple[LeaseKeeper, ...], processes: tuple[Process, ...] = (), looks: int = 10
) -> int:
    """So many looks of a lease's time; gives how many leases expired."""
    expired = 0
    for _ in range(looks):
        for process in processes:
            await process.desk.turn()
        for keeper in keepers:
            expired += await keeper.look()
        one.clock.advance(LOOK)
    return expired


async def held(one: Stage, row: BudgetRow) -> int:
    """By all processes."""
    return (await one.budgets.standing(row)).held


def test_what_a_lost_node_held_comes_back_when_its_lease_has_expired(database_place: DatabasePlace) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        lost, living = one.process("lost"), one.process()
        keeper = one.keeper()
        await lost.reserve(row, 400)
        living.finish(row, await living.reserve(row, 1), 0, "req_0")
        assert await pass_time(one, (keeper,), (living,), looks=8) == 0
        with pytest.raises(Shortage):
            await living.reserve(row, 700)
        assert await pass_time(one, (keeper,), (living,), looks=2) == 1
        living.finish(row, await living.reserve(row, 1000), 1000, "req_1")
        await one.project()
        standing = await one.budgets.standing(row)
        assert (standing.spent, standing.held) == (1000, 0)

    play(database_place, story)


def test_what_a_lost_node_had_written_is_booked_when_its_journal_is_read_after_all(
    database_place: DatabasePlace,
) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        lost = one.process("lost")
        lost.finish(row, await lost.reserve(row, 400), 300, "req_1")
        await lost.die()
        one.processes.clear()
        assert await pass_time(one, (one.keeper(),)) == 1
        assert await held(one, row) == 0
        directory = database_place.data_dir / "lost"
        projector = Projector(one.database, directory, one.clock, batch_rows=50, retention_days=7)
        await projector.drain()
        await projector.release()
        standing = await one.budgets.standing(row)
        assert (standing.spent, standing.held) == (300, 0)
        assert await one.budgets.recount(row) == (300, 300)

    play(database_place, story)


def test_a_dead_process_of_a_living_node_keeps_its_lease_until_its_journal_is_read(
    database_place: DatabasePlace,
) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        dead = one.process()
        dead.finish(row, await dead.reserve(row, 400), 300, "req_1")
        await dead.die()
        one.processes.clear()
        await one.process("other").desk.turn()
        assert await pass_time(one, (one.keeper(), one.keeper("other")), looks=30) == 0
        assert await held(one, row) >= 400
        await one.project()
        standing = await one.budgets.standing(row)
        assert (standing.spent, standing.held) == (300, 0)

    play(database_place, story)


def test_an_idle_process_keeps_what_it_has_spent_and_nobody_has_stored(database_place: DatabasePlace) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        idle = one.process("idle")
        idle.finish(row, await idle.reserve(row, 1000), 1000, "req_1")
        assert await pass_time(one, (one.keeper(),), (idle,), looks=30) == 0
        with pytest.raises(Shortage):
            await one.process().reserve(row, 1, (idle,))

    play(database_place, story)


def test_a_process_that_was_not_answered_for_long_spends_nothing_before_it_has_asked(
    database_place: DatabasePlace,
) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        process = one.process()
        first = await process.reserve(row, 500)
        assert process.desk.hold(((row.id, row.window),), one.clock.now_us()).try_resize(1)
        one.clock.advance(LEASE_SECONDS * 0.7)
        hold = process.desk.hold(((row.id, row.window),), one.clock.now_us())
        assert not hold.try_resize(1)
        assert first.try_resize(400)  # less is no question
        process.finish(row, await process.reserve(row, 1), 1, "req_1")
        assert process.desk.events["lapse"] == 0  # nobody was faster
        assert hold.try_resize(1)

    play(database_place, story, limit=100_000)


def test_a_process_that_comes_back_has_only_what_its_calls_need_and_what_it_has_spent(
    database_place: DatabasePlace,
) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        paused, living = one.process("paused"), one.process()
        paused.finish(row, await paused.reserve(row, 20_000), 10_000, "req_1")
        hold = await paused.reserve(row, 30_000)
        assert await held(one, row) > 40_000
        assert await pass_time(one, (one.keeper(),), (living,)) == 1
        living.finish(row, await living.reserve(row, 55_000), 55_000, "req_2")
        await paused.desk.turn()  # finds out
        assert paused.desk.events["lapse"] == 1
        await paused.desk.turn()  # tells
        one.clock.advance(2)
        await living.desk.turn()  # gives back what it does not need
        assert await held(one, row) == 40_000 + 55_000
        with pytest.raises(Shortage) as caught:
            await paused.reserve(row, 5_001, (living,))
        assert caught.value.grant.held == 55_000
        paused.finish(row, await paused.reserve(row, 5_000, (living,)), 5_000, "req_3")
        paused.finish(row, hold, 30_000, "req_4")
        for node in ("paused", "journal"):
            directory = database_place.data_dir / node
            await Projector(one.database, directory, one.clock, batch_rows=50, retention_days=7).drain()
        standing = await one.budgets.standing(row)
        assert (standing.spent, standing.held) == (100_000, 0)

    play(database_place, story, limit=100_000)


def test_each_process_of_a_node_that_comes_back_gives_up_its_lease_not_only_the_first_one(
    database_place: DatabasePlace,
) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        first, second, living = one.process("paused"), one.process("paused"), one.process()
        for process in (first, second):
            process.finish(row, await process.reserve(row, 40_000, (first, second)), 0, f"req_{process.journal.tag}")
        assert await held(one, row) >= 80_000
        assert await pass_time(one, (one.keeper(),), (living,)) == 2
        living.finish(row, await living.reserve(row, 100_000), 100_000, "req_1")
        for process in (first, second):
            with pytest.raises(Shortage):
                await process.reserve(row, 1, (living,))
        assert await held(one, row) == 100_000
        assert (first.desk.events["lapse"], second.desk.events["lapse"]) == (1, 1)

    play(database_place, story, limit=100_000)


def test_a_process_that_only_tells_that_it_lives_learns_that_its_lease_has_expired_even_after_its_row_is_pruned(
    database_place: DatabasePlace,
) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        first, second, living = one.process("paused"), one.process("paused"), one.process()
        hold = await second.reserve(row, 40_000)
        assert await pass_time(one, (one.keeper(),), (living,)) == 1
        one.clock.advance(8 * 86_400)
        await BudgetLeaseRepository(one.database).prune(one.clock.now_us())
        assert await BudgetLeaseRepository(one.database).holders(home_of(database_place.data_dir / "paused")) == set()
        await first.reserve(row, 1)
        exchanges = second.desk.events["exchange"]
        await second.desk.turn()
        assert (second.desk.events["lapse"], second.desk.events["exchange"]) == (1, exchanges)
        await second.desk.turn()  # what its call needs is still its own
        assert await held(one, row) >= 40_001
        assert hold.amount == 40_000

    play(database_place, story, limit=100_000)


def test_an_exchange_after_the_lease_has_expired_changes_nothing(database_place: DatabasePlace) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        process = one.process("late")
        hold = await process.reserve(row, 100)
        escrow = BudgetLeaseRepository(one.database)
        [home] = await escrow.homes()
        assert await escrow.expire(home, 1) == 1
        waiting = asyncio.ensure_future(process.desk.hold(((row.id, row.window),), one.clock.now_us()).resize(500))
        await asyncio.sleep(0)
        await process.desk.turn()
        assert (await held(one, row), waiting.done()) == (0, False)
        await process.desk.turn()
        await waiting
        assert await held(one, row) >= 600
        assert hold.amount == 100

    play(database_place, story)


def test_a_lease_does_not_expire_when_its_holder_is_heard_of_in_the_same_moment(database_place: DatabasePlace) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        process = one.process()
        await process.reserve(row, 100)
        escrow = BudgetLeaseRepository(one.database)
        [before] = await escrow.homes()
        await escrow.beat(before.name)
        assert await escrow.expire(before, 1) is None
        assert await held(one, row) >= 100
        assert await escrow.homes() == [Home(before.name, before.beat + 1, before.lease_us)]

    play(database_place, story)


def test_leases_last_as_long_as_the_most_patient_process_of_the_home_believes(database_place: DatabasePlace) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        process = one.process()
        home = home_of(database_place.data_dir / "journal")
        escrow = BudgetLeaseRepository(one.database)
        hasty = Holder("hasty", home, 1_000_000)
        await escrow.register(hasty)
        await process.reserve(row, 100)  # finds that too short, and asks for longer
        assert [one.lease_us for one in await escrow.homes()] == [LEASE_SECONDS * 1e6]
        await escrow.register(hasty)
        assert [one.lease_us for one in await escrow.homes()] == [LEASE_SECONDS * 1e6]

    play(database_place, story)


def test_an_empty_lease_of_a_lost_home_is_dropped_after_a_week(database_place: DatabasePlace) -> None:
    async def story(one: Stage, row: BudgetRow) -> None:
        lost = one.process("lost")
        await lost.reserve(row, 400)
        await pass_time(one, (one.keeper(),))
        escrow, home = BudgetLeaseRepository(one.database), home_of(database_place.data_dir / "lost")
        for days, there in ((6.9, True), (7.1, False)):
            await escrow.prune(one.clock.now_us() + round(days * 86_400e6))
            assert bool(await escrow.holders(home)) is there

    play(database_place, story)
