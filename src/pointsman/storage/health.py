"""States of health that all processes share, and the resilience settings that were changed while running."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database

_TABLE: Final = tables.health_states
_ROW: Final = tables.resilience
_BUMP: Final = update(_ROW).values(revision=_ROW.c.revision + 1).returning(_ROW.c.revision)
_CHANGED: Final = ("document", "changed_at", "revision", "writer")
MAX_READ: Final = 20_000


class HealthRow(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one thing; an empty ``document``: nothing is amiss any more. ``changed_at`` in us."""

    scope: str
    name: str
    document: str
    changed_at: int
    writer: str
    revision: int = 0


class HealthRepository:
    """Asks and changes both tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert: Any = sqlite.insert(_TABLE) if database.kind == "sqlite" else postgresql.insert(_TABLE)
        changes = {name: insert.excluded[name] for name in _CHANGED}
        newer = _TABLE.c.changed_at <= insert.excluded.changed_at
        self._upsert = insert.on_conflict_do_update(index_elements=["scope", "name"], set_=changes, where=newer)

    async def revision(self) -> int:
        """The number of changes so far. Raises StorageError."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(_ROW.c.revision))).scalar_one())

    async def since(self, revision: int) -> tuple[int, list[HealthRow]]:
        """The present revision, and what has changed after ``revision``. Raises StorageError."""
        query = select(_TABLE).where(_TABLE.c.revision > revision).order_by(_TABLE.c.revision).limit(MAX_READ)
        async with self._database.read() as connection:
            rows = [HealthRow(**row._mapping) for row in await connection.execute(query)]
            now = int((await connection.execute(select(_ROW.c.revision))).scalar_one())
        return (rows[-1].revision if len(rows) == MAX_READ else now), rows

    async def put(self, rows: Sequence[HealthRow], gone_before: int) -> int:
        """Store changes, unless a later one is there; gives the new revision. What was amiss before ``gone_before``
        (us) and is no longer, is deleted. Raises StorageError.
        """
        async with self._database.write() as connection:
            revision = int((await connection.execute(_BUMP)).scalar_one())
            values = [{**msgspec.structs.asdict(row), "revision": revision} for row in rows]
            await connection.execute(self._upsert, values)
            old = (_TABLE.c.document == "", _TABLE.c.changed_at < gone_before)
            await connection.execute(delete(_TABLE).where(*old))
            return revision

    async def overrides(self) -> str:
        """The settings that were changed, as JSON. Raises StorageError."""
        async with self._database.read() as connection:
            return str((await connection.execute(select(_ROW.c.overrides))).scalar_one())

    async def change_overrides(self, change: Callable[[str], str]) -> int:
        """Store what ``change`` makes of the settings; gives the new configuration revision.

        One after another, also over several processes. Raises StorageError, and whatever ``change`` raises.
        """
        async with self._database.write() as connection:
            before = (await connection.execute(select(_ROW.c.overrides).with_for_update())).scalar_one()
            await connection.execute(update(_ROW).values(overrides=change(str(before))))
            return await configuration.bump(connection)
