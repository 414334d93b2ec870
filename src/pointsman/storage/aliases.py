"""Names for models: a client asks for the alias, the gateway takes the target."""

from typing import Final

import msgspec
from sqlalchemy import delete, func, insert, select

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class AliasRow(msgspec.Struct, frozen=True, kw_only=True):
    """One alias; ``created_at`` in us."""

    name: str
    target: str
    created_at: int


_TABLE: Final = tables.aliases


class AliasRepository:
    """Asks and changes the table of aliases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: AliasRow) -> int:
        """Store a new alias; gives the new configuration revision. Raises AlreadyExistsError for a known name."""
        async with self._database.write() as connection:
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
            return await configuration.bump(connection)

    async def put(self, row: AliasRow, most: int | None = None) -> int:
        """Store an alias in place of one of its name; gives the new configuration revision.

        Raises StorageError, TooManyError for a new one when there are ``most``.
        """
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.name == row.name))
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
            revision = await configuration.bump(connection)
            if not gone.rowcount:
                await configuration.keep_within(connection, select(func.count()).select_from(_TABLE), most)
            return revision

    async def list(self) -> tuple[AliasRow, ...]:
        """Every alias by name."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.name))
            return tuple(AliasRow(**row._mapping) for row in found)

    async def find(self, name: str) -> AliasRow | None:
        """The alias with this name."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.name == name))).one_or_none()
        return None if row is None else AliasRow(**row._mapping)

    async def remove(self, name: str) -> int | None:
        """Delete it; gives the new revision. None: no such alias."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.name == name))
            return await configuration.bump(connection) if gone.rowcount else None
