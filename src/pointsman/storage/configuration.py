"""The configuration's revision: one number that tells every process whether its snapshot in memory is old."""

from typing import Final, Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage import tables
from pointsman.storage.database import Database

Part = Literal["people_revision", "budgets_revision"]
_TABLE: Final = tables.configuration
_NEXT: Final = _TABLE.c.revision + 1


class ConfigurationRepository:
    """Asks for the revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> int:
        """The number of changes of keys, connections and aliases so far."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(_TABLE.c.revision))).scalar_one())


async def bump(connection: AsyncConnection, part: Part | None = None) -> int:
    """Count a change, and which part it is of, inside the transaction that makes it; gives the new revision.

    On PostgreSQL the row stays locked until the commit, so revisions become visible in their order.
    """
    values = {"revision": _NEXT} if part is None else {"revision": _NEXT, part: _NEXT}
    return int((await connection.execute(update(_TABLE).values(values).returning(_TABLE.c.revision))).scalar_one())


async def revision_of(connection: AsyncConnection, part: Part) -> int:
    """The revision at which a part changed last."""
    return int((await connection.execute(select(_TABLE.c[part]))).scalar_one())
