"""What an account used, by UTC day, model and endpoint."""

from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger, case, cast, func, or_, select

from pointsman.canonical.windows import DAY_US
from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.usage_sums import usage_days

_TABLE: Final = tables.requests
MOST_ROWS: Final = 10_000
_TOKENS: Final = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens")


class Span(NamedTuple):
    """Instants (us): ``first`` is within, ``end`` is not."""

    first: int
    end: int


class ActivityFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Whose calls count in a span of whole days; ``user_id``: with keys that act for this person or that it made.

    ``by_workspace`` keeps the workspaces apart.
    """

    account_id: str
    key_id: str | None = None
    user_id: str | None = None
    workspace_id: str | None = None
    by_workspace: bool = False


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One sum. ``day`` is the instant (us) at which it begins; amounts in nano-USD: ``charged`` to the account,
    ``byok`` what providers billed the callers themselves.
    """

    day: int
    model: str
    provider: str
    connection_id: str
    workspace_id: str
    requests: int
    charged: int
    byok: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_read_tokens: int


class ActivityRepository:
    """Asks the tables of sums and of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, wanted: ActivityFilter, span: Span) -> tuple[Activity, ...]:
        """The sums of a span, newest day first, `MOST_ROWS` at most. Calls that reached no model are left out.

        Raises StorageError.
        """
        async with self._database.read() as connection:
            rows = (await connection.execute(sums_query(wanted, span))).mappings().all()
        return tuple(Activity(**{name: _plain(value) for name, value in row.items()}) for row in rows)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)  # PostgreSQL's sums are decimals


def sums_query(wanted: ActivityFilter, span: Span) -> Any:
    """The query: an account's sums are there; those of some of its keys are made of their requests."""
    if wanted.key_id is None and wanted.user_id is None:
        return _stored_query(wanted, span)
    return _made_query(wanted, span)


def _stored_query(wanted: ActivityFilter, span: Span) -> Any:
    columns = usage_days.c
    groups = [columns.day, columns.model, columns.provider, columns.connection_id]
    if wanted.by_workspace:
        groups.append(columns.workspace_id)
    names = {"charged": "charged_nano_usd", "byok": "byok_nano_usd", **{name: name for name in ("requests", *_TOKENS)}}
    sums = [func.sum(columns[name]).label(label) for label, name in names.items()]
    if not wanted.by_workspace:
        sums.append(func.min("").label("workspace_id"))
    query = select(*groups, *sums).where(
        columns.account_id == wanted.account_id, columns.day >= span.first, columns.day < span.end
    )
    if wanted.workspace_id is not None:
        query = query.where(columns.workspace_id == wanted.workspace_id)
    return query.group_by(*groups).order_by(columns.day.desc(), *groups[1:]).limit(MOST_ROWS)


def _made_query(wanted: ActivityFilter, span: Span) -> Any:
    columns = _TABLE.c
    groups = [
        (columns.created_at - columns.created_at % cast(DAY_US, BigInteger)).label("day"),
        func.coalesce(columns.target, columns.request_model, "").label("model"),
        func.coalesce(columns.provider, "").label("provider"),
        func.coalesce(columns.connection_id, "").label("connection_id"),
    ]
    if wanted.by_workspace:
        groups.append(columns.workspace_id.label("workspace_id"))
    sums = [
        func.count().label("requests"),
        func.coalesce(func.sum(columns.cost_nano_usd), 0).label("charged"),
        func.coalesce(func.sum(case((columns.byok, columns.upstream_cost_nano_usd), else_=0)), 0).label("byok"),
        *(func.sum(columns[name]).label(name) for name in _TOKENS),
    ]
    if not wanted.by_workspace:
        sums.append(func.min("").label("workspace_id"))
    query = select(*groups, *sums).where(
        func.coalesce(columns.account_id, "") == wanted.account_id,  # not by its index: a key has fewer requests
        columns.created_at >= span.first,
        columns.created_at < span.end,
        columns.connection_id.is_not(None),
    )
    for name in ("key_id", "workspace_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(columns[name] == value)
    if wanted.user_id is not None:
        keys = tables.keys.c
        whose = or_(keys.user_id == wanted.user_id, keys.creator_user_id == wanted.user_id)
        query = query.where(columns.key_id.in_(select(keys.id).where(keys.account_id == wanted.account_id, whose)))
    places = [group.name for group in groups]
    return query.group_by(*places).order_by(groups[0].desc(), *places[1:]).limit(MOST_ROWS)
