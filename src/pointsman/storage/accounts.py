"""Accounts, the people of organizations, and workspaces."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update

from pointsman.storage import configuration
from pointsman.storage import identity_tables as tables
from pointsman.storage.database import Database
from pointsman.storage.keys import NO_SETTINGS, KeyRow, insert_key, mark_changed
from pointsman.storage.tables import keys

AccountKind = Literal["user", "organization", "agent", "system"]
MemberRole = Literal["org:admin", "org:member"]
DEFAULT: Final = "default"  # id of the account and of the workspace that every installation has


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays and owns. ``external_id``: its owner's own name for it, one of its kind. Instants in us."""

    id: str
    kind: AccountKind
    name: str
    created_at: int
    updated_at: int
    external_id: str | None = None
    disabled: bool = False
    settings: Mapping[str, Any] = NO_SETTINGS


class WorkspaceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an account whose requests, files and memories are its own. ``slug`` is one of its account."""

    id: str
    account_id: str
    slug: str
    name: str
    created_at: int
    updated_at: int
    settings: Mapping[str, Any] = NO_SETTINGS


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A person of an organization, as lists show it."""

    user_id: str
    role: MemberRole
    email: str | None
    first_name: str | None
    last_name: str | None
    created_at: int


class AccountRepository:
    """Asks and changes accounts, members and workspaces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, row: AccountRow, workspace: WorkspaceRow | None = None, key: KeyRow | None = None
    ) -> int | None:
        """Store a new account, with its first workspace and key, all or none. Raises AlreadyExistsError.

        Gives the new configuration revision if there is a key.
        """
        async with self._database.write() as connection:
            await connection.execute(insert(tables.accounts), as_values(row))
            if workspace is not None:
                await connection.execute(insert(tables.workspaces), as_values(workspace))
            return await insert_key(connection, key) if key is not None else None

    async def find(self, account_id: str) -> AccountRow | None:
        """The account with this id."""
        async with self._database.read() as connection:
            query = select(tables.accounts).where(tables.accounts.c.id == account_id)
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else AccountRow(**_fields(row))

    async def find_external(self, kind: AccountKind, external_id: str) -> AccountRow | None:
        """The account that its owner calls ``external_id``."""
        table = tables.accounts
        query = select(table).where(table.c.kind == kind, table.c.external_id == external_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else AccountRow(**_fields(row))

    async def list_page(self, kind: AccountKind | None, limit: int, offset: int = 0) -> tuple[AccountRow, ...]:
        """Up to ``limit`` accounts, newest first."""
        table = tables.accounts
        query = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit).offset(offset)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        async with self._database.read() as connection:
            return tuple(AccountRow(**_fields(row)) for row in await connection.execute(query))

    async def change(self, account_id: str, values: Mapping[str, Any]) -> AccountRow | None:
        """Give columns (fields of `AccountRow`) new values. None: no such account."""
        async with self._database.write() as connection:
            revision = await configuration.bump(connection)
            if "disabled" in values:  # its keys may stop, or work again
                await mark_changed(connection, keys.c.account_id == account_id, revision)
            await connection.execute(
                update(tables.accounts).where(tables.accounts.c.id == account_id).values(**_stored(values))
            )
        return await self.find(account_id)

    async def change_settings(
        self, account_id: str, merged: Callable[[Mapping[str, Any]], Mapping[str, Any]], now: int
    ) -> int:
        """Give an account the settings that ``merged`` makes of the present ones, no change in between.

        Gives the new configuration revision. Nothing happens to an account that is not there.
        """
        one = tables.accounts.c.id == account_id
        async with self._database.write() as connection:
            revision = await configuration.bump(connection)  # its lock keeps others out until the commit
            row = (await connection.execute(select(tables.accounts).where(one))).one_or_none()
            if row is not None:
                values = {"settings": dict(merged(_fields(row)["settings"])), "updated_at": now}
                await connection.execute(update(tables.accounts).where(one).values(**_stored(values)))
            return revision

    async def put_member(self, account_id: str, user_id: str, role: MemberRole, now: int) -> None:
        """Make a person a member, or give the member this role."""
        table = tables.members
        row = {"account_id": account_id, "user_id": user_id, "role": role, "created_at": now}
        one = (table.c.account_id == account_id, table.c.user_id == user_id)
        async with self._database.write() as connection:
            changed = await connection.execute(update(table).where(*one).values(role=role))
            if not changed.rowcount:
                await connection.execute(insert(table), row)

    async def remove_member(self, account_id: str, user_id: str) -> bool:
        """Take a person out of an organization; False when it was no member."""
        table = tables.members
        async with self._database.write() as connection:
            gone = await connection.execute(
                delete(table).where(table.c.account_id == account_id, table.c.user_id == user_id)
            )
        return bool(gone.rowcount)

    async def list_members(self, account_id: str, limit: int, offset: int = 0) -> tuple[tuple[Member, ...], int]:
        """Up to ``limit`` members in the order they came, and how many there are."""
        members, users = tables.members, tables.users
        query = (
            select(members.c.user_id, members.c.role, users.c.email, users.c.first_name, users.c.last_name)
            .add_columns(members.c.created_at)
            .join(users, users.c.id == members.c.user_id)
            .where(members.c.account_id == account_id)
            .order_by(members.c.created_at, members.c.user_id)
        )
        total = select(func.count()).select_from(members).where(members.c.account_id == account_id)
        async with self._database.read() as connection:
            found = tuple(Member(**row._mapping) for row in await connection.execute(query.limit(limit).offset(offset)))
            return found, int((await connection.execute(total)).scalar_one())

    async def memberships(self, user_id: str) -> dict[str, MemberRole]:
        """The organizations of a person, by id, and the role in each."""
        table = tables.members
        query = select(table.c.account_id, table.c.role).where(table.c.user_id == user_id)
        async with self._database.read() as connection:
            return {row.account_id: row.role for row in await connection.execute(query)}

    async def add_workspace(self, row: WorkspaceRow) -> None:
        """Store a new workspace. Raises AlreadyExistsError for a slug that the account has."""
        async with self._database.write() as connection:
            await connection.execute(insert(tables.workspaces), as_values(row))

    async def find_workspace(self, account_id: str, workspace_id: str) -> WorkspaceRow | None:
        """The account's workspace with this id; another account's is not found."""
        table = tables.workspaces
        query = select(table).where(table.c.id == workspace_id, table.c.account_id == account_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else WorkspaceRow(**_fields(row))

    async def list_workspaces(self, account_id: str, limit: int, offset: int = 0) -> tuple[WorkspaceRow, ...]:
        """Up to ``limit`` workspaces of the account, oldest first."""
        table = tables.workspaces
        query = select(table).where(table.c.account_id == account_id).order_by(table.c.created_at, table.c.id)
        async with self._database.read() as connection:
            found = await connection.execute(query.limit(limit).offset(offset))
            return tuple(WorkspaceRow(**_fields(row)) for row in found)

    async def change_workspace(self, account_id: str, workspace_id: str, values: Mapping[str, Any]) -> bool:
        """Give columns (fields of `WorkspaceRow`) new values; False when the account has no such workspace."""
        table = tables.workspaces
        one = (table.c.id == workspace_id, table.c.account_id == account_id)
        async with self._database.write() as connection:
            changed = await connection.execute(update(table).where(*one).values(**_stored(values)))
        return bool(changed.rowcount)


def as_values(row: msgspec.Struct) -> dict[str, Any]:
    """A row as the columns hold it: ``settings`` as JSON."""
    return _stored(msgspec.structs.asdict(row))


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    stored = dict(values)
    if "settings" in stored:
        stored["settings"] = msgspec.json.encode(stored["settings"]).decode()
    return stored


def _fields(row: Row[tuple[object, ...]]) -> dict[str, Any]:
    fields = dict(row._mapping)
    fields["settings"] = NO_SETTINGS if fields["settings"] == "{}" else msgspec.json.decode(fields["settings"])
    return fields
