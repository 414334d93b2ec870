"""Keys that a process doesn't know are looked up once; what is none costs whoever presents it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.canonical.windows import Window
from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.identity import late_keys
from pointsman.identity.key_source import Found, KeySource
from pointsman.identity.key_table import KeyNews, KeyTable
from pointsman.identity.keys import PEPPER_PURPOSE, KeyChange, KeyService
from pointsman.identity.late_keys import LateKeys
from pointsman.keyring import MasterKey
from pointsman.policy.budget_service import BudgetService
from pointsman.storage.accounts import AccountRepository, AccountRow
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.database import Database
from pointsman.storage.keys import KeyRepository

MASTER = MasterKey(b"m" * 32)


class CountedSource(KeySource):
    """The real source; says how often it was asked, and does something before it answers."""

    asked = 0
    before: Callable[[], Awaitable[object]] | None = None

    async def look_up(self, digests: list[bytes]) -> tuple[Found, ...]:  # type: ignore[override]
        """As the real one."""
        self.asked += 1
        found = await super().look_up(digests)
        if self.before is not None:
            work, self.before = self.before, None
            await work()
        return found


class Process:
    """What one server has of keys."""

    def __init__(self, database: Database) -> None:
        rows = KeyRepository(database)
        self.database = database
        self.clock = DrivenClock()
        self.keys = KeyService(rows, MASTER, SystemClock())
        self.budgets = BudgetService(BudgetRepository(database), SystemClock())
        self.source = CountedSource(rows, BudgetRepository(database), 1)
        self.table = KeyTable(MASTER.derive(PEPPER_PURPOSE))
        self.late = LateKeys(self.table, self.source, self.clock)

    async def follow(self, since: int | None = None) -> None:
        """Apply what changed."""
        revision = await ConfigurationRepository(self.database).revision()
        self.table.apply(await self.source.news(self.table.revision if since is None else since, revision))

    async def start(self) -> None:
        """Begin with more keys than are read at a start."""
        for name in ("one", "two"):
            await self.keys.create(name)
        revision = await ConfigurationRepository(self.database).revision()
        self.table.apply(await self.source.news(None, revision))
        assert not self.table.whole


def within(place: DatabasePlace, story: Callable[[Process], Awaitable[None]]) -> None:
    """Run ``story`` with a process over a database."""

    async def run() -> None:
        database = place.open()
        process = Process(database)
        try:
            await process.start()
            await story(process)
        finally:
            process.late.close()
            await database.aclose()

    asyncio.run(run())


def test_many_who_present_the_same_new_key_cause_one_look_up(database_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        row, secret = await process.keys.create("three")
        await process.budgets.set("key", row.id, 5, Window("day"))
        await process.follow()
        presented = secret.reveal().encode()
        assert not process.late.is_known(presented, 0)
        await asyncio.gather(*(process.late.learn(presented) for _ in range(50)))
        found = process.table.find(presented)
        assert process.source.asked == 1
        assert found is not None
        assert [budget.limit_nano_usd for budget in found.budgets] == [5]

    within(database_place, story)


def test_keys_that_are_looked_up_together_do_not_push_each_other_out(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        table = KeyTable(MASTER.derive(PEPPER_PURPOSE), most=3)
        late = LateKeys(table, process.source, process.clock)
        made = [(await process.keys.create(f"key {number}"))[1].reveal().encode() for number in range(8)]
        revision = await ConfigurationRepository(process.database).revision()
        table.apply(await process.source.news(None, revision))

        async def call(presented: bytes) -> bool:
            await late.learn(presented)
            return table.find(presented) is not None

        assert all(await asyncio.gather(*map(call, made)))
        assert len(table) == 3
        late.close()

    within(sqlite_place, story)


def test_what_requests_hold_while_keys_are_looked_up_is_bounded(
    sqlite_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_keys, "MOST_WAITING_BYTES", 100)

    async def story(process: Process) -> None:
        late, answers = process.late, asyncio.Event()
        process.source.before = answers.wait
        first = asyncio.create_task(late.learn(b"one", 300))  # who is alone may hold any amount
        await asyncio.sleep(0)
        with pytest.raises(GatewayError) as refused:
            await late.learn(b"one", 1)
        assert refused.value.kind is Kind.OVERLOADED
        empty = asyncio.create_task(late.learn(b"two"))  # who holds nothing waits like anybody
        await asyncio.sleep(0)
        assert not empty.done()
        empty.cancel()
        first.cancel()  # its client has left
        await asyncio.wait((first, empty))
        left = asyncio.create_task(late.learn(b"one", 60))
        await asyncio.sleep(0)
        assert not left.done()
        answers.set()
        await left
        await asyncio.gather(*(late.learn(b"%d" % number, 50) for number in range(2)))

    within(sqlite_place, story)


def test_a_key_revoked_while_it_is_looked_up_is_not_learnt(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        row, secret = await process.keys.create("three")
        await process.follow()

        async def revoke() -> None:
            await process.keys.revoke(row.id)
            await process.follow()

        process.source.before = revoke
        await process.late.learn(secret.reveal().encode())
        assert process.table.find_any(secret.reveal().encode()) is None
        assert process.source.asked == 2

    within(sqlite_place, story)


def test_a_revoked_key_and_those_of_a_disabled_account_are_known_no_more(database_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        accounts = AccountRepository(process.database)
        await accounts.add(AccountRow(id="acc", kind="user", name="a", created_at=1, updated_at=1))
        row, secret = await process.keys.create("three")
        await process.keys._keys.change(row.id, {"account_id": "acc"})
        await process.follow()
        presented = secret.reveal().encode()
        for change in (
            lambda: accounts.change("acc", {"disabled": True}),
            lambda: process.keys.revoke(row.id),
        ):
            await process.late.learn(presented)
            assert process.table.find(presented) is not None
            await change()
            await process.follow()
            assert process.table.find_any(presented) is None
            await accounts.change("acc", {"disabled": False})
            await process.follow()

    within(database_place, story)


def test_a_key_waits_for_the_configuration_in_which_it_was_made(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        _, secret = await process.keys.create("three")
        presented = secret.reveal().encode()
        learning = asyncio.create_task(process.late.learn(presented))
        await asyncio.sleep(0.05)
        assert not learning.done()
        assert process.table.find(presented) is None
        await process.follow()
        await learning
        assert process.table.find(presented) is not None

    within(sqlite_place, story)


def test_a_change_of_a_keys_budget_reaches_who_knows_the_key(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        row, secret = await process.keys.create("three")
        await process.follow()
        presented = secret.reveal().encode()
        await process.late.learn(presented)
        budget, _ = await process.budgets.set("key", row.id, 7)
        await process.keys.change(row.id, KeyChange(name="other"))
        await process.follow()
        found = process.table.find(presented)
        assert found is not None
        assert (found.name, [one.limit_nano_usd for one in found.budgets]) == ("other", [7])
        await process.budgets.remove(budget.id)
        await process.follow()
        found = process.table.find(presented)
        assert found is not None
        assert found.budgets == ()

    within(sqlite_place, story)


def test_what_is_no_key_is_remembered_for_a_while(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        await process.late.learn(b"wrong")
        assert process.late.is_known(b"wrong", 0)
        process.clock.advance(late_keys.UNKNOWN_SECONDS + 1)
        assert not process.late.is_known(b"wrong", 0)

    within(sqlite_place, story)


def test_what_was_no_key_is_asked_again_after_a_change(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        await process.late.learn(b"wrong")
        process.table.apply(KeyNews(revision=process.table.revision + 1))
        assert not process.late.is_known(b"wrong", 0)

    within(sqlite_place, story)


def test_without_a_database_nobody_is_told_that_a_key_is_wrong(sqlite_place: DatabasePlace) -> None:
    async def story(process: Process) -> None:
        _, secret = await process.keys.create("three")
        await process.follow()
        await process.database.aclose()
        database = Database.open(None, sqlite_place.data_dir / "elsewhere")  # without any table
        process.late._source = KeySource(KeyRepository(database), BudgetRepository(database), 1)
        try:
            with pytest.raises(GatewayError) as refused:
                await process.late.learn(secret.reveal().encode())
        finally:
            await database.aclose()
        assert refused.value.kind is Kind.NOT_READY

    within(sqlite_place, story)
