"""The gateway's own API keys: who may call. Only digests are stored."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from sqlalchemy import Row, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.limits import Limits, Priority
from pointsman.storage import configuration, tables
from pointsman.storage.database import Database

Role = Literal["admin", "inference"]


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key. ``digest`` is its keyed hash, ``hint`` what people recognise it by (``sk-pm-…abcd``); instants in us."""

    id: str
    digest: bytes
    name: str
    hint: str
    role: Role
    created_at: int
    workspace_id: str = "default"
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    priority: Priority = "normal"


_TABLE: Final = tables.keys
_TOUCH: Final = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("key"))
    .where(or_(_TABLE.c.last_used_at.is_(None), _TABLE.c.last_used_at < bindparam("at")))
    .values(last_used_at=bindparam("at"))
)


class KeyRepository:
    """Asks and changes the table of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: KeyRow) -> int:
        """Store a new key; gives the new configuration revision. Raises AlreadyExistsError for a known id or digest."""
        async with self._database.write() as connection:
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
            return await configuration.bump(connection)

    async def load_all(self) -> tuple[KeyRow, ...]:
        """Every key, also revoked and expired ones, oldest first: for the snapshot in memory."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.created_at, _TABLE.c.id))
            return tuple(_row(row) for row in found)

    async def find_by_digest(self, digest: bytes) -> KeyRow | None:
        """The key with this digest, whatever its state."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.digest == digest))).one_or_none()
        return None if row is None else _row(row)

    async def list_page(self, limit: int, after: str | None = None) -> tuple[KeyRow, ...]:
        """Up to ``limit`` keys in the order of their ids, which grow with time, beginning behind the id ``after``."""
        query = select(_TABLE).order_by(_TABLE.c.id).limit(limit)
        if after is not None:
            query = query.where(_TABLE.c.id > after)
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(query))

    async def revoke(self, key_id: str, at: int) -> KeyRow | None:
        """Revoke at the instant ``at`` (us); a key that is revoked already keeps its instant. None: no such key."""
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(_TABLE).where(_TABLE.c.id == key_id, _TABLE.c.revoked_at.is_(None)).values(revoked_at=at)
            )
            if changed.rowcount:
                await configuration.bump(connection)
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.id == key_id))).one_or_none()
        return None if row is None else _row(row)

    async def limit(self, key_id: str, limits: Limits, priority: Priority) -> KeyRow | None:
        """Change a key's limits and priority. None: no such key."""
        values = {**msgspec.structs.asdict(limits), "priority": priority}
        async with self._database.write() as connection:
            changed = await connection.execute(update(_TABLE).where(_TABLE.c.id == key_id).values(values))
            if changed.rowcount:
                await configuration.bump(connection)
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.id == key_id))).one_or_none()
        return None if row is None else _row(row)

    async def touch(self, connection: AsyncConnection, last_used: Mapping[str, int]) -> None:
        """Note in the caller's transaction when keys (by id) were last used (us); never moves an instant back."""
        if last_used:
            # In the order of ids, so that two nodes that touch the same keys can't wait for each other in a circle.
            await connection.execute(_TOUCH, [{"key": key, "at": last_used[key]} for key in sorted(last_used)])


def _row(row: Row[tuple[object, ...]]) -> KeyRow:
    return KeyRow(**row._mapping)
