"""Accounts, workspaces, members and people as they are stored, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from databases import DatabasePlace
from pointsman.storage.accounts import AccountRepository, AccountRow, WorkspaceRow
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.database import AlreadyExistsError, Database
from pointsman.storage.keys import KeyRepository, KeyRow
from pointsman.storage.users import UserRepository, UserRow

ACCOUNT = AccountRow(id="acc_1", kind="organization", name="One", created_at=1, updated_at=1, settings={"a": 1})
USER = UserRow(id="usr_1", account_id="default", email="a@example.org", created_at=1, updated_at=1)


def within(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` with an open database."""

    async def run() -> None:
        database = place.open()
        try:
            await story(database)
        finally:
            await database.aclose()

    asyncio.run(run())


def test_every_installation_has_the_default_account_and_workspace(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        accounts = AccountRepository(database)
        default = await accounts.find("default")
        assert default is not None
        assert default.kind == "system"
        [workspace] = await accounts.list_workspaces("default", 10)
        assert (workspace.id, workspace.slug) == ("default", "default")

    within(database_place, story)


def test_accounts_and_workspaces_come_back_as_they_were_stored(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        accounts = AccountRepository(database)
        workspace = WorkspaceRow(id="ws_1", account_id="acc_1", slug="main", name="Main", created_at=1, updated_at=1)
        await accounts.add(ACCOUNT, workspace)
        assert await accounts.find("acc_1") == ACCOUNT
        assert await accounts.find_workspace("acc_1", "ws_1") == workspace
        assert await accounts.find_workspace("default", "ws_1") is None  # another account's
        assert not await accounts.change_workspace("default", "ws_1", {"name": "Mine"})
        assert await accounts.change_workspace("acc_1", "ws_1", {"name": "Other"})
        with pytest.raises(AlreadyExistsError):
            await accounts.add_workspace(workspace)
        agent = AccountRow(id="acc_2", kind="agent", name="A", external_id="agent:1", created_at=2, updated_at=2)
        await accounts.add(agent)
        assert await accounts.find_external("agent", "agent:1") == agent
        assert await accounts.find_external("user", "agent:1") is None
        assert [row.id for row in await accounts.list_page(None, 2)] == ["acc_2", "acc_1"]

    within(database_place, story)


def test_members_have_one_role_each(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        accounts, users = AccountRepository(database), UserRepository(database)
        await accounts.add(ACCOUNT)
        await users.add(USER)
        await accounts.put_member("acc_1", "usr_1", "org:member", 5)
        await accounts.put_member("acc_1", "usr_1", "org:admin", 6)
        [member], total = await accounts.list_members("acc_1", 10)
        assert (member.user_id, member.role, member.email, member.created_at, total) == (
            "usr_1", "org:admin", "a@example.org", 5, 1,
        )  # fmt: skip
        assert await accounts.memberships("usr_1") == {"acc_1": "org:admin"}
        assert await accounts.remove_member("acc_1", "usr_1")
        assert not await accounts.remove_member("acc_1", "usr_1")

    within(database_place, story)


def test_people_are_found_by_address_and_by_what_others_call_them(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        users = UserRepository(database)
        await users.add(USER)
        await users.add_login("https://id.example.org", "42", "usr_1", 2)
        assert await users.find("usr_1") == USER
        assert await users.find_by_email("a@example.org") == USER
        assert await users.find_login("https://id.example.org", "42") == USER
        assert await users.find_login("https://other.example.org", "42") is None
        assert [row.user_id for row in await users.load_logins(1) or ()] == ["usr_1"]
        assert await users.load_logins(0) is None
        name = ("https://id.example.org", "42")
        found = await users.logins_among([name, ("https://id.example.org", "43"), ("https://other.example.org", "42")])
        assert {key: row.user_id for key, row in found.items()} == {name: "usr_1"}
        with pytest.raises(AlreadyExistsError):
            await users.add_login("https://id.example.org", "42", "usr_1", 2)
        assert await users.load_void() == {}
        await users.change("usr_1", {"tokens_from": 7})
        assert await users.load_void() == {"usr_1": 7}
        await users.change("usr_1", {"disabled": True})
        assert await users.load_void() == {"usr_1": None}
        assert len(await users.load_logins(10) or ()) == 1  # whom it names is refused as that person

    within(database_place, story)


def test_a_sign_in_is_no_change_of_configuration(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        users = UserRepository(database)
        await users.add(USER)
        before = await ConfigurationRepository(database).revision()
        await users.change("usr_1", {"last_login_at": 9})
        assert await ConfigurationRepository(database).revision() == before

    within(database_place, story)


def test_credentials_of_disabled_accounts_and_people_are_not_in_the_snapshot(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        accounts, users, keys = AccountRepository(database), UserRepository(database), KeyRepository(database)
        await accounts.add(ACCOUNT)
        await users.add(USER)
        for name, owner in {"a": {"account_id": "acc_1"}, "b": {"user_id": "usr_1"}, "c": {}}.items():
            fields = {"digest": name.encode(), "name": name, "hint": "", "role": "inference", "created_at": 1, **owner}
            await keys.add(KeyRow(id=name, **fields))
        assert [row.id for row in await keys.load_valid(3) or ()] == ["a", "b", "c"]
        assert await keys.load_valid(2) is None
        await accounts.change("acc_1", {"disabled": True})
        assert [row.id for row in await keys.load_valid(100) or ()] == ["b", "c"]
        await users.change("usr_1", {"disabled": True})
        assert [row.id for row in await keys.load_valid(100) or ()] == ["c"]

    within(database_place, story)
