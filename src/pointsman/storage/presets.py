"""Presets of requests, as JSON documents."""

from typing import Any, Final

import msgspec
from sqlalchemy import delete, func, insert, select

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class PresetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One preset. Instants in us."""

    slug: str
    document: dict[str, Any]
    created_at: int
    updated_at: int


_TABLE: Final = tables.presets


class PresetRepository:
    """Asks and changes the table. Every change gives the new configuration revision. All raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> tuple[PresetRow, ...]:
        """Every preset by slug."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.slug))
            return tuple(
                PresetRow(
                    slug=row.slug,
                    document=msgspec.json.decode(row.document),
                    created_at=row.created_at,
                    updated_at=row.updated_at,
                )
                for row in found
            )

    async def put(self, row: PresetRow, most: int | None = None) -> int:
        """Store a preset in place of one of its slug. Raises TooManyError for a new one when there are ``most``."""
        values = {**msgspec.structs.asdict(row), "document": msgspec.json.encode(row.document).decode()}
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.slug == row.slug))
            await connection.execute(insert(_TABLE), values)
            revision = await configuration.bump(connection)
            if not gone.rowcount:
                await configuration.keep_within(connection, select(func.count()).select_from(_TABLE), most)
            return revision

    async def remove(self, slug: str) -> int | None:
        """Delete a preset. None: there is none."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.slug == slug))
            return await configuration.bump(connection) if gone.rowcount else None
