"""Addresses of compatible APIs that several connections may share: a change of one is a change of all of them."""

from typing import Final

import msgspec
from sqlalchemy import delete, func, insert, select, update

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class ProviderNodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One address; ``prefix`` is unique and stands before its models' names. Instants in us."""

    id: str
    type: str
    name: str
    prefix: str
    api_type: str | None
    base_url: str
    chat_path: str | None = None
    models_path: str | None = None
    created_at: int
    updated_at: int


_TABLE: Final = tables.provider_nodes


class ProviderNodeRepository:
    """Asks and changes the table of nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: ProviderNodeRow, most: int | None = None) -> int:
        """Store a new node; gives the new revision.

        Raises AlreadyExistsError for a known id or prefix, TooManyError beside ``most``.
        """
        async with self._database.write() as connection:
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
            revision = await configuration.bump(connection)
            await configuration.keep_within(connection, select(func.count()).select_from(_TABLE), most)
            return revision

    async def replace(self, row: ProviderNodeRow) -> int | None:
        """Change everything but id and ``created_at``; None: no such node. Raises AlreadyExistsError for a prefix."""
        values = msgspec.structs.asdict(row)
        del values["created_at"]
        async with self._database.write() as connection:
            changed = await connection.execute(update(_TABLE).where(_TABLE.c.id == row.id).values(values))
            return await configuration.bump(connection) if changed.rowcount else None

    async def remove(self, node_id: str) -> int | None:
        """Delete it; gives the new revision. None: no such node."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.id == node_id))
            return await configuration.bump(connection) if gone.rowcount else None

    async def list(self) -> tuple[ProviderNodeRow, ...]:
        """Every node, oldest first."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.created_at, _TABLE.c.id))
            return tuple(ProviderNodeRow(**row._mapping) for row in found)

    async def find(self, node_id: str) -> ProviderNodeRow | None:
        """The node with this id."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.id == node_id))).one_or_none()
        return None if row is None else ProviderNodeRow(**row._mapping)
