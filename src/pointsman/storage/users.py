"""People who sign in, and who they are at other issuers. Passwords are argon2id hashes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Select, func, insert, or_, select, tuple_, update

from pointsman.storage import configuration
from pointsman.storage import identity_tables as tables
from pointsman.storage.accounts import AccountRow, WorkspaceRow, as_values
from pointsman.storage.database import Database
from pointsman.storage.keys import mark_changed
from pointsman.storage.tables import keys

UserRole = Literal["admin", "user"]
_USERS: Final = tables.users
_LOGINS: Final = tables.user_logins


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """One person. ``password`` is the PHC string of an argon2id hash; tokens issued before ``tokens_from`` are void.

    Instants in us.
    """

    id: str
    account_id: str
    created_at: int
    updated_at: int
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    role: UserRole = "user"
    password: str | None = None
    disabled: bool = False
    last_login_at: int | None = None
    tokens_from: int | None = None

    def __repr__(self) -> str:
        return f"UserRow(id={self.id!r})"


LoginName = tuple[str, str]  # an issuer, and what it calls a person


class LoginRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who a person is at another issuer."""

    issuer: str
    subject: str
    user_id: str
    account_id: str
    role: UserRole


_AT_ONCE: Final = 500  # names in one query
_WHO: Final = select(_LOGINS.c.issuer, _LOGINS.c.subject, _LOGINS.c.user_id, _USERS.c.account_id, _USERS.c.role).join(
    _USERS, _USERS.c.id == _LOGINS.c.user_id
)


class UserRepository:
    """Asks and changes people and their logins."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: UserRow, account: AccountRow | None = None, workspace: WorkspaceRow | None = None) -> None:
        """Store a person, with an account of its own when one is given. Raises AlreadyExistsError."""
        async with self._database.write() as connection:
            # A person whom another issuer vouches for can have used its account before anybody knew its name.
            known = select(tables.accounts.c.id).where(tables.accounts.c.id == (account.id if account else ""))
            if (await connection.execute(known)).first() is None:
                if account is not None:
                    await connection.execute(insert(tables.accounts), as_values(account))
                if workspace is not None:
                    await connection.execute(insert(tables.workspaces), as_values(workspace))
            await connection.execute(insert(_USERS), msgspec.structs.asdict(row))
            await configuration.bump(connection, "people_revision")

    async def find(self, user_id: str) -> UserRow | None:
        """The person with this id."""
        return await self._one(select(_USERS).where(_USERS.c.id == user_id))

    async def find_by_email(self, email: str) -> UserRow | None:
        """The person with this address, in lower case."""
        return await self._one(select(_USERS).where(_USERS.c.email == email))

    async def find_login(self, issuer: str, subject: str) -> UserRow | None:
        """The person that ``issuer`` calls ``subject``."""
        query = select(_USERS).join(_LOGINS, _LOGINS.c.user_id == _USERS.c.id)
        return await self._one(query.where(_LOGINS.c.issuer == issuer, _LOGINS.c.subject == subject))

    async def _one(self, query: Select[Any]) -> UserRow | None:
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else UserRow(**row._mapping)

    async def add_login(self, issuer: str, subject: str, user_id: str, now: int) -> None:
        """Note who a person is at another issuer. Raises AlreadyExistsError when the issuer's name is taken."""
        row = {"issuer": issuer, "subject": subject, "user_id": user_id, "created_at": now}
        async with self._database.write() as connection:
            await connection.execute(insert(_LOGINS), row)
            await configuration.bump(connection, "people_revision")

    async def revision(self) -> int:
        """The configuration's revision at the last change of people."""
        async with self._database.read() as connection:
            return await configuration.revision_of(connection, "people_revision")

    async def load_logins(self, most: int) -> tuple[LoginRow, ...] | None:
        """All logins, also of people who are disabled. None: there are more than ``most``, of which none is read."""
        async with self._database.read() as connection:
            beyond = select(_LOGINS.c.issuer).offset(most).limit(1)
            if (await connection.execute(beyond)).first() is not None:
                return None
            found = (await connection.execute(_WHO.limit(most + 1))).all()
        return tuple(LoginRow(**row._mapping) for row in found) if len(found) <= most else None

    async def logins_among(self, names: Sequence[LoginName]) -> dict[LoginName, LoginRow]:
        """Those of these names that were noted."""
        found = {}
        async with self._database.read() as connection:
            for start in range(0, len(names), _AT_ONCE):
                some = tuple_(_LOGINS.c.issuer, _LOGINS.c.subject).in_(names[start : start + _AT_ONCE])
                for row in await connection.execute(_WHO.where(some)):
                    found[row.issuer, row.subject] = LoginRow(**row._mapping)
        return found

    async def load_void(self) -> dict[str, int | None]:
        """By id, the people some of whose tokens are void: those issued before an instant (us), or (None) all."""
        query = select(_USERS.c.id, _USERS.c.disabled, _USERS.c.tokens_from)
        query = query.where(or_(_USERS.c.disabled, _USERS.c.tokens_from.is_not(None)))
        async with self._database.read() as connection:
            return {row.id: None if row.disabled else row.tokens_from for row in await connection.execute(query)}

    async def list_page(self, limit: int, offset: int = 0) -> tuple[UserRow, ...]:
        """Up to ``limit`` people, oldest first."""
        query = select(_USERS).order_by(_USERS.c.created_at, _USERS.c.id).limit(limit).offset(offset)
        async with self._database.read() as connection:
            return tuple(UserRow(**row._mapping) for row in await connection.execute(query))

    async def count(self, role: UserRole | None = None) -> int:
        """How many there are, of a role or of all."""
        query = select(func.count()).select_from(_USERS)
        async with self._database.read() as connection:
            found = await connection.execute(query if role is None else query.where(_USERS.c.role == role))
            return int(found.scalar_one())

    async def change(self, user_id: str, values: Mapping[str, Any]) -> UserRow | None:
        """Give columns (fields of `UserRow`) new values. None: no such person."""
        async with self._database.write() as connection:
            if set(values) - {"last_login_at"}:
                revision = await configuration.bump(connection, "people_revision")
                if "disabled" in values:  # its keys may stop, or work again
                    await mark_changed(connection, keys.c.user_id == user_id, revision)
            await connection.execute(update(_USERS).where(_USERS.c.id == user_id).values(**values))
        return await self.find(user_id)
