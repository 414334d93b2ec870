"""What an account has used of each model, as it was added up (storage/usage_sums.py)."""

from typing import Any, Final

import msgspec
from sqlalchemy import select

from pointsman.storage.database import Database
from pointsman.storage.usage_sums import model_totals

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
    """Asks the table of sums."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_model(self, account_id: str, limit: int = MOST_MODELS) -> tuple[ModelUsage, ...]:
        """Up to ``limit`` models that an account was answered by, the last used first."""
        async with self._database.read() as connection:
            rows = await connection.execute(by_model_query(account_id, limit))
            return tuple(ModelUsage(**row._mapping) for row in rows)


def by_model_query(account_id: str, limit: int) -> Any:
    """The query: it reads the sums of the account."""
    columns = model_totals.c
    query = select(*(columns[name] for name in ModelUsage.__struct_fields__)).where(columns.account_id == account_id)
    return query.order_by(columns.newest_at.desc(), columns.provider, columns.model).limit(limit)
