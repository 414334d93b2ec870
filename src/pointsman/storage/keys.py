"""The credentials that callers present: API keys of every kind, tokens, sessions. Only digests are stored."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
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


class KeyRoom(msgspec.Struct, frozen=True, kw_only=True):
    """How many of these there may be at most, with the one that is added."""

    among: KeyFilter
    most: int


_TABLE: Final = tables.keys
_JSON_COLUMNS: Final = ("scopes", "settings")
# Neither revoked nor of a disabled account or user.
_ACCOUNTS: Final = identity_tables.accounts.c
_USERS: Final = identity_tables.users.c
_VALID: Final = and_(
    _TABLE.c.revoked_at.is_(None),
    ~exists().where(_ACCOUNTS.id == _TABLE.c.account_id, _ACCOUNTS.disabled),
    ~exists().where(_USERS.id == _TABLE.c.user_id, _USERS.disabled),
)
# A process that could not read the database for so long reads all keys anew (snapshots.py).
_ENDED_US: Final = 3_600_000_000
_MOST_ENDED: Final = 10_000
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

    async def add(self, row: KeyRow, room: KeyRoom | None = None) -> int:
        """Store a new one if there is room for it; gives the new configuration revision.

        Raises AlreadyExistsError for a known id or digest, TooManyError.
        """
        async with self._database.write() as connection:
            revision = await insert_key(connection, row)
            if room is not None:
                await configuration.keep_within(connection, count_query(room.among), room.most)
            return revision

    async def count_all(self) -> int:
        """How many credentials but sessions there are, also revoked and expired ones."""
        query = select(func.count()).select_from(_TABLE).where(_TABLE.c.kind != "session")
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def load_names(self, key_ids: Sequence[str]) -> dict[str, str]:
        """The names of these keys, a few hundred, by id."""
        query = select(_TABLE.c.id, _TABLE.c.name).where(_TABLE.c.id.in_(key_ids))
        async with self._database.read() as connection:
            return {row.id: row.name for row in await connection.execute(query)}

    async def load_newest(self, limit: int) -> tuple[KeyRow, ...]:
        """The newest ``limit`` credentials but sessions, also revoked and expired ones, oldest first."""
        query = select(_TABLE).where(_TABLE.c.kind != "session")
        newest = query.order_by(_TABLE.c.created_at.desc(), _TABLE.c.id.desc()).limit(limit)
        return (await self._all(newest, ordered=False))[::-1]

    async def load_meant(self, reference: str, limit: int) -> tuple[KeyRow, ...]:
        """Up to ``limit`` credentials but sessions with this name, or whose id begins like this, oldest first."""
        begins = and_(_TABLE.c.id >= reference, _TABLE.c.id < reference + "\U0010ffff")
        which = or_(_TABLE.c.name == reference, begins)
        return await self._all(select(_TABLE).where(which, _TABLE.c.kind != "session").limit(limit))

    async def load_valid(self, most: int) -> tuple[KeyRow, ...] | None:
        """All for the table in memory: not revoked, and of no disabled account or user. None when there are more than
        ``most``, of which none is read.
        """
        async with self._database.read() as connection:
            beyond = select(_TABLE.c.id).where(_VALID).offset(most).limit(1)
            if (await connection.execute(beyond)).first() is not None:
                return None
        rows = await self._all(select(_TABLE).where(_VALID).limit(most + 1), ordered=False)
        return rows if len(rows) <= most else None

    async def load_changed(self, since: int, limit: int) -> tuple[tuple[KeyRow, bool], ...]:
        """Up to ``limit`` that changed behind the revision ``since``, and whether each is valid; see `load_valid`."""
        validity = case((_VALID, 1), else_=0).label("valid")
        query: Select[Any] = select(*_TABLE.c, validity).where(_TABLE.c.revision > since)
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(_TABLE.c.revision).limit(limit))
            return tuple((_row(row), bool(row.valid)) for row in found)

    async def load_presented(self, digests: Sequence[bytes]) -> tuple[KeyRow, ...]:
        """The valid ones with these digests, a few hundred."""
        return await self._all(select(_TABLE).where(_TABLE.c.digest.in_(digests), _VALID), ordered=False)

    async def load_named(self, key_id: str) -> tuple[KeyRow, ...]:
        """The one with this id, if it is valid."""
        return await self._all(select(_TABLE).where(_TABLE.c.id == key_id, _VALID), ordered=False)

    async def traits(self) -> tuple[bool, bool]:
        """Whether any key has limits of its own, and whether any is an agent's: each asks a partial index."""
        limited, agents = select(_TABLE.c.id).where(tables.LIMITED), select(_TABLE.c.id).where(tables.AGENTS)
        async with self._database.read() as connection:
            found = [(await connection.execute(query.limit(1))).first() is not None for query in (limited, agents)]
        return found[0], found[1]

    async def has_admin(self, now: int, but: str = "") -> bool:
        """Whether there is a key (``but`` this) of the role admin, neither revoked nor expired at ``now`` (us)."""
        lasting = or_(_TABLE.c.expires_at.is_(None), _TABLE.c.expires_at > now)
        query = select(_TABLE.c.id).where(tables.ADMINS, _TABLE.c.revoked_at.is_(None), lasting, _TABLE.c.id != but)
        async with self._database.read() as connection:
            return (await connection.execute(query.where(_TABLE.c.kind != "session").limit(1))).first() is not None

    async def _all(self, query: Select[Any], *, ordered: bool = True) -> tuple[KeyRow, ...]:
        if ordered:
            query = query.order_by(_TABLE.c.created_at, _TABLE.c.id)
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(query))

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
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(page_query(wanted, limit, offset)))

    async def count(self, wanted: KeyFilter) -> int:
        """How many there are of those wanted."""
        async with self._database.read() as connection:
            return int((await connection.execute(count_query(wanted))).scalar_one())

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

    async def end_sessions(self, user_id: str, at: int, keep: int = 0) -> int:
        """End a user's sessions at the instant ``at`` (us) but the ``keep`` newest ones; gives how many ended.

        Those that ended long ago are removed: no process can have missed that.
        """
        mine = (_TABLE.c.kind == "session", _TABLE.c.user_id == user_id)
        old = at - _ENDED_US
        open_ones = select(_TABLE.c.id).where(*mine, _TABLE.c.revoked_at.is_(None))
        newest = open_ones.order_by(_TABLE.c.created_at.desc(), _TABLE.c.id.desc()).offset(keep)
        async with self._database.write() as connection:
            await connection.execute(
                delete(_TABLE).where(*mine, or_(_TABLE.c.revoked_at < old, _TABLE.c.expires_at < old))
            )
            ended = tuple((await connection.execute(newest.limit(_MOST_ENDED))).scalars())
            if ended:
                revision = await configuration.bump(connection)
                await connection.execute(
                    update(_TABLE).where(_TABLE.c.id.in_(ended)).values(revoked_at=at, revision=revision)
                )
            return len(ended)

    async def revision(self) -> int:
        """The configuration's revision now."""
        return await configuration.ConfigurationRepository(self._database).revision()

    async def end_session(self, key_id: str, at: int) -> None:
        """End one session; nothing happens when there is none with this id."""
        await self._change(key_id, {"revoked_at": at}, (_TABLE.c.kind == "session") & _TABLE.c.revoked_at.is_(None))

    async def touch(self, connection: AsyncConnection, last_used: Mapping[str, int]) -> None:
        """Note in the caller's transaction when keys (by id) were last used (us); never moves an instant back."""
        if last_used:
            # In the order of ids, so that two nodes that touch the same keys can't wait for each other in a circle.
            await connection.execute(_TOUCH, [{"key": key, "at": last_used[key]} for key in sorted(last_used)])


