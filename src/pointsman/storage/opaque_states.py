"""Sealed reasoning state of recent answers. Every question names the workspace: another's rows are not there."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage import tables
from pointsman.storage.database import Database

_TABLE: Final = tables.opaque_states
_CHANGED: Final = ("sealed", "size", "expires_at")
_NAME: Final = (_TABLE.c.workspace_id, _TABLE.c.key)
_EXPIRED: Final = (
    select(*_NAME).where(_TABLE.c.expires_at <= bindparam("now")).order_by(_TABLE.c.expires_at).limit(bindparam("most"))
)
_FORGET_EXPIRED: Final = delete(_TABLE).where(tuple_(*_NAME).in_(_EXPIRED))


class StateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One answer's state: ``key`` names it, ``sealed`` is what the keyring made of it; microseconds since 1970."""

    workspace_id: str
    key: bytes
    sealed: bytes
    expires_at: int


class StateRepository:
    """Asks and changes the table of opaque states."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert: Any = sqlite.insert(_TABLE) if database.kind == "sqlite" else postgresql.insert(_TABLE)
        changes = {name: insert.excluded[name] for name in _CHANGED}
        self._upsert = insert.on_conflict_do_update(index_elements=["workspace_id", "key"], set_=changes)

    async def put(self, rows: Sequence[StateRow], most: int) -> None:
        """Keep the rows, in place of older ones of their keys, and at most ``most`` of each workspace: the oldest go.

        Raises StorageError; none is kept then.
        """
        # In one order everywhere: two transactions that lock the same rows of PostgreSQL don't wait for each other.
        ordered = sorted(rows, key=lambda row: (row.workspace_id, row.key))
        values = [{**msgspec.structs.asdict(row), "size": len(row.sealed)} for row in ordered]
        async with self._database.write(sealing=True) as connection:
            await connection.execute(self._upsert, values)
            for workspace_id in dict.fromkeys(row.workspace_id for row in ordered):
                await self._limit(connection, workspace_id, most)

    async def _limit(self, connection: AsyncConnection, workspace_id: str, most: int) -> None:
        mine = _TABLE.c.workspace_id == workspace_id
        count = (await connection.execute(select(func.count()).select_from(_TABLE).where(mine))).scalar_one()
        if count > most:
            oldest = select(_TABLE.c.key).where(mine).order_by(_TABLE.c.expires_at).limit(count - most)
            await connection.execute(delete(_TABLE).where(mine, _TABLE.c.key.in_(oldest)))

    async def find(self, workspace_id: str, keys: Sequence[bytes], now: int) -> tuple[StateRow, ...]:
        """The workspace's rows of these keys whose time is not over at the instant ``now``. Raises StorageError."""
        columns = (_TABLE.c.workspace_id, _TABLE.c.key, _TABLE.c.sealed, _TABLE.c.expires_at)
        query = select(*columns).where(
            _TABLE.c.workspace_id == workspace_id, _TABLE.c.key.in_(keys), _TABLE.c.expires_at > now
        )
        async with self._database.read() as connection:
            return tuple(StateRow(**row._mapping) for row in await connection.execute(query))

    async def forget_expired(self, now: int, limit: int) -> int:
        """Delete up to ``limit`` rows whose time is over at the instant ``now``; gives how many.

        Raises StorageError.
        """
        async with self._database.write() as connection:
            return (await connection.execute(_FORGET_EXPIRED, {"now": now, "most": limit})).rowcount

    async def shrink(self, max_bytes: int, limit: int) -> int:
        """Delete the oldest rows, up to ``limit``, while all together have more than ``max_bytes``; gives how many.

        Raises StorageError.
        """
        oldest = select(_TABLE.c.workspace_id, _TABLE.c.key, _TABLE.c.size).order_by(_TABLE.c.expires_at).limit(limit)
        async with self._database.read() as connection:
            total = (await connection.execute(select(func.coalesce(func.sum(_TABLE.c.size), 0)))).scalar_one()
            if total <= max_bytes:
                return 0
            rows = (await connection.execute(oldest)).all()
        surplus, going = int(total) - max_bytes, []
        for row in rows:
            if surplus <= 0:
                break
            surplus -= row.size
            going.append({"its_workspace": row.workspace_id, "its_key": row.key})
        one = delete(_TABLE).where(
            _TABLE.c.workspace_id == bindparam("its_workspace"), _TABLE.c.key == bindparam("its_key")
        )
        async with self._database.write() as connection:
            await connection.execute(one, going)
        return len(going)
