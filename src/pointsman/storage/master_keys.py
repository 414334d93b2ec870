"""Generations of the master key, and the keys of single purposes that outlive theirs (keyring.py, docs/secrets.md).

No key stands here in the clear: each is sealed with a master key that only the operator has.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage.configuration import bump
from pointsman.storage.database import Database
from pointsman.storage.tables import metadata

# ``forward`` is this key sealed with the one before it, ``backward`` the one before sealed with this: there while a
# rotation is under way, so that a process which knows either has both.
master_keys: Final = Table(
    "master_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("forward", LargeBinary),
    Column("backward", LargeBinary),
)
# Keys of purposes that are needed after their master key (``key_id``) is gone, sealed with the master key ``holder``.
kept_keys: Final = Table(
    "kept_keys",
    metadata,
    Column("purpose", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)
KeyState = Literal["announced", "current", "retiring", "retired"]


class MasterKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One generation. Announced: everybody opens with it, nobody seals yet; retiring: the other way round."""

    id: str
    number: int
    state: KeyState
    created_at: int
    finished_at: int | None = None
    forward: bytes | None = None
    backward: bytes | None = None


class KeptKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """The key that one purpose had under the master key ``key_id``, sealed with the one ``holder``."""

    purpose: str
    key_id: str
    holder: str
    sealed: bytes


class MasterKeyRepository:
    """Keeps both tables; every change is one of the configuration. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[tuple[MasterKeyRow, ...], tuple[KeptKeyRow, ...]]:
        """All generations, the oldest first, and what is kept of them."""
        async with self._database.read() as connection:
            keys = (await connection.execute(select(master_keys).order_by(master_keys.c.number))).all()
            kept = (await connection.execute(select(kept_keys).order_by(kept_keys.c.purpose))).all()
        return (
            tuple(MasterKeyRow(**row._mapping) for row in keys),
            tuple(KeptKeyRow(**row._mapping) for row in kept),
        )

    async def begin(self, row: MasterKeyRow) -> None:
        """Note the first generation. Raises AlreadyExistsError when another process did."""
        async with self._database.write() as connection:
            await connection.execute(insert(master_keys), msgspec.structs.asdict(row))

    async def announce(self, row: MasterKeyRow, kept: Sequence[KeptKeyRow], old: str) -> int | None:
        """Add a generation that is to follow ``old``, with what is kept of those before, sealed with it; gives the
        revision. None: ``old`` is not the only one in use, since somebody else has begun a change, or finished one.
        """
        async with self._database.write() as connection:
            revision = await bump(connection)  # its lock keeps others out until the commit
            if await self._in_use(connection) != {old: "current"}:
                return None
            await connection.execute(insert(master_keys), msgspec.structs.asdict(row))
            if kept:
                await connection.execute(insert(kept_keys), [msgspec.structs.asdict(one) for one in kept])
            return revision

    async def promote(self, new: str, old: str) -> None:
        """From now on everything is sealed with ``new``; nothing happens unless it is announced."""
        async with self._database.write() as connection:
            await bump(connection)
            if await self._in_use(connection) == {old: "current", new: "announced"}:
                await self._set(connection, old, {"state": "retiring"})
                await self._set(connection, new, {"state": "current"})

    async def retire(self, new: str, old: str, at: int) -> None:
        """Nothing needs ``old`` any more: the links are cut, it opens nothing from now on. Nothing happens unless it is
        what ``new`` replaces.
        """
        async with self._database.write() as connection:
            await bump(connection)
            if await self._in_use(connection) == {old: "retiring", new: "current"}:
                await self._set(connection, old, {"state": "retired", "finished_at": at})
                await self._set(connection, new, {"forward": None, "backward": None})
                await connection.execute(delete(kept_keys).where(kept_keys.c.holder == old))

    async def hold(self, connection: AsyncConnection, key_id: str) -> KeyState | None:
        """The state of a generation, which stays as it is until this transaction ends; None: there is none."""
        query = select(master_keys.c.state).where(master_keys.c.id == key_id).with_for_update(read=True)
        state: KeyState | None = (await connection.execute(query)).scalar_one_or_none()
        return state

    async def _in_use(self, connection: AsyncConnection) -> dict[str, str]:
        """The states of all generations that are not retired, by id."""
        query = select(master_keys.c.id, master_keys.c.state).where(master_keys.c.state != "retired")
        return {row.id: row.state for row in await connection.execute(query)}

    async def _set(self, connection: AsyncConnection, key_id: str, values: dict[str, Any]) -> None:
        await connection.execute(update(master_keys).where(master_keys.c.id == key_id).values(**values))
