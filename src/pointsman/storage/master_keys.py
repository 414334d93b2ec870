"""Generations of the master key, and the keys of single purposes that outlive theirs (keyring.py, docs/secrets.md).

No key stands here in the clear: each is sealed with a master key that only the operator has.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, delete, insert, select, update

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

    async def announce(self, row: MasterKeyRow, kept: Sequence[KeptKeyRow]) -> int:
        """Add a generation that is to follow, with what is kept of those before, sealed with it; gives the revision.

        Raises AlreadyExistsError when somebody else announces one at the same time.
        """
        async with self._database.write() as connection:
            await connection.execute(insert(master_keys), msgspec.structs.asdict(row))
            if kept:
                await connection.execute(insert(kept_keys), [msgspec.structs.asdict(one) for one in kept])
            return await bump(connection)

    async def promote(self, new: str, old: str) -> int:
        """From now on everything is sealed with ``new``; gives the revision."""
        async with self._database.write() as connection:
            await self._set(connection, old, {"state": "retiring"})
            await self._set(connection, new, {"state": "current"})
            return await bump(connection)

    async def retire(self, new: str, old: str, at: int) -> int:
        """Nothing needs ``old`` any more: the links are cut, it opens nothing from now on. Gives the revision."""
        async with self._database.write() as connection:
            await self._set(connection, old, {"state": "retired", "finished_at": at})
            await self._set(connection, new, {"forward": None, "backward": None})
            await connection.execute(delete(kept_keys).where(kept_keys.c.holder == old))
            return await bump(connection)

    async def _set(self, connection: Any, key_id: str, values: dict[str, Any]) -> None:
        await connection.execute(update(master_keys).where(master_keys.c.id == key_id).values(**values))
