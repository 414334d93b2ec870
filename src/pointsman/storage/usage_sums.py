"""What accounts have used, added up as the records of requests are stored: a list of it costs the same however many
requests there were. Amounts in nano-USD; ``day`` is the instant (us) at which a UTC day begins.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Table, Text, case
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.record import SHADOW, Outcome, RequestRecord
from pointsman.canonical.windows import DAY_US
from pointsman.storage.database import Database
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
_TABLES: Final = (usage_days, key_usage_days, model_totals, workspace_days)
Sums = dict[tuple[str | int, ...], list[int]]


class UsageSums:
    """Fills the tables."""

    def __init__(self, database: Database) -> None:
        self._upserts = {table.name: adding_to(table, database.kind) for table in _TABLES}

    async def add(self, connection: AsyncConnection, records: Iterable[RequestRecord]) -> None:
        """Count records that were just stored, inside the caller's transaction."""
        days: Sums = {}
        key_days: Sums = {}
        totals: Sums = {}
        counts: Sums = {}
        for record in records:
            workspace, account, day = fitted_name(record.workspace_id), fitted_name(record.account_id), _day(record)
            _count(counts, (workspace, day), (1,))
            if record.connection_id is not None:
                model = fitted_name(record.target if record.target is not None else record.request_model)
                connection_id, provider = fitted_name(record.connection_id), fitted_name(record.provider)
                place, amounts = (day, workspace, model, provider, connection_id), (1, *_amounts(record))
                _count(days, (account, *place), amounts)
                if record.key_id is not None:
                    _count(key_days, (account, fitted_name(record.key_id), *place), amounts)
            if record.outcome is Outcome.SUCCESS and record.route != SHADOW:
                model = fitted_name(
                    record.response_model if record.response_model is not None else record.request_model
                )
                found = _count(totals, (account, fitted_name(record.provider), model), _used(record))
                found[3] = max(found[3], record.created_at)
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


def _amounts(record: RequestRecord) -> tuple[int, ...]:
    byok = (record.upstream_cost_nano_usd or 0) if record.byok else 0
    tokens = (record.input_tokens, record.output_tokens, record.reasoning_tokens, record.cache_read_tokens)
    return tuple(min(amount, _LARGEST) for amount in (record.cost_nano_usd or 0, byok, *tokens))


def _used(record: RequestRecord) -> tuple[int, ...]:
    return min(record.input_tokens, _LARGEST), min(record.output_tokens, _LARGEST), 1, 0


def _day(record: RequestRecord) -> int:
    return record.created_at - record.created_at % DAY_US


def fitted_name(name: str | None) -> str:
    """A name as the tables of sums hold it: cut, and never NULL."""
    return (name or "")[:MOST_NAME].replace("\0", "\ufffd")  # which PostgreSQL's texts can't hold
