"""Who is who at other issuers: held whole while they are few, else looked up when a token is first presented."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.identity import logins as logins_module
from pointsman.identity.key_source import KeySource
from pointsman.identity.key_table import KeyTable
from pointsman.identity.keys import PEPPER_PURPOSE
from pointsman.identity.late_keys import LateKeys
from pointsman.identity.logins import Logins
from pointsman.identity.tokens import Tokens, external_user_id
from pointsman.identity_settings import IdentitySettings, IssuerSettings
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.accounts import AccountRow
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.database import Database
from pointsman.storage.keys import KeyRepository
from pointsman.storage.users import LoginName, LoginRow, UserRepository, UserRow

MASTER = MasterKey(b"m" * 32)
SHARED = "https://shared.example.org"
WORD = "a secret that both of us know, long enough"
ISSUERS = (IssuerSettings(issuer=SHARED, audience="authenticated", secret=Secret(WORD)),)
MOST = 2


async def note(users: UserRepository, number: int) -> None:
    """A person with an account of its own, and who it is at the issuer."""
    row = UserRow(id=f"usr_{number}", account_id=f"acc_{number}", created_at=1, updated_at=1)
    await users.add(row, AccountRow(id=f"acc_{number}", kind="user", name="a", created_at=1, updated_at=1))
    await users.add_login(SHARED, str(number), f"usr_{number}", 2)


def within(place: DatabasePlace, story: Callable[[UserRepository], Awaitable[None]], people: int = MOST + 2) -> None:
    """Run ``story`` where so many people are noted."""

    async def run() -> None:
        database = place.open()
        try:
            users = UserRepository(database)
            for number in range(people):
                await note(users, number)
            await story(users)
        finally:
            await database.aclose()

    asyncio.run(run())


def found(logins: Logins, number: int) -> str | None:
    row = logins.find((SHARED, str(number)))
    return row.user_id if row is not None else None


def test_few_are_held_whole_and_nobody_is_looked_up(database_place: DatabasePlace) -> None:
    async def story(users: UserRepository) -> None:
        logins = Logins(users, MOST)
        await logins.refresh()
        assert (logins.whole, len(logins), found(logins, 1)) == (True, MOST, "usr_1")
        assert logins.knows((SHARED, "77"))
        await note(users, 2)
        await logins.refresh()
        assert (logins.whole, len(logins), found(logins, 1)) == (False, MOST, "usr_1")
        assert not logins.knows((SHARED, "2"))

    within(database_place, story, people=MOST)


def test_of_many_as_many_are_held_as_may_and_the_oldest_make_room(database_place: DatabasePlace) -> None:
    async def story(users: UserRepository) -> None:
        logins = Logins(users, MOST)
        await logins.refresh()
        assert (logins.whole, len(logins)) == (False, 0)
        for number in (0, 1, 2):
            await logins.learn([(SHARED, str(number))])
            assert found(logins, number) == f"usr_{number}"
        assert (len(logins), logins.knows((SHARED, "0"))) == (MOST, False)

    within(database_place, story)


def test_what_changes_of_those_that_are_held_is_noticed(database_place: DatabasePlace) -> None:
    async def story(users: UserRepository) -> None:
        logins = Logins(users, MOST)
        await logins.refresh()
        await logins.learn([(SHARED, "0"), (SHARED, "9")])
        assert (found(logins, 9), logins.knows((SHARED, "9"))) == (None, True)
        await note(users, 9)
        await users.change("usr_0", {"role": "admin"})
        await logins.refresh()
        row = logins.find((SHARED, "0"))
        assert (found(logins, 9), row is not None and row.role) == ("usr_9", "admin")

    within(database_place, story)


def test_a_look_up_that_a_change_overtakes_is_made_again(sqlite_place: DatabasePlace) -> None:
    class Overtaken(UserRepository):
        async def logins_among(self, names: Any) -> dict[LoginName, LoginRow]:
            """As the real one; the first time, somebody is noted and the change in effect before the answer is told."""
            answer = await super().logins_among(names)
            if not self.done:
                self.done = True
                await note(self, 9)
                await logins.refresh()
            return answer

        done = True

    async def story(users: UserRepository) -> None:
        nonlocal logins
        logins = Logins(Overtaken(users._database), MOST)
        await logins.refresh()
        logins._users.done = False  # type: ignore[attr-defined]
        await logins.learn([(SHARED, "9")])
        assert found(logins, 9) == "usr_9"

    logins: Logins
    within(sqlite_place, story)


def token(number: int, now_us: int) -> bytes:
    """What the issuer gives a person."""
    now = now_us // 1_000_000
    claims = {"iss": SHARED, "aud": "authenticated", "sub": str(number), "iat": now, "exp": now + 600}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(WORD), algorithms=["HS256"]).encode()


def test_nobody_waits_while_many_tokens_are_checked(sqlite_place: DatabasePlace) -> None:
    # Each takes a quarter of a millisecond, and two hundred are looked up together.
    many = 20

    async def story(users: UserRepository) -> None:
        process = Process(users._database)
        await process.follow()
        digests = {process.table.digest(one): one for one in (token(n, process.clock.now_us()) for n in range(many))}
        process.late._tokens |= digests
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        waiting = asyncio.create_task(others())
        assert await process.late._learn_people(list(digests)) == set(digests)
        waiting.cancel()
        assert turns >= 2 * many - 1

    within(sqlite_place, story)


class Process:
    """What one server has of keys and people."""

    def __init__(self, database: Database) -> None:
        self.clock = DrivenClock()
        users, rows = UserRepository(database), KeyRepository(database)
        self.tokens = Tokens(users, MASTER, IdentitySettings(), ISSUERS, {SHARED: Secret(WORD)})
        self.source = KeySource(rows, BudgetRepository(database), 100, self.tokens)
        self.table = KeyTable(MASTER.derive(PEPPER_PURPOSE), (), self.tokens)
        self.late = LateKeys(self.table, self.source, self.clock)
        self.revision = ConfigurationRepository(database).revision

    async def follow(self, since: int | None = None) -> None:
        self.table.apply(await self.source.news(since, await self.revision()))

    async def told(self, number: int) -> str | None:
        """Whom the table takes a token's person for, after a look-up if it needs one."""
        presented, now = token(number, self.clock.now_us()), self.clock.now_us()
        if not self.table.whole and not self.late.is_known(presented, now):
            await self.late.learn(presented)
            assert self.late.is_known(presented, now)
        key = self.table.verify(presented, now)
        return key.user_id if key is not None else None

    async def late_told(self, number: int) -> str | None:
        """As `told`, by a token of our own, which may be void."""
        row, now = UserRow(id=f"usr_{number}", account_id="a", created_at=1, updated_at=1), self.clock.now_us()
        presented = self.tokens.issue(row, now)[0].reveal().encode()
        if not self.late.is_known(presented, now):
            await self.late.learn(presented)
        key = self.table.verify(presented, now)
        return key.user_id if key is not None else None


