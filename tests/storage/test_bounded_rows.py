"""How many rows of a kind there may be, on both databases: exact, however many processes add some at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from databases import DatabasePlace
from pointsman.clock import SystemClock
from pointsman.identity.keys import KeyService
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.aliases import AliasRepository, AliasRow
from pointsman.storage.combos import ChainRow, ComboRepository, ComboRow
from pointsman.storage.configuration import ConfigurationRepository, TooManyError
from pointsman.storage.database import Database
from pointsman.storage.guardrails import ContentFilter, GuardrailRepository, GuardrailRow, GuardrailRules, Quota
from pointsman.storage.guards import GuardRepository, GuardRow
from pointsman.storage.keys import KeyFilter, KeyRepository, KeyRoom, KeyRow
from pointsman.storage.presets import PresetRepository, PresetRow
from pointsman.storage.provider_nodes import ProviderNodeRepository, ProviderNodeRow

MOST: Final = 3
Add = Callable[[Database, int], Awaitable[int]]


def key(database: Database, number: int) -> Awaitable[int]:
    row = KeyRow(
        id=f"key_{number}", digest=b"%d" % number, name="k", hint="h", role="inference", created_at=1,
        kind="crosscompute",
    )  # fmt: skip
    among = KeyFilter(account_id="default", kinds=("crosscompute",))
    return KeyRepository(database).add(row, KeyRoom(among=among, most=MOST))


def guardrail(database: Database, number: int) -> Awaitable[int]:
    row = GuardrailRow(id=f"g{number}", account_id="default", workspace_id=None, name="g", created_at=1)
    return GuardrailRepository(database).add(row, Quota(guardrails=MOST, patterns=0, size=0))


def patterns(database: Database, number: int) -> Awaitable[int]:
    rules = GuardrailRules(content_filters=(ContentFilter(pattern="a", action="flag"),), pattern_size=5)
    row = GuardrailRow(id=f"g{number}", account_id="default", workspace_id=None, name="g", created_at=1, rules=rules)
    return GuardrailRepository(database).add(row, Quota(guardrails=99, patterns=MOST, size=100))


def size(database: Database, number: int) -> Awaitable[int]:
    rules = GuardrailRules(content_filters=(ContentFilter(pattern="a", action="flag"),), pattern_size=30)
    row = GuardrailRow(id=f"g{number}", account_id="default", workspace_id=None, name="g", created_at=1, rules=rules)
    return GuardrailRepository(database).add(row, Quota(guardrails=99, patterns=99, size=30 * MOST + 29))


def guard(database: Database, number: int) -> Awaitable[int]:
    row = GuardRow(name=f"g{number}", document={}, sealed_secrets=None, created_at=1, updated_at=1)
    return GuardRepository(database).add(row, MOST)


def preset(database: Database, number: int) -> Awaitable[int]:
    return PresetRepository(database).put(PresetRow(slug=f"p{number}", document={}, created_at=1, updated_at=1), MOST)


def alias(database: Database, number: int) -> Awaitable[int]:
    return AliasRepository(database).put(AliasRow(name=f"a{number}", target="t", created_at=1), MOST)


def combo(database: Database, number: int) -> Awaitable[int]:
    row = ComboRow(id=f"c{number}", name=f"c{number}", document={}, sort_order=0, created_at=1, updated_at=1)
    return ComboRepository(database).add(row, MOST)


def chain(database: Database, number: int) -> Awaitable[int]:
    return ComboRepository(database).set_chain(ChainRow(model=f"m{number}", chain=(), updated_at=1), MOST)


def node(database: Database, number: int) -> Awaitable[int]:
    row = ProviderNodeRow(
        id=f"n{number}", type="openai-compatible", name="n", prefix=f"n{number}", api_type="chat",
        base_url="https://a.example/v1", created_at=1, updated_at=1,
    )  # fmt: skip
    return ProviderNodeRepository(database).add(row, MOST)


@pytest.mark.parametrize("add", [key, guardrail, patterns, size, guard, preset, alias, combo, chain, node])
def test_of_many_that_are_added_by_two_processes_at_once_as_many_stay_as_may(
    database_place: DatabasePlace, add: Add
) -> None:
    async def test() -> None:
        databases = database_place.open(), database_place.open()
        try:
            before = await ConfigurationRepository(databases[0]).revision()
            adding = (add(databases[number % 2], number) for number in range(2 * MOST + 2))
            found = await asyncio.gather(*adding, return_exceptions=True)
            refused = [one for one in found if isinstance(one, TooManyError)]
            assert len(refused) == MOST + 2, found
            revisions = sorted(one for one in found if isinstance(one, int))
            assert revisions == [before + 1, before + 2, before + 3]  # what is refused is no change
            assert await ConfigurationRepository(databases[0]).revision() == before + 3
        finally:
            for database in databases:
                await database.aclose()

    asyncio.run(test())


@pytest.mark.parametrize("put", [preset, alias, chain])
def test_what_is_there_is_replaced_also_when_there_are_as_many_as_may_be(sqlite_place: DatabasePlace, put: Add) -> None:
    async def test() -> None:
        database = sqlite_place.open()
        try:
            for number in range(MOST):
                await put(database, number)
            assert await put(database, 0) > 0
            with pytest.raises(TooManyError):
                await put(database, MOST)
        finally:
            await database.aclose()

    asyncio.run(test())


def test_two_processes_that_start_at_once_on_one_new_database_make_one_first_key(database_place: DatabasePlace) -> None:
    async def test() -> None:
        databases = [database_place.open() for _ in range(4)]
        master = MasterKey(b"m" * 32)
        services = [KeyService(KeyRepository(one), master, SystemClock()) for one in databases]
        try:
            secrets = await asyncio.gather(*(service.ensure_first(None) for service in services))
            assert len([one for one in secrets if isinstance(one, Secret)]) == 1
            [row] = await services[0].list_newest(10)
            assert [service.first_made for service in services if service.first_made] == [row.id]
        finally:
            for database in databases:
                await database.aclose()

    asyncio.run(test())
