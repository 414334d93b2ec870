"""Since when entries of the response cache count."""

from typing import Final

from sqlalchemy import delete, func, insert, select

from pointsman.storage import configuration, tables
from pointsman.storage.cache_tables import cache_clearings
from pointsman.storage.database import Database

ALL: Final = ""
MOST: Final = 1000  # clearings of single models and entries; with more, everything is cleared


class CacheClearings:
    """Asks and changes the table. All raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def table(self) -> dict[str, int]:
        """Since when (us) the entries of each scope count."""
        async with self._database.read() as connection:
            found = await connection.execute(select(cache_clearings))
            return {row.scope: row.cleared_at for row in found}

    async def clear(self, scope: str, at: int, oldest: int) -> int:
        """Entries of a scope that were made until ``at`` (us) count no more; gives the new configuration revision.

        What was cleared before ``oldest`` is forgotten: no entry is that old.
        """
        columns = cache_clearings.c
        async with self._database.write() as connection:
            await connection.execute(delete(cache_clearings).where(columns.cleared_at < oldest))
            known = select(func.count()).select_from(cache_clearings)
            if (await connection.execute(known)).scalar_one() >= MOST:
                scope = ALL
            before = (
                await connection.execute(select(columns.cleared_at).where(columns.scope == scope))
            ).scalar_one_or_none()
            at = max(at, before or 0)
            gone = delete(cache_clearings).where(columns.scope == scope)
            if scope == ALL:
                gone = delete(cache_clearings).where((columns.scope == ALL) | (columns.cleared_at <= at))
            await connection.execute(gone)
            await connection.execute(insert(cache_clearings), {"scope": scope, "cleared_at": at})
            return await configuration.bump(connection)

    async def delete_answers(self, space: str, most: int) -> int:
        """Delete up to so many kept entries whose workspace begins with ``space``; gives how many."""
        states = tables.opaque_states
        some = select(states.c.workspace_id, states.c.key).where(
            states.c.workspace_id.startswith(space, autoescape=True)
        )
        async with self._database.write() as connection:
            rows = (await connection.execute(some.limit(most))).all()
            for row in rows:
                one = (states.c.workspace_id == row.workspace_id) & (states.c.key == row.key)
                await connection.execute(delete(states).where(one))
            return len(rows)
