"""What keys have spent, by UTC day, added up as the records of requests are stored: a sum costs the same however many
requests there were. Amounts in nano-USD; ``day`` is the instant (us) at which it begins.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Table, Text, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.record import RequestRecord
from pointsman.canonical.windows import DAY_US, Window
from pointsman.storage.database import Database
from pointsman.storage.tables import metadata

# ``charged_nano_usd`` is what accounts were charged; ``byok_nano_usd`` what providers billed the callers themselves.
key_days: Final = Table(
    "key_days",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("charged_nano_usd", BigInteger, nullable=False),
    Column("byok_nano_usd", BigInteger, nullable=False),
)
_LARGEST: Final = 2**62
_WINDOWS: Final = (("daily", Window("day")), ("weekly", Window("week")), ("monthly", Window("month")))


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Of one key: in all, and since the present UTC day, week (from Monday) and month began."""

    total: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def within(self, reset: str | None) -> int:
        """What was spent in the window ``reset``: daily, weekly, monthly; None: in all."""
        return {"daily": self.daily, "weekly": self.weekly, "monthly": self.monthly}.get(reset or "", self.total)


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one key has spent: ``charged`` to its account, and ``byok`` with the caller's own provider keys."""

    charged: Spent = Spent()
    byok: Spent = Spent()


NOTHING: Final = KeyUsage()


class KeyUsageRepository:
    """Fills and asks the table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert: Any = sqlite.insert(key_days) if database.kind == "sqlite" else postgresql.insert(key_days)
        self._upsert = insert.on_conflict_do_update(
            index_elements=["key_id", "day"],
            set_={name: key_days.c[name] + insert.excluded[name] for name in ("charged_nano_usd", "byok_nano_usd")},
        )

    async def add(self, connection: AsyncConnection, records: Iterable[RequestRecord]) -> None:
        """Count records that were just stored, inside the caller's transaction."""
        sums: dict[tuple[str, int], list[int]] = {}
        for record in records:
            if record.key_id is None or not (record.cost_nano_usd or record.upstream_cost_nano_usd):
                continue
            place = (record.key_id.replace("\0", "\ufffd"), record.created_at - record.created_at % DAY_US)
            found = sums.setdefault(place, [0, 0])
            found[0] = min(found[0] + (record.cost_nano_usd or 0), _LARGEST)
            if record.byok:
                found[1] = min(found[1] + (record.upstream_cost_nano_usd or 0), _LARGEST)
        if sums:
            rows = [
                {"key_id": key, "day": day, "charged_nano_usd": charged, "byok_nano_usd": byok}
                for (key, day), (charged, byok) in sorted(sums.items())
            ]
            await connection.execute(self._upsert, rows)

    async def of(self, key_ids: Sequence[str], now: int) -> dict[str, KeyUsage]:
        """What these keys, a hundred or so, have spent at ``now`` (us); those that spent nothing are left out.

        Raises StorageError.
        """
        columns = []
        for name in ("charged_nano_usd", "byok_nano_usd"):
            amount = key_days.c[name]
            columns.append(func.sum(amount))
            for _, window in _WINDOWS:
                columns.append(func.sum(case((key_days.c.day >= window.period(now), amount), else_=0)))
        query = select(key_days.c.key_id, *columns).where(key_days.c.key_id.in_(key_ids)).group_by(key_days.c.key_id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row[0]: KeyUsage(charged=_spent(row[1:5]), byok=_spent(row[5:9])) for row in rows}


def _spent(sums: Sequence[Any]) -> Spent:
    total, daily, weekly, monthly = map(int, sums)
    return Spent(total=total, daily=daily, weekly=weekly, monthly=monthly)
