"""The configuration's revision: one number that tells every process whether its snapshot in memory is old."""

from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage import tables
from pointsman.storage.database import Database

_TABLE: Final = tables.configuration
_BUMP: Final = update(_TABLE).values(revision=_TABLE.c.revision + 1).returning(_TABLE.c.revision)


class ConfigurationRepository:
    """Asks for the revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> int:
        """The number of changes of keys, connections and aliases so far."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(_TABLE.c.revision))).scalar_one())


async def bump(connection: AsyncConnection) -> int:
    """Count a change inside the transaction that makes it; gives the new revision.

    On PostgreSQL the row stays locked until the commit, so revisions become visible in their order.
    """
    return int((await connection.execute(_BUMP)).scalar_one())
