"""How far each journal segment has been projected into the database."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage import tables
from pointsman.storage.database import Database


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One segment file: ``position`` in bytes up to which its records are rows; ``finished``: nothing can follow."""

    name: str
    position: int = 0
    records: int = 0
    damaged: int = 0
    finished: bool = False
    updated_at: int = 0


_TABLE: Final = tables.journal_segments
_COLUMNS: Final = ("position", "records", "damaged", "finished", "updated_at")
_OF_NAMES: Final = _TABLE.c.name.in_(bindparam("names", expanding=True))


class SegmentRepository:
    """Asks and changes the table of journal segments."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert: Any = sqlite.insert(_TABLE) if database.kind == "sqlite" else postgresql.insert(_TABLE)
        changes = {name: insert.excluded[name] for name in _COLUMNS}
        self._upsert = insert.on_conflict_do_update(index_elements=["name"], set_=changes)

    async def load(self, names: Iterable[str]) -> dict[str, SegmentRow]:
        """The rows of those of ``names`` that are known."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).where(_OF_NAMES), {"names": list(names)})
            rows = [SegmentRow(**row._mapping) for row in found]
        return {row.name: row for row in rows}

    async def save(self, connection: AsyncConnection, rows: Iterable[SegmentRow]) -> None:
        """Write the rows, new or changed, inside the caller's transaction."""
        values = [msgspec.structs.asdict(row) for row in rows]
        if values:
            await connection.execute(self._upsert, values)

    async def forget(self, names: Iterable[str]) -> None:
        """Drop the rows of segments whose files are gone."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_OF_NAMES), {"names": list(names)})
