"""Upstreams' own lists of models, as they were last told. Whoever claims a list first asks for it, on any node."""

from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update

from pointsman.storage import configuration, tables
from pointsman.storage.database import AlreadyExistsError, Database


class ModelListRow(msgspec.Struct, frozen=True, kw_only=True):
    """One list. ``place`` is the address that it is from, ``models`` JSON, ``fetched_at`` (us) None before the first;
    ``asked_at`` is when somebody last began to ask, ``problem`` what was wrong then.
    """

    connection_id: str
    place: str
    asked_at: int
    fetched_at: int | None = None
    models: str = "[]"
    problem: str | None = None


_TABLE: Final = tables.model_lists


class ModelListRepository:
    """Asks and changes the table of model lists."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> tuple[ModelListRow, ...]:
        """Every list, by connection."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.connection_id))
            return tuple(ModelListRow(**row._mapping) for row in found)

    async def claim(self, connection_id: str, place: str, now: int, older_than: int) -> bool:
        """Take it on oneself to ask for a list: True when it is older than that, from another place, or not there."""
        stale = (_TABLE.c.asked_at < older_than) | (_TABLE.c.place != place)
        claim = update(_TABLE).where(_TABLE.c.connection_id == connection_id, stale).values(asked_at=now, place=place)
        try:
            async with self._database.write() as connection:
                if (await connection.execute(claim)).rowcount:
                    return True
                known = select(_TABLE.c.asked_at).where(_TABLE.c.connection_id == connection_id)
                if (await connection.execute(known)).one_or_none() is not None:
                    return False
                row = ModelListRow(connection_id=connection_id, place=place, asked_at=now)
                await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
                return True
        except AlreadyExistsError:
            return False  # another node was first

    async def keep(self, connection_id: str, models: str, now: int) -> int | None:
        """Store what an upstream told; gives the new configuration revision, None when nothing is new in it."""
        same = (_TABLE.c.connection_id == connection_id) & (_TABLE.c.models == models)
        values = {"models": models, "fetched_at": now, "problem": None}
        async with self._database.write() as connection:
            unchanged = (await connection.execute(select(_TABLE.c.asked_at).where(same))).one_or_none() is not None
            await connection.execute(update(_TABLE).where(_TABLE.c.connection_id == connection_id).values(values))
            return None if unchanged else await configuration.bump(connection)

    async def fail(self, connection_id: str, problem: str, asked_at: int) -> None:
        """Remember what was wrong; the list there was stays. ``asked_at`` is set so that it is asked for in time."""
        values = {"problem": problem, "asked_at": asked_at}
        async with self._database.write() as connection:
            await connection.execute(update(_TABLE).where(_TABLE.c.connection_id == connection_id).values(values))

    async def forget(self, connection_ids: tuple[str, ...]) -> None:
        """Delete the lists of connections that are no more."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.connection_id.in_(connection_ids)))
