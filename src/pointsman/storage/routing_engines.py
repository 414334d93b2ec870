"""Services that choose among a profile's models: how each is reached, and its sealed key."""

from typing import Final

import msgspec
from sqlalchemy import delete, insert, select

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class EngineRow(msgspec.Struct, frozen=True, kw_only=True):
    """One service; ``settings`` is JSON, ``updated_at`` in us."""

    name: str
    settings: str
    sealed_key: bytes
    updated_at: int


_TABLE: Final = tables.routing_engines


class EngineRepository:
    """Asks and changes the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, name: str) -> EngineRow | None:
        """The service of this name."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.name == name))).one_or_none()
        return None if row is None else EngineRow(**row._mapping)

    async def put(self, row: EngineRow) -> int:
        """Store it in the place of the one before; gives the new configuration revision."""
        async with self._database.write(sealing=True) as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.name == row.name))
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
            return await configuration.bump(connection)

    async def remove(self, name: str) -> int | None:
        """Forget it; gives the new revision. None: there is none."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.name == name))
            return await configuration.bump(connection) if gone.rowcount else None
