"""What accounts have used, added up as the records of requests are stored: a list of it costs the same however many
requests there were. Amounts in nano-USD; ``day`` is the instant (us) at which a UTC day begins.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Table, Text, case
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.record import SHADOW, Outcome, RequestRecord
from pointsman.canonical.windows import DAY_US
from pointsman.storage.database import Database
from pointsman.storage.slices import in_slices
from pointsman.storage.tables import metadata

MOST_NAME: Final = 300  # characters of a model's or a provider's name; an index of PostgreSQL holds no long ones
_LARGEST: Final = 2**62

_PLACES: Final = ("day", "workspace_id", "model", "provider", "connection_id")
_SUMMED: Final = ("requests", "charged_nano_usd", "byok_nano_usd", "input_tokens", "output_tokens", "reasoning_tokens",
                  "cache_read_tokens")  # fmt: skip


def _of_days(name: str, *whose: str) -> Table:
    """A table of sums by day. SQLite keeps its rows in the order in which they are read."""
    places = (*whose, *_PLACES)
    return Table(
        name,
        metadata,
        *(Column(of, BigInteger if of == "day" else Text, primary_key=True, autoincrement=False) for of in places),
        *(Column(amount, BigInteger, nullable=False) for amount in _SUMMED),
        sqlite_with_rowid=False,
    )


# Of requests that reached a connection, for OpenRouter's activity: of an account, and of each of its keys.
usage_days: Final = _of_days("usage_days", "account_id")
key_usage_days: Final = _of_days("key_usage_days", "account_id", "key_id")
# Of requests that were answered, for CrossCompute's agents. ``newest_at`` in us.
model_totals: Final = Table(
    "model_totals",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("newest_at", BigInteger, nullable=False),
)
# How many requests of a workspace there are of each day: what a page far behind may leave out without reading it.
workspace_days: Final = Table(
    "workspace_days",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
)
# What decides where a record counts, and the amounts of it.
_WHOSE: Final = attrgetter("workspace_id", "account_id")
_WHERE: Final = attrgetter("key_id", "target", "request_model", "response_model", "connection_id", "provider",
                           "outcome", "route", "byok")  # fmt: skip
_CHARGED: Final = attrgetter("cost_nano_usd")
_UPSTREAM: Final = attrgetter("upstream_cost_nano_usd")
_INPUT: Final = attrgetter("input_tokens")
_OUTPUT: Final = attrgetter("output_tokens")
_REASONING: Final = attrgetter("reasoning_tokens")
_CACHED: Final = attrgetter("cache_read_tokens")
_INSTANT: Final = attrgetter("created_at")
_TABLES: Final = (usage_days, key_usage_days, model_totals, workspace_days)
Sums = dict[tuple[str | int, ...], list[int]]


class UsageSums:
    """Fills the tables."""

    def __init__(self, database: Database) -> None:
        self._upserts = {table.name: adding_to(table, database.kind) for table in _TABLES}

    async def add(self, connection: AsyncConnection, records: Sequence[RequestRecord]) -> None:
        """Count records that were just stored, inside the caller's transaction."""
        days: Sums = {}
        key_days: Sums = {}
        totals: Sums = {}
        counts: Sums = {}
        for (day, *told), group in (await _alike(records)).items():
            whose, key_id, target, asked, told_model, connection_id, provider, outcome, route, byok = told
            workspace, account = fitted_name(whose[0]), fitted_name(whose[1])
            _count(counts, (workspace, day), (len(group),))
            if connection_id is not None:
                model = fitted_name(target if target is not None else asked)
                place = (day, workspace, model, fitted_name(provider), fitted_name(connection_id))
                amounts = _amounts(group, byok)
                _count(days, (account, *place), amounts)
                if key_id is not None:
                    _count(key_days, (account, fitted_name(key_id), *place), amounts)
            if outcome is Outcome.SUCCESS and route != SHADOW:
                model = fitted_name(told_model if told_model is not None else asked)
                used = (*_totals(group, _INPUT, _OUTPUT), len(group), 0)
                found = _count(totals, (account, fitted_name(provider), model), used)
                found[3] = max(found[3], *map(_INSTANT, group))
        for table, sums in zip(_TABLES, (days, key_days, totals, counts), strict=True):
            if sums:
                names = table.columns.keys()
                # In order, so that two nodes that add to the same rows can't wait for each other in a circle.
                rows = [dict(zip(names, (*of, *summed), strict=True)) for of, summed in sorted(sums.items())]
                await connection.execute(self._upserts[table.name], rows)


def adding_to(table: Table, kind: str) -> Any:
    """An insert that adds to the row that is there; of instants the newest is kept.

    Instants are in columns whose names end with ``_at``.
    """
    insert: Any = sqlite.insert(table) if kind == "sqlite" else postgresql.insert(table)
    values: dict[str, Any] = {}
    for column in table.columns:
        if column.name.endswith("_at"):
            brought = insert.excluded[column.name]
            values[column.name] = case((column > brought, column), else_=brought)
        elif not column.primary_key:
            values[column.name] = column + insert.excluded[column.name]
    return insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=values)


def _count(sums: Sums, place: tuple[str | int, ...], amounts: Sequence[int]) -> list[int]:
    found = sums.get(place)
    if found is None:
        found = sums[place] = list(amounts)
    else:
        for number, amount in enumerate(amounts):
            found[number] = min(found[number] + amount, _LARGEST)
    return found


async def _alike(records: Sequence[RequestRecord]) -> dict[tuple[Any, ...], list[RequestRecord]]:
    """Records by all that decides where they count: there are few groups, and their sums are taken in one go each."""
    groups: dict[tuple[Any, ...], list[RequestRecord]] = {}
    async for some in in_slices(records):
        for record in some:
            alike = (record.created_at - record.created_at % DAY_US, _WHOSE(record), *_WHERE(record))
            group = groups.get(alike)
            if group is None:
                groups[alike] = [record]
            else:
                group.append(record)
    return groups


def _amounts(group: list[RequestRecord], byok: bool) -> tuple[int, ...]:
    """What `_SUMMED` names."""
    (charged,) = _totals(group, _CHARGED)
    own = _totals(group, _UPSTREAM)[0] if byok else 0
    return len(group), charged, own, *_totals(group, _INPUT, _OUTPUT, _REASONING, _CACHED)


def _totals(group: list[RequestRecord], *amounts: Callable[[RequestRecord], int | None]) -> tuple[int, ...]:
    """Sums of what is there, none larger than the databases' numbers."""
    return tuple([min(sum(filter(None, map(amount, group))), _LARGEST) for amount in amounts])


def fitted_name(name: str | None) -> str:
    """A name as the tables of sums hold it: cut, and never NULL."""
    return (name or "")[:MOST_NAME].replace("\0", "\ufffd")  # which PostgreSQL's texts can't hold
