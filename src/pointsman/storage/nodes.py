"""The processes that share this database, each known by its heartbeat."""

from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update

from pointsman.storage import tables
from pointsman.storage.database import Database


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One node; instants in us, ``revision`` is that of the configuration it works with."""

    id: str
    address: str
    version: str
    started_at: int
    heartbeat_at: int
    revision: int = 0


_TABLE: Final = tables.nodes


class NodeRepository:
    """Asks and changes the table of nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, row: NodeRow) -> None:
        """Make the node known, in place of an older life of the same id."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.id == row.id))
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))

    async def beat(self, node_id: str, at: int, revision: int) -> bool:
        """Note that the node lives at ``at`` (us) with this revision. False: it was removed and must register again."""
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(_TABLE).where(_TABLE.c.id == node_id).values(heartbeat_at=at, revision=revision)
            )
            return changed.rowcount > 0

    async def live(self, since: int) -> tuple[NodeRow, ...]:
        """The nodes heard of at ``since`` (us) or later, oldest first."""
        query = select(_TABLE).where(_TABLE.c.heartbeat_at >= since).order_by(_TABLE.c.started_at, _TABLE.c.id)
        async with self._database.read() as connection:
            return tuple(NodeRow(**row._mapping) for row in await connection.execute(query))

    async def forget(self, before: int) -> None:
        """Drop those that were last heard of before this instant (us): nobody has taken them off."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.heartbeat_at < before))

    async def remove(self, node_id: str) -> None:
        """Forget the node; harmless when it is not known."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.id == node_id))
