"""What an account has used of each model, added up from its requests."""

from typing import Any, Final

import msgspec
from sqlalchemy import func, select

from pointsman.canonical.record import SHADOW
from pointsman.storage import tables
from pointsman.storage.database import Database

MOST_MODELS: Final = 200  # of one answer, those that were used last


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One model's share. ``newest_at`` is its last request's instant in us."""

    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    requests: int
    newest_at: int


class ModelUsageRepository:
    """Asks the table of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_model(self, account_id: str, limit: int = MOST_MODELS) -> tuple[ModelUsage, ...]:
        """Up to ``limit`` models that an account was answered by, the last used first. It reads all its requests."""
        async with self._database.read() as connection:
            rows = (await connection.execute(by_model_query(account_id, limit))).all()
        names = ModelUsage.__struct_fields__
        return tuple(ModelUsage(**dict(zip(names, (*row[:2], *map(int, row[2:])), strict=True))) for row in rows)


def by_model_query(account_id: str, limit: int) -> Any:
    """The query: it walks the index of the account."""
    columns = tables.requests.c
    provider = func.coalesce(columns.provider, "").label("provider")
    model = func.coalesce(columns.response_model, columns.request_model, "").label("model")
    newest = func.max(columns.created_at)
    return (
        select(provider, model, func.sum(columns.input_tokens), func.sum(columns.output_tokens), func.count(), newest)
        .where(columns.account_id == account_id, columns.outcome == "success", columns.route != SHADOW)
        .group_by(provider, model)
        .order_by(newest.desc(), provider, model)
        .limit(limit)
    )
