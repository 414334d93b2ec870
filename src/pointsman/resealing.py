"""Seals anew, with the current master key, all that is sealed with another: in batches, while servers run.

Whatever is stored sealed stands in the table `COLUMNS`; a test holds the database's columns against it. A row that
somebody changes meanwhile is left as it is: who writes now seals with the current key anyway.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, LargeBinary, Table, func, literal, select, tuple_, update

from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey
from pointsman.policy.guards import PURPOSE as GUARDS
from pointsman.policy.kept_answers import PURPOSE as KEPT_ANSWERS
from pointsman.policy.response_cache import PURPOSE as CACHED_ANSWERS
from pointsman.policy.state_store import PURPOSE as STATES
from pointsman.policy.state_store import owner_of
from pointsman.policy.stored_files import PURPOSE as FILES
from pointsman.policy.stored_responses import PURPOSE as RESPONSES
from pointsman.storage import guards, tables
from pointsman.storage.database import Database
from pointsman.upstream.declared import EXTRA_PURPOSE, HEADERS_PURPOSE, PROXY_PURPOSE, SECRET_PURPOSE
from pointsman.upstream.engines import PURPOSE as ENGINES

Values = Mapping[str, Any]
Owner = Callable[[Values], str]
BATCH_ROWS: Final = 200
BATCH_BYTES: Final = 4 * 1024 * 1024  # of values that are in memory at once, while others wait to write; one at least
MOST_NAMED: Final = 20


class SealedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """Where sealed values are, for which purposes (one of them opens each), and to whose row one is bound."""

    table: Table
    column: str
    purposes: tuple[str, ...]
    owner: Owner

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.table.name}.{self.column}"


def _by_id(row: Values) -> str:
    return str(row["id"])


def _column(table: Table, column: str, purposes: tuple[str, ...], owner: Owner) -> SealedColumn:
    return SealedColumn(table=table, column=column, purposes=purposes, owner=owner)


COLUMNS: Final = (
    _column(tables.connections, "sealed_secret", (SECRET_PURPOSE,), _by_id),
    _column(tables.connections, "sealed_proxy", (PROXY_PURPOSE,), _by_id),
    _column(tables.connections, "sealed_headers", (HEADERS_PURPOSE,), _by_id),
    _column(tables.connections, "sealed_extra", (EXTRA_PURPOSE,), _by_id),
    _column(guards.guards, "sealed_secrets", (GUARDS,), lambda row: str(row["name"])),
    _column(tables.routing_engines, "sealed_key", (ENGINES,), lambda row: str(row["name"])),
    _column(tables.files, "sealed", (FILES,), lambda row: f"{row['workspace_id']}/{row['wire']}/{row['id']}"),
    _column(tables.responses, "sealed", (RESPONSES,), lambda row: f"{row['workspace_id']}/{row['id']}"),
    _column(
        tables.response_events,
        "sealed",
        (RESPONSES,),
        lambda row: f"{row['workspace_id']}/{row['response_id']}/{row['first_number']}",
    ),
    _column(
        tables.opaque_states,
        "sealed",
        (STATES, KEPT_ANSWERS, CACHED_ANSWERS),
        lambda row: owner_of(row["workspace_id"], bytes(row["key"])),
    ),
)


class Resealed(msgspec.Struct, frozen=True, kw_only=True):
    """What was done; ``unreadable`` names some of the rows that no key opens, which are left as they are."""

    values: int = 0
    unreadable: tuple[str, ...] = ()


class SealedCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many values of a column are sealed with the current key, and how many with another."""

    name: str
    current: int
    other: int


class Resealer:
    """Goes through every sealed column. Raises StorageError."""

    def __init__(self, database: Database, master: MasterKey) -> None:
        self._database = database
        self._master = master

    async def run(self, progress: Callable[[str, int], None]) -> Resealed:
        """Seal anew what is sealed with another key; ``progress`` hears of each column how many values it were."""
        done, unreadable = 0, list[str]()
        for spot in COLUMNS:
            async for values, bad in self._batches(spot):
                done += values
                unreadable += bad[: MOST_NAMED - len(unreadable)]
                progress(spot.name, values)
        return Resealed(values=done, unreadable=tuple(unreadable))

    async def counts(self) -> tuple[SealedCount, ...]:
        """Of each column how its values are sealed."""
        found = []
        for spot in COLUMNS:
            column = spot.table.c[spot.column]
            query = select(func.count(column), func.count(column).filter(self._is_other(column)))
            async with self._database.read() as connection:
                total, other = (await connection.execute(query)).one()
            found.append(SealedCount(name=spot.name, current=total - other, other=other))
        return tuple(found)

    async def _batches(self, spot: SealedColumn) -> AsyncIterator[tuple[int, list[str]]]:
        """Batch by batch in the order of the primary key: how many were sealed anew, and which can't be opened."""
        keys = tuple(spot.table.primary_key.columns)
        column = spot.table.c[spot.column]
        query = select(*keys, column).where(self._is_other(column)).order_by(*keys)
        names = [*(key.name for key in keys), spot.column]
        page = query
        while True:
            async with self._database.write() as connection:
                sizes = await connection.execute(page.with_only_columns(func.length(column)).limit(BATCH_ROWS))
                found = (await connection.execute(page.limit(_fitting(sizes.scalars())))).all()
                rows = [dict(zip(names, row, strict=True)) for row in found]
                opened = [(row, self._anew(spot, row)) for row in rows]
                for row, sealed in opened:
                    if sealed is not None:
                        same = (*(key == row[key.name] for key in keys), column == row[spot.column])
                        await connection.execute(update(spot.table).where(*same).values({spot.column: sealed}))
            if not rows:
                return
            bad = [f"{spot.name} of {spot.owner(row)!r}" for row, sealed in opened if sealed is None]
            yield len(rows) - len(bad), bad
            last = tuple_(*(literal(rows[-1][key.name], key.type) for key in keys))
            page = query.where(tuple_(*keys) > last)

    def _anew(self, spot: SealedColumn, row: Values) -> bytes | None:
        owner, sealed = spot.owner(row), bytes(row[spot.column])
        for purpose in spot.purposes:
            try:
                data = self._master.open_bytes(purpose, owner, sealed)
            except ConfigError:
                continue
            return self._master.seal_bytes(purpose, owner, data)
        return None

    def _is_other(self, column: Any) -> ColumnElement[bool]:
        prefix = self._master.prefix
        return func.substr(column, 1, len(prefix), type_=LargeBinary) != literal(prefix, LargeBinary)


def _fitting(sizes: Iterable[int]) -> int:
    """How many of the first values make a batch."""
    return max(1, sum(total <= BATCH_BYTES for total in accumulate(sizes)))
