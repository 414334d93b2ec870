"""What an account used, by UTC day, model and endpoint."""

from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger, cast, func, literal, or_, select

from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.usage_sums import key_usage_days, usage_days

MOST_ROWS: Final = 10_000
_SUMMED: Final = ("requests", "charged_nano_usd", "byok_nano_usd", "input_tokens", "output_tokens", "reasoning_tokens",
                  "cache_read_tokens")  # fmt: skip


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


class Activity(NamedTuple):
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
    """Asks the tables of sums."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, wanted: ActivityFilter, span: Span) -> tuple[Activity, ...]:
        """The sums of a span, newest day first, `MOST_ROWS` at most. Calls that reached no model are left out.

        Raises StorageError.
        """
        async with self._database.read() as connection:
            rows = (await connection.execute(sums_query(wanted, span))).all()
        return tuple(map(Activity._make, rows))


def sums_query(wanted: ActivityFilter, span: Span) -> Any:
    """The query: an account's sums, or those of some of its keys."""
    by_key = wanted.key_id is not None or wanted.user_id is not None
    columns = (key_usage_days if by_key else usage_days).c
    groups = [columns.day, columns.model, columns.provider, columns.connection_id]
    workspace = columns.workspace_id if wanted.by_workspace else literal("")
    summed = (cast(func.sum(columns[name]), BigInteger) for name in _SUMMED)  # else PostgreSQL's are decimals
    query = select(*groups, workspace.label("workspace_id"), *summed).where(
        columns.account_id == wanted.account_id, columns.day >= span.first, columns.day < span.end
    )
    for name in ("key_id", "workspace_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(columns[name] == value)
    if wanted.user_id is not None:
        keys = tables.keys.c
        whose = or_(keys.user_id == wanted.user_id, keys.creator_user_id == wanted.user_id)
        query = query.where(columns.key_id.in_(select(keys.id).where(keys.account_id == wanted.account_id, whose)))
    if wanted.by_workspace:
        groups.append(columns.workspace_id)
    return query.group_by(*groups).order_by(columns.day.desc(), *groups[1:]).limit(MOST_ROWS)