def test_a_token_of_somebody_who_is_not_held_waits_for_a_look_up_and_is_taken(
    sqlite_place: DatabasePlace, monkeypatch: Any
) -> None:
    monkeypatch.setattr(logins_module.People.__init__, "__defaults__", (MOST,))

    async def story(users: UserRepository) -> None:
        process = Process(users._database)
        await process.follow()
        assert not process.table.whole
        assert process.table.verify(token(0, process.clock.now_us()), process.clock.now_us()) is None
        told = await asyncio.gather(*(process.told(number) for number in (0, 1)))
        assert [*told, await process.told(2), await process.told(3)] == ["usr_0", "usr_1", "usr_2", "usr_3"]
        assert await process.told(77) == external_user_id(SHARED, "77")
        process.clock.advance(1)
        assert await process.told(0) == "usr_0"
        process.late.close()

    within(sqlite_place, story)


def test_a_disabled_person_is_nobody_else_at_another_issuer(sqlite_place: DatabasePlace) -> None:
    async def story(users: UserRepository) -> None:
        process = Process(users._database)
        await process.follow()
        assert process.table.whole
        assert await process.told(0) == "usr_0"
        await users.change("usr_0", {"disabled": True})
        await process.follow(process.table.revision)
        assert await process.told(0) is None

    within(sqlite_place, story)


def test_whose_tokens_are_void_is_held_of_some_only_and_looked_up_of_others(
    sqlite_place: DatabasePlace, monkeypatch: Any
) -> None:
    monkeypatch.setattr(logins_module.People.__init__, "__defaults__", (MOST,))

    async def story(users: UserRepository) -> None:
        for number in range(6):
            await users.change(f"usr_{number}", {"disabled": True} if number % 2 else {"tokens_from": 1})
        process = Process(users._database)
        await process.follow()
        assert not process.table.whole
        assert len(process.tokens._void) <= MOST
        told = [await process.late_told(number) for number in range(8)]
        assert told == ["usr_0", None, "usr_2", None, "usr_4", None, "usr_6", "usr_7"]
        assert len(process.tokens._void) <= MOST
        await users.change("usr_7", {"disabled": True})
        await process.follow(process.table.revision)
        assert await process.late_told(7) is None
        process.late.close()

    within(sqlite_place, story, 8)