async def mark_changed(connection: AsyncConnection, which: ColumnElement[bool], revision: int) -> None:
    """Have processes read keys anew, in the caller's transaction that changes what binds them."""
    await connection.execute(update(_TABLE).where(which).values(revision=revision))


async def insert_key(connection: AsyncConnection, row: KeyRow) -> int:
    """Store a new credential in the caller's transaction; gives the new configuration revision."""
    revision = await configuration.bump(connection)
    await connection.execute(insert(_TABLE), _values({**msgspec.structs.asdict(row), "revision": revision}))
    return revision


def page_query(wanted: KeyFilter, limit: int, offset: int) -> Select[Any]:
    """The query of a page: what it leaves out is passed in the index alone."""
    order = (_TABLE.c.created_at.desc(), _TABLE.c.id.desc())
    page = _where(select(_TABLE.c.id), wanted).order_by(*order).limit(limit).offset(offset)
    return select(_TABLE).where(_TABLE.c.id.in_(page.scalar_subquery())).order_by(*order)


def count_query(wanted: KeyFilter) -> Select[Any]:
    """The query of how many there are, which reads the index alone."""
    return _where(select(func.count()).select_from(_TABLE), wanted)


def _where(query: Select[Any], wanted: KeyFilter) -> Select[Any]:
    query = query.where(_TABLE.c.revoked_at.is_(None))
    for name in ("account_id", "workspace_id", "user_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(_TABLE.c[name] == value)
    if len(wanted.kinds) == 1:
        query = query.where(_TABLE.c.kind == wanted.kinds[0])
    else:
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


def _row(row: Row[Any]) -> KeyRow:
    fields = dict(row._mapping)
    fields.pop("valid", None)
    scopes, settings = fields["scopes"], fields["settings"]
    # Most are empty, and the snapshot reads all of them.
    fields["scopes"] = () if scopes == "[]" else msgspec.json.decode(scopes, type=tuple[str, ...])
    fields["settings"] = NO_SETTINGS if settings == "{}" else msgspec.json.decode(settings)
    return KeyRow(**fields)
