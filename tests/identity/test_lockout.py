"""Wrong passwords are counted per address and per person, for a while, by all processes together."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.clock import Clock
from pointsman.identity.lockout import PERSON_FACTOR, Lockout
from pointsman.keyring import MasterKey
from pointsman.storage.sign_in_failures import SignInFailures

ADDRESS = "203.0.113.1"
MASTER = MasterKey(b"k" * 32)
Test = Callable[[Callable[[], Lockout]], Awaitable[None]]


def with_lockouts(place: DatabasePlace, clock: Clock, test: Test, failures: int = 5) -> None:
    """Run a test that makes as many lock-outs over one database as it likes: one for each process."""

    async def run() -> None:
        databases = []

        def make() -> Lockout:
            databases.append(place.open())
            rows = SignInFailures(databases[-1])
            return Lockout(rows, MASTER, clock, what="sign-in", failures=failures, seconds=900.0)

        try:
            await test(make)
        finally:
            for database in databases:
                await database.aclose()

    asyncio.run(run())


async def failed(lockout: Lockout, times: int, address: str = ADDRESS, person: str = "") -> int:
    """The wait after so many tries."""
    for _ in range(times):
        await lockout.try_once(address, person)
    return await lockout.wait_seconds(address, person)


def test_an_address_is_locked_after_its_failures_for_the_time_after_the_last(database_place: DatabasePlace) -> None:
    clock = DrivenClock()

    async def test(make: Callable[[], Lockout]) -> None:
        lockout = make()
        assert await failed(lockout, 4) == 0
        clock.advance(60)
        assert await failed(lockout, 1) == 900
        clock.advance(899)
        assert await lockout.wait_seconds(ADDRESS, "") == 1
        assert await lockout.try_once(ADDRESS, "") == 1
        clock.advance(1)
        assert await lockout.try_once(ADDRESS, "") == 0

    with_lockouts(database_place, clock, test)


def test_failures_of_long_ago_do_not_count(sqlite_place: DatabasePlace) -> None:
    clock = DrivenClock()

    async def test(make: Callable[[], Lockout]) -> None:
        lockout = make()
        for _ in range(20):
            assert await failed(lockout, 1) == 0
            clock.advance(226)

    with_lockouts(sqlite_place, clock, test)


def test_success_forgets_failures(sqlite_place: DatabasePlace) -> None:
    async def test(make: Callable[[], Lockout]) -> None:
        lockout = make()
        await failed(lockout, 4)
        await lockout.note_success(ADDRESS, "")
        assert await failed(lockout, 4) == 0

    with_lockouts(sqlite_place, DrivenClock(), test)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("203.0.113.1", "::ffff:203.0.113.1", True),
        ("2001:db8::1", "2001:db8::2", True),  # one line has all of them
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "203.0.113.1", False),
    ],
)
def test_what_counts_as_one_address(sqlite_place: DatabasePlace, first: str, second: str, same: bool) -> None:
    async def test(make: Callable[[], Lockout]) -> None:
        lockout = make()
        await failed(lockout, 5, first, "a")
        assert (await lockout.wait_seconds(second, "b") > 0) is same

    with_lockouts(sqlite_place, DrivenClock(), test)


def test_many_addresses_together_can_not_guess_one_persons_password(sqlite_place: DatabasePlace) -> None:
    async def test(make: Callable[[], Lockout]) -> None:
        lockout = make()
        for number in range(2 * PERSON_FACTOR):
            assert await lockout.try_once(f"198.51.100.{number}", "a@example.org") == 0
        assert await lockout.wait_seconds("192.0.2.1", "a@example.org") > 0
        assert await lockout.wait_seconds("192.0.2.1", "b@example.org") == 0

    with_lockouts(sqlite_place, DrivenClock(), test, failures=2)


def test_processes_count_together_and_a_new_one_knows_what_those_before_counted(database_place: DatabasePlace) -> None:
    async def test(make: Callable[[], Lockout]) -> None:
        one, other = make(), make()
        assert await failed(one, 3) == 0
        assert await failed(other, 2) == 900
        assert await one.try_once(ADDRESS, "") == 900
        assert await make().wait_seconds(ADDRESS, "") == 900

    with_lockouts(database_place, DrivenClock(), test)


def test_of_many_tries_at_once_no_more_than_allowed_are_let_through(database_place: DatabasePlace) -> None:
    async def test(make: Callable[[], Lockout]) -> None:
        lockouts = [make() for _ in range(3)]
        tries = [lockouts[number % 3].try_once(ADDRESS, f"person {number}") for number in range(24)]
        assert sum(wait == 0 for wait in await asyncio.gather(*tries)) == 5

    with_lockouts(database_place, DrivenClock(), test)


def test_no_address_or_name_can_be_read_and_old_rows_go(database_place: DatabasePlace) -> None:
    clock = DrivenClock()

    async def test(make: Callable[[], Lockout]) -> None:
        lockout = make()
        for number in range(20):
            await lockout.try_once(f"198.51.100.{number}", f"{number}@example.org")
        clock.advance(901)
        await lockout.try_once(ADDRESS, "ada@example.org")
        database = database_place.open()
        async with database.read() as connection:
            rows = (await connection.exec_driver_sql("SELECT source, instants FROM sign_in_failures")).all()
        await database.aclose()
        assert len(rows) == 2
        assert not any("example" in row.source or "203" in row.source for row in rows)

    with_lockouts(database_place, clock, test)
