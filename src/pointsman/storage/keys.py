"""The credentials that callers present: API keys of every kind, tokens, sessions. Only digests are stored."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, Select, bindparam, delete, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.limits import Priority
from pointsman.storage import configuration, identity_tables, tables
from pointsman.storage.database import Database

# admin: everything. management: what belongs to its own account, no calls of models. inference: calls of models.
Role = Literal["admin", "management", "inference"]
CredentialKind = Literal[
    "plain",
    "openrouter",
    "hardcarrx",
    "crosscompute",
    "crosscompute_agent",
    "omniroute",
    "omniroute_cli",
    "session",
    "jwt",  # never stored: a signed token speaks for itself (identity/tokens.py)
]
NO_SETTINGS: Final[Mapping[str, Any]] = {}


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One credential. ``digest`` is its keyed hash, ``hint`` what people recognise it by (``sk-pm-…abcd``).

    ``account_id`` pays and owns; ``user_id`` is whom it acts for, ``creator_user_id`` who made it. ``fingerprint`` is
    the SHA-256 in hex of a key that OpenRouter's API names by it. ``settings`` holds what one contract alone knows.
    ``revision`` is the configuration's at the last change. Instants in us.
    """

    id: str
    digest: bytes
    name: str
    hint: str
    role: Role
    created_at: int
    kind: CredentialKind = "plain"
    account_id: str = "default"
    workspace_id: str = "default"
    user_id: str | None = None
    creator_user_id: str | None = None
    scopes: tuple[str, ...] = ()
    fingerprint: str | None = None
    disabled: bool = False
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    updated_at: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    priority: Priority = "normal"
    settings: Mapping[str, Any] = NO_SETTINGS
    revision: int = 0


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which credentials a list shows; revoked ones and, but when asked for, sessions are in none.

    ``valid_at`` (us) leaves out those that have expired then.
    """

    account_id: str | None = None
    workspace_id: str | None = None
    user_id: str | None = None
    kinds: tuple[CredentialKind, ...] = ()
    roles: tuple[Role, ...] = ()
    include_disabled: bool = True
    valid_at: int | None = None


_TABLE: Final = tables.keys
_JSON_COLUMNS: Final = ("scopes", "settings")
_TOUCH: Final = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("key"))
    .where(or_(_TABLE.c.last_used_at.is_(None), _TABLE.c.last_used_at < bindparam("at")))
    .values(last_used_at=bindparam("at"))
)


class KeyRepository:
    """Asks and changes the table of credentials."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: KeyRow) -> int:
        """Store a new one; gives the new configuration revision. Raises AlreadyExistsError for a known id or digest."""
        async with self._database.write() as connection:
            return await insert_key(connection, row)

    async def load_all(self) -> tuple[KeyRow, ...]:
        """Every credential but sessions, also revoked and expired ones, oldest first."""
        return await self._all(select(_TABLE).where(_TABLE.c.kind != "session"))

    async def load_valid(self) -> tuple[KeyRow, ...]:
        """For the snapshot in memory: what is not revoked, and belongs to no disabled account or user."""
        accounts = select(identity_tables.accounts.c.id).where(identity_tables.accounts.c.disabled)
        users = select(identity_tables.users.c.id).where(identity_tables.users.c.disabled)
        query = select(_TABLE).where(_TABLE.c.revoked_at.is_(None), _TABLE.c.account_id.not_in(accounts))
        return await self._all(query.where(or_(_TABLE.c.user_id.is_(None), _TABLE.c.user_id.not_in(users))))

    async def _all(self, query: Select[Any]) -> tuple[KeyRow, ...]:
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(_TABLE.c.created_at, _TABLE.c.id))
            return tuple(_row(row) for row in found)

    async def find(self, key_id: str) -> KeyRow | None:
        """The credential with this id, whatever its state and whoever owns it."""
        return await self._one(select(_TABLE).where(_TABLE.c.id == key_id))

    async def find_by_digest(self, digest: bytes) -> KeyRow | None:
        """The credential with this digest, whatever its state."""
        return await self._one(select(_TABLE).where(_TABLE.c.digest == digest))

    async def find_by_fingerprint(self, fingerprint: str) -> KeyRow | None:
        """The key with this SHA-256 in hex, whatever its state and whoever owns it."""
        return await self._one(select(_TABLE).where(_TABLE.c.fingerprint == fingerprint))

    async def _one(self, query: Select[Any]) -> KeyRow | None:
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _row(row)

    async def list_page(self, wanted: KeyFilter, limit: int, offset: int = 0) -> tuple[KeyRow, ...]:
        """Up to ``limit`` of those wanted, newest first."""
        query = _where(select(_TABLE), wanted).order_by(_TABLE.c.created_at.desc(), _TABLE.c.id.desc())
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(query.limit(limit).offset(offset)))

    async def count(self, wanted: KeyFilter) -> int:
        """How many there are of those wanted."""
        async with self._database.read() as connection:
            found = await connection.execute(_where(select(func.count()).select_from(_TABLE), wanted))
            return int(found.scalar_one())

    async def revoke(self, key_id: str, at: int) -> KeyRow | None:
        """Revoke at the instant ``at`` (us); a key that is revoked already keeps its instant. None: no such key."""
        return await self._change(key_id, {"revoked_at": at}, _TABLE.c.revoked_at.is_(None))

    async def change(self, key_id: str, values: Mapping[str, Any]) -> KeyRow | None:
        """Give columns (fields of `KeyRow`) new values. None: no such key."""
        return await self._change(key_id, values, true())

    async def _change(self, key_id: str, values: Mapping[str, Any], condition: ColumnElement[bool]) -> KeyRow | None:
        the_row, to_change = _TABLE.c.id == key_id, select(_TABLE.c.id).where(_TABLE.c.id == key_id, condition)
        async with self._database.write() as connection:
            if (await connection.execute(to_change)).first() is not None:
                # The revision first: its lock makes rows visible in the order of their revisions.
                revision = await configuration.bump(connection)
                changed = update(_TABLE).where(the_row, condition).values(**_values(values), revision=revision)
                await connection.execute(changed)
            row = (await connection.execute(select(_TABLE).where(the_row))).one_or_none()
        return None if row is None else _row(row)

    async def end_sessions(self, user_id: str, keep: int = 0) -> int:
        """Remove a user's sessions but the ``keep`` newest ones; gives how many were removed."""
        mine = (_TABLE.c.kind == "session", _TABLE.c.user_id == user_id)
        newest = select(_TABLE.c.id).where(*mine).order_by(_TABLE.c.created_at.desc(), _TABLE.c.id.desc()).limit(keep)
        async with self._database.write() as connection:
            kept = tuple((await connection.execute(newest)).scalars()) if keep else ()
            gone = await connection.execute(delete(_TABLE).where(*mine, _TABLE.c.id.not_in(kept)))
            if gone.rowcount:
                await configuration.bump(connection)
            return int(gone.rowcount)

    async def revision(self) -> int:
        """The configuration's revision now."""
        return await configuration.ConfigurationRepository(self._database).revision()

    async def remove_session(self, key_id: str) -> None:
        """End one session; nothing happens when there is none with this id."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.kind == "session", _TABLE.c.id == key_id))
            if gone.rowcount:
                await configuration.bump(connection)

    async def touch(self, connection: AsyncConnection, last_used: Mapping[str, int]) -> None:
        """Note in the caller's transaction when keys (by id) were last used (us); never moves an instant back."""
        if last_used:
            # In the order of ids, so that two nodes that touch the same keys can't wait for each other in a circle.
            await connection.execute(_TOUCH, [{"key": key, "at": last_used[key]} for key in sorted(last_used)])


