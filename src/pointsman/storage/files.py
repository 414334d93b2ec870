"""Whose file is whose, and at which connection. Every question names the workspace: another's rows are not there."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update

from pointsman.canonical.files import FileQuery
from pointsman.storage import tables
from pointsman.storage.database import Database

_TABLE: Final = tables.files
_KEY: Final = (_TABLE.c.created_at, _TABLE.c.id)


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """One uploaded file; instants in microseconds since 1970. ``wire`` is the API it was uploaded by (``openai``,
    ``anthropic``, ``gemini``), ``sealed`` what its upstream told of it, encrypted.
    """

    workspace_id: str
    wire: str
    id: str
    connection_id: str
    created_at: int
    sealed: bytes
    key_id: str | None = None
    size_bytes: int | None = None
    purpose: str | None = None
    expires_at: int | None = None


class FileRepository:
    """Asks and changes the table of files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: FileRow) -> None:
        """Keep a file that was just uploaded.

        Whatever was known by its name at that connection is gone: an upstream that gives the name anew has forgotten
        the file that had it, and who owned that must not reach the new one.
        """
        same = and_(_TABLE.c.wire == row.wire, _TABLE.c.id == row.id)
        held = or_(_TABLE.c.connection_id == row.connection_id, _TABLE.c.workspace_id == row.workspace_id)
        async with self._database.write(sealing=True) as connection:
            await connection.execute(delete(_TABLE).where(same, held))
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))

    async def get(self, workspace_id: str, wire: str, file_id: str, now: int) -> FileRow | None:
        """The file, unless there is none, it is another's, or its time is over at the instant ``now``."""
        query = select(_TABLE).where(_mine(workspace_id, wire, now), _TABLE.c.id == file_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else FileRow(**row._mapping)

    async def find(self, workspace_id: str, wire: str, ids: Sequence[str], now: int) -> tuple[FileRow, ...]:
        """Those of ``ids`` that are the workspace's."""
        query = select(_TABLE).where(_mine(workspace_id, wire, now), _TABLE.c.id.in_(ids))
        async with self._database.read() as connection:
            return tuple(FileRow(**row._mapping) for row in await connection.execute(query))

    async def known(self, wire: str, ids: Sequence[str]) -> frozenset[str]:
        """Those of ``ids`` that belong to anybody."""
        query = select(_TABLE.c.id).where(_TABLE.c.wire == wire, _TABLE.c.id.in_(ids))
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def page(self, workspace_id: str, wire: str, wanted: FileQuery, now: int) -> tuple[FileRow, ...] | None:
        """One row more than ``wanted.limit`` when there are more; None when the file to go on from is not there."""
        conditions: list[ColumnElement[bool]] = [_mine(workspace_id, wire, now)]
        if wanted.purpose is not None:
            conditions.append(_TABLE.c.purpose == wanted.purpose)
        if wanted.ids is not None:
            conditions.append(_TABLE.c.id.in_(wanted.ids))
        newest_first = wanted.newest_first
        cursor = wanted.after or wanted.before
        if cursor is not None:
            place = await self.get(workspace_id, wire, cursor, now)
            if place is None:
                return None
            if wanted.after is None:
                newest_first = not newest_first  # back from there, and turned round in the end
            conditions.append(_beyond(place, newest_first))
        order = [column.desc() if newest_first else column.asc() for column in _KEY]
        query = select(_TABLE).where(*conditions).order_by(*order).limit(wanted.limit + 1)
        async with self._database.read() as connection:
            return tuple(FileRow(**row._mapping) for row in await connection.execute(query))

    async def change(self, row: FileRow) -> None:
        """Keep what is newly known of a file; nothing happens when it is gone."""
        values: dict[str, Any] = {"sealed": row.sealed, "size_bytes": row.size_bytes, "expires_at": row.expires_at}
        query = update(_TABLE).where(
            _TABLE.c.workspace_id == row.workspace_id, _TABLE.c.wire == row.wire, _TABLE.c.id == row.id
        )
        async with self._database.write(sealing=True) as connection:
            await connection.execute(query.values(**values))

    async def delete(self, workspace_id: str, wire: str, file_id: str) -> None:
        """Forget a file."""
        query = delete(_TABLE).where(
            _TABLE.c.workspace_id == workspace_id, _TABLE.c.wire == wire, _TABLE.c.id == file_id
        )
        async with self._database.write() as connection:
            await connection.execute(query)

    async def forget_expired(self, now: int) -> int:
        """Forget every file whose time is over at the instant ``now``; gives how many."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_TABLE).where(_TABLE.c.expires_at <= now))).rowcount


def _mine(workspace_id: str, wire: str, now: int) -> ColumnElement[bool]:
    lives = or_(_TABLE.c.expires_at.is_(None), _TABLE.c.expires_at > now)
    return and_(_TABLE.c.workspace_id == workspace_id, _TABLE.c.wire == wire, lives)


def _beyond(place: FileRow, newest_first: bool) -> ColumnElement[bool]:
    created, name = _KEY
    if newest_first:
        return or_(created < place.created_at, and_(created == place.created_at, name < place.id))
    return or_(created > place.created_at, and_(created == place.created_at, name > place.id))
