"""What processes tell each other of targets' figures and of where conversations went."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pointsman.storage import tables
from pointsman.storage.database import Database

_MEASURED: Final = tables.measurements
_PLACES: Final = tables.conversation_places
_ROW: Final = tables.route_sharing
_BUMP: Final = update(_ROW).values(revision=_ROW.c.revision + 1).returning(_ROW.c.revision)
MAX_READ: Final = 20_000  # rows of each table at a time


class MeasuredRow(NamedTuple):
    """What ``writer`` has measured of a target in one slot of time so far, in JSON."""

    writer: str
    target: str
    slot: int
    document: str


class PlaceRow(NamedTuple):
    """The target that answered a conversation (a digest) last, and when (us)."""

    conversation: str
    target: str
    used_at: int


class Oldest(NamedTuple):
    """Rows of slots before ``slot``, and of conversations not used since ``used_at`` (us), are deleted."""

    slot: int
    used_at: int


class News(NamedTuple):
    """What was written after a revision, up to another one."""

    revision: int
    measured: tuple[MeasuredRow, ...]
    places: tuple[PlaceRow, ...]


class RouteMemoryRepository:
    """Asks and changes the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        build: Any = sqlite.insert if database.kind == "sqlite" else postgresql.insert
        self._upserts = {}
        for table, keys, changed in (
            (_MEASURED, ["writer", "target", "slot"], ("document", "revision")),
            (_PLACES, ["conversation"], ("target", "used_at", "revision")),
        ):
            statement = build(table)
            later = table.c.used_at <= statement.excluded.used_at if table is _PLACES else None
            self._upserts[table.name] = statement.on_conflict_do_update(
                index_elements=keys, set_={name: statement.excluded[name] for name in changed}, where=later
            )

    async def revision(self) -> int:
        """The number of changes so far. Raises StorageError."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(_ROW.c.revision))).scalar_one())

    async def since(self, revision: int) -> News:
        """What has changed after ``revision``. Raises StorageError."""
        async with self._database.read() as connection:
            now = int((await connection.execute(select(_ROW.c.revision))).scalar_one())
            measured = (await connection.execute(_newer(_MEASURED, revision))).all()
            places = (await connection.execute(_newer(_PLACES, revision))).all()
        ends = [rows[-1].revision for rows in (measured, places) if len(rows) == MAX_READ]
        return News(
            revision=min([now, *ends]),
            measured=tuple([MeasuredRow(row.writer, row.target, row.slot, row.document) for row in measured]),
            places=tuple([PlaceRow(row.conversation, row.target, row.used_at) for row in places]),
        )

    async def put(self, measured: Sequence[MeasuredRow], places: Sequence[PlaceRow], oldest: Oldest) -> None:
        """Store what is new, and delete what is too old. A later use of a conversation stays. Raises StorageError."""
        async with self._database.write() as connection:
            revision = int((await connection.execute(_BUMP)).scalar_one())
            for table, rows in ((_MEASURED, measured), (_PLACES, places)):
                if rows:
                    values = [{**row._asdict(), "revision": revision} for row in rows]
                    await connection.execute(self._upserts[table.name], values)
            await connection.execute(delete(_MEASURED).where(_MEASURED.c.slot < oldest.slot))
            await connection.execute(delete(_PLACES).where(_PLACES.c.used_at < oldest.used_at))


def _newer(table: Any, revision: int) -> Any:
    return select(table).where(table.c.revision > revision).order_by(table.c.revision).limit(MAX_READ)