async def insert_key(connection: AsyncConnection, row: KeyRow) -> int:
    """Store a new credential in the caller's transaction; gives the new configuration revision."""
    revision = await configuration.bump(connection)
    await connection.execute(insert(_TABLE), _values({**msgspec.structs.asdict(row), "revision": revision}))
    return revision


def _where(query: Select[Any], wanted: KeyFilter) -> Select[Any]:
    query = query.where(_TABLE.c.revoked_at.is_(None))
    for name in ("account_id", "workspace_id", "user_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(_TABLE.c[name] == value)
    query = query.where(_TABLE.c.kind.in_(wanted.kinds) if wanted.kinds else _TABLE.c.kind != "session")
    if wanted.roles:
        query = query.where(_TABLE.c.role.in_(wanted.roles))
    if not wanted.include_disabled:
        query = query.where(_TABLE.c.disabled.is_(False))
    if wanted.valid_at is not None:
        query = query.where(or_(_TABLE.c.expires_at.is_(None), _TABLE.c.expires_at > wanted.valid_at))
    return query


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as the columns hold them."""
    stored = dict(values)
    for name in _JSON_COLUMNS:
        if name in stored:
            stored[name] = msgspec.json.encode(stored[name]).decode()
    return stored


def _row(row: Row[tuple[object, ...]]) -> KeyRow:
    fields = dict(row._mapping)
    scopes, settings = fields["scopes"], fields["settings"]
    # Most are empty, and the snapshot reads all of them.
    fields["scopes"] = () if scopes == "[]" else msgspec.json.decode(scopes, type=tuple[str, ...])
    fields["settings"] = NO_SETTINGS if settings == "{}" else msgspec.json.decode(settings)
    return KeyRow(**fields)
