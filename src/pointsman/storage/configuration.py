"""The configuration's revision: one number that tells every process whether its snapshot in memory is old."""

from typing import Any, Final, Literal

from sqlalchemy import Select, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage import tables
from pointsman.storage.database import Database

Part = Literal["people_revision", "budgets_revision"]
_TABLE: Final = tables.configuration
_NEXT: Final = _TABLE.c.revision + 1


class TooManyError(Exception):
    """There are as many rows of a kind as there may be."""


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


async def keep_within(connection: AsyncConnection, count: Select[Any], most: int | None) -> None:
    """Raises TooManyError, which rolls the caller's transaction back, when ``count`` gives more than ``most``.

    None: any number is well.

    Exact for any number of processes if it is called behind `bump` and what was added: whoever adds waits there for the
    other's commit.
    """
    if most is not None and int((await connection.execute(count)).scalar_one()) > most:
        raise TooManyError
