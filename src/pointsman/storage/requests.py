"""The record of every inference request: written in batches by the projector, read by logs and accounts."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import Row, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.record import Exemption, Outcome, RequestRecord
from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.slices import in_slices
from pointsman.storage.usage_sums import workspace_days


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored record and its place in the order in which records were stored."""

    sequence: int
    record: RequestRecord


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What `insert_many` added: the records, and the range of ``sequence`` that holds them and no others."""

    records: Sequence[RequestRecord]
    first: int
    last: int


class Owner(NamedTuple):
    """Whose requests: ``column`` names what the id is of."""

    column: Literal["workspace_id", "account_id", "key_id"]
    id: str


class Place(NamedTuple):
    """Where a page ends: the last record's instant and id."""

    created_at: int
    request_id: str


class Way(NamedTuple):
    """Which way a request went: the connection, and the dialect in which it was asked."""

    request_id: str
    connection_id: str | None
    dialect: str


class UnpricedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of a model that nobody has a price of. ``newest_at`` in us."""

    model: str
    requests: int
    tokens: int
    newest_at: int


_TABLE: Final = tables.requests
_PLANS: Final = tables.request_plans
_FIELDS: Final = tuple(name for name in RequestRecord.__struct_fields__ if name != "plan")
_COLUMNS: Final = tuple(_TABLE.c[name] for name in _FIELDS)
_VALUES: Final = attrgetter(*_FIELDS)
_TYPES: Final = {"BOOLEAN": "boolean[]", "BIGINT": "bigint[]", "TEXT": "text[]"}
_IS_TEXT: Final = tuple(str(column.type) == "TEXT" for column in _COLUMNS)
_IS_NUMBER: Final = tuple(str(column.type) == "BIGINT" for column in _COLUMNS)

_NAMES: Final = ", ".join(_FIELDS)
_CONFLICT: Final = "ON CONFLICT (request_id) DO NOTHING"
_SQLITE_INSERT: Final = (
    f"INSERT INTO requests ({_NAMES}) VALUES ({', '.join('?' * len(_FIELDS))}) {_CONFLICT}"  # names of our own
)
# One statement with one array per column: asyncpg sends a batch in one round trip, whatever its length.
_ARRAYS: Final = ", ".join(f"${n}::{_TYPES[str(column.type)]}" for n, column in enumerate(_COLUMNS, 1))
_POSTGRES_INSERT: Final = f"INSERT INTO requests ({_NAMES}) SELECT * FROM unnest({_ARRAYS}) {_CONFLICT}"
_SQLITE_PLANS: Final = f"INSERT INTO request_plans (request_id, created_at, plan) VALUES (?, ?, ?) {_CONFLICT}"
_POSTGRES_PLANS: Final = (
    "INSERT INTO request_plans (request_id, created_at, plan)"
    f" SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[]) {_CONFLICT}"
)
_NEWEST: Final = "SELECT max(sequence) FROM requests"
_LAST: Final = select(func.coalesce(func.max(_TABLE.c.sequence), 0))

_READ_OVER: Final = 500  # rows that a page may leave out without a look at how many each day has
_LARGEST: Final = 2**63 - 1
_SMALLEST: Final = -(2**63)


class RequestRepository:
    """Asks and fills the table of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_many(self, connection: AsyncConnection, records: Sequence[RequestRecord]) -> Stored:
        """Store records inside the caller's transaction; those that are stored already are left alone.

        Gives those that are new. Routing decisions go into a table of their own: they are read seldom and go soon.
        What no column can hold is altered, not refused: a NUL in a text becomes U+FFFD,
        a number beyond 64 bits the nearest one within.
        """
        if not records:
            return Stored(records=(), first=0, last=0)
        rows: list[tuple[Any, ...]] = []
        async for some in in_slices(records):
            rows += _rows(some)
        plans = [(record.request_id, record.created_at, record.plan) for record in records if record.plan is not None]
        await self._database.in_order(connection)
        if self._database.kind == "sqlite":
            result = await connection.exec_driver_sql(_SQLITE_INSERT, rows)
            if plans:
                await connection.exec_driver_sql(_SQLITE_PLANS, plans)
        else:
            result = await connection.exec_driver_sql(_POSTGRES_INSERT, tuple(zip(*rows, strict=True)))
            if plans:
                await connection.exec_driver_sql(_POSTGRES_PLANS, tuple(zip(*plans, strict=True)))
        new = result.rowcount
        if new != len(records):
            return await self._new_ones(connection, records, new)
        last = int((await connection.exec_driver_sql(_NEWEST)).scalar_one())
        return Stored(records=records, first=last - new + 1, last=last)  # nobody else could take a number

    async def _new_ones(self, connection: AsyncConnection, records: Sequence[RequestRecord], new: int) -> Stored:
        """Those of ``records`` that are the newest ``new`` rows; of equal ids the first."""
        query = select(_TABLE.c.request_id, _TABLE.c.sequence).order_by(_TABLE.c.sequence.desc()).limit(new)
        rows: dict[str, int] = {row.request_id: row.sequence for row in await connection.execute(query)}
        numbers, found = rows.values(), []
        first, last = min(numbers, default=0), max(numbers, default=0)
        for record in records:
            if rows.pop(_fitted(record.request_id), None) is not None:
                found.append(record)
        return Stored(records=found, first=first, last=last)

    async def find_plan(self, request_id: str, workspace_id: str | None = None) -> bytes | None:
        """The kept routing decision of a request; of this workspace only, unless it is None. None: there is none."""
        query = select(_PLANS.c.plan).where(_PLANS.c.request_id == request_id)
        if workspace_id is not None:
            own = select(_TABLE.c.request_id).where(
                _TABLE.c.request_id == request_id, _TABLE.c.workspace_id == workspace_id
            )
            query = query.where(_PLANS.c.request_id.in_(own))
        async with self._database.read() as connection:
            found: bytes | None = (await connection.execute(query)).scalar_one_or_none()
        return found

    async def forget_plans(self, before: int, most: int = 10_000) -> int:
        """Delete decisions of requests from before this instant (us), at most ``most`` at a time; gives how many."""
        old = select(_PLANS.c.request_id).where(_PLANS.c.created_at < before).limit(most)
        async with self._database.write() as connection:
            return (await connection.execute(delete(_PLANS).where(_PLANS.c.request_id.in_(old)))).rowcount

    async def list_newest(self, owner: Owner, before: Place | None, limit: int) -> tuple[RequestRecord, ...]:
        """Up to ``limit`` records of an owner, newest first, behind ``before``: as fast for the last page as for the
        first. Go on with the `Place` of the last one.
        """
        query = newest_query(owner, before, limit)
        async with self._database.read() as connection:
            return tuple(_record(row) for row in await connection.execute(query))

    async def unpriced(self, limit: int) -> tuple[UnpricedModel, ...]:
        """Which models were used at no known price, the most used first."""
        async with self._database.read() as connection:
            rows = await connection.execute(unpriced_query(limit))
            return tuple(
                UnpricedModel(model=row[0], requests=row[1], tokens=int(row[2]), newest_at=row[3]) for row in rows
            )

    async def list_page(self, workspace_id: str, limit: int, offset: int = 0) -> tuple[RequestRecord, ...]:
        """Up to ``limit`` records of the workspace, newest first, after leaving out ``offset``.

        Whole days of them are left out unread.
        """
        before = None
        async with self._database.read() as connection:
            if offset > _READ_OVER:
                days = await connection.execute(days_query(workspace_id))
                for day, count in days.all():
                    if count > offset:
                        break
                    before, offset = day, offset - count
                else:
                    return ()
            rows = await connection.execute(page_query(workspace_id, before, limit, offset))
            return tuple(_record(row) for row in rows)

    async def newest_ways(self, workspace_id: str, limit: int) -> list[Way]:
        """The ways of the newest ``limit`` requests of a workspace, newest first."""
        async with self._database.read() as connection:
            return [Way(*row) for row in await connection.execute(ways_query(workspace_id, limit))]

    async def load_many(self, request_ids: Sequence[str]) -> tuple[RequestRecord, ...]:
        """The records of these requests, a few hundred, newest first."""
        query = select(*_COLUMNS).where(_TABLE.c.request_id.in_(request_ids))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(_TABLE.c.created_at.desc(), _TABLE.c.request_id.desc()))
            return tuple(_record(row) for row in rows)

    async def find(self, request_id: str) -> RequestRecord | None:
        """The record of this request."""
        query = select(*_COLUMNS).where(_TABLE.c.request_id == request_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _record(row)

    async def list_after(self, workspace_id: str | None, cursor: int, limit: int) -> tuple[RequestRow, ...]:
        """Up to ``limit`` records stored after the one with the sequence number ``cursor``, in the order of storing.

        Of every workspace when ``workspace_id`` is None. Go on with the sequence of the last one.
        """
        query = select(_TABLE).where(_TABLE.c.sequence > cursor).order_by(_TABLE.c.sequence).limit(limit)
        if workspace_id is not None:
            query = query.where(_TABLE.c.workspace_id == workspace_id)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return tuple(RequestRow(sequence=row.sequence, record=_record(row[1:])) for row in found)

    async def last_cursor(self) -> int:
        """The sequence number of the record stored last; 0 when there is none."""
        async with self._database.read() as connection:
            return int((await connection.execute(_LAST)).scalar_one())


def days_query(workspace_id: str) -> Any:
    """The query of how many requests each day has, newest first."""
    columns = workspace_days.c
    query = select(columns.day, columns.requests).where(columns.workspace_id == workspace_id)
    return query.order_by(columns.day.desc())


def page_query(workspace_id: str, before: int | None, limit: int, offset: int) -> Any:
    """The query of a page of what is older than ``before`` (us): what it leaves out is passed in the index alone."""
    places = select(_TABLE.c.request_id).where(_TABLE.c.workspace_id == workspace_id)
    if before is not None:
        places = places.where(_TABLE.c.created_at < before)
    order = (_TABLE.c.created_at.desc(), _TABLE.c.request_id.desc())
    page = places.order_by(*order).limit(limit).offset(offset)
    return select(*_COLUMNS).where(_TABLE.c.request_id.in_(page.scalar_subquery())).order_by(*order)


def ways_query(workspace_id: str, limit: int) -> Any:
    """The query of which ways the newest requests of a workspace went."""
    query = select(_TABLE.c.request_id, _TABLE.c.connection_id, _TABLE.c.dialect)
    order = (_TABLE.c.created_at.desc(), _TABLE.c.request_id.desc())
    return query.where(_TABLE.c.workspace_id == workspace_id).order_by(*order).limit(limit)


def newest_query(owner: Owner, before: Place | None, limit: int) -> Any:
    """The query of a page: it walks the index of the owner's column."""
    query = select(*_COLUMNS).where(_TABLE.c[owner.column] == owner.id)
    if before is not None:
        newest = _TABLE.c.created_at
        behind = or_(newest < before.created_at, _TABLE.c.request_id < before.request_id)
        query = query.where(newest <= before.created_at, behind)
    return query.order_by(_TABLE.c.created_at.desc(), _TABLE.c.request_id.desc()).limit(limit)


def unpriced_query(limit: int) -> Any:
    """The query of what has no price: it reads a partial index that has hardly any row."""
    name = func.coalesce(_TABLE.c.target, _TABLE.c.request_model, "").label("model")
    used = func.sum(_TABLE.c.input_tokens + _TABLE.c.output_tokens)
    return (
        select(name, func.count().label("requests"), used, func.max(_TABLE.c.created_at))
        .where(tables.UNPRICED)
        .group_by(name)
        .order_by(func.count().desc(), name)
        .limit(limit)
    )


def _record(row: Row[Any] | Sequence[Any]) -> RequestRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    values["outcome"] = Outcome(values["outcome"])
    if values["exemption"] is not None:
        values["exemption"] = Exemption(values["exemption"])
    return RequestRecord(**values)


def _rows(records: Sequence[RequestRecord]) -> list[tuple[Any, ...]]:
    """The values of some records, fit for both databases."""
    rows: list[tuple[Any, ...]] = [_VALUES(record) for record in records]
    if not _fits(zip(*rows, strict=True)):
        rows = [tuple(_fitted(value) for value in row) for row in rows]
    return rows


def _fits(columns: Iterable[tuple[Any, ...]]) -> bool:
    """Whether no value needs to be altered; by column, since that costs a tenth of asking each value."""
    for column, is_text, is_number in zip(columns, _IS_TEXT, _IS_NUMBER, strict=True):
        if is_text and "\0" in "".join(filter(None, column)):
            return False
        if is_number and (
            max(filter(None, column), default=0) > _LARGEST or min(filter(None, column), default=0) < _SMALLEST
        ):
            return False
    return True


def _fitted(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, int):
        return max(_SMALLEST, min(value, _LARGEST))
    return value
