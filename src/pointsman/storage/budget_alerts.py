"""Thresholds of budgets that were passed: noted with the spending that passed them, told to the webhook afterwards."""

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.windows import Window
from pointsman.storage.database import Database


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold (percent of the limit) that a budget's spending has reached in the window that began at ``turn``."""

    budget_id: str
    turn: int
    threshold: int
    spent_nano_usd: int
    limit_nano_usd: int
    created_at: int
    attempts: int = 0


_BUDGET: Final = text(
    "SELECT limit_nano_usd, window_kind, window_seconds, alerts FROM budgets WHERE id = :budget AND alerts <> '[]'"
)
_SPENT: Final = text(
    "SELECT coalesce(sum(spent_nano_usd), 0) FROM budget_periods"
    " WHERE budget_id = :budget AND period BETWEEN :low AND :high"
)
_NOTE: Final = text(
    "INSERT INTO budget_alerts"
    " (budget_id, turn, threshold, spent_nano_usd, limit_nano_usd, created_at, due_at)"
    " VALUES (:budget, :turn, :threshold, :spent, :maximum, :now, :now)"
    " ON CONFLICT (budget_id, turn, threshold) DO NOTHING"
)
_DUE: Final = text(
    "SELECT budget_id, turn, threshold, spent_nano_usd, limit_nano_usd, created_at, attempts FROM budget_alerts"
    " WHERE due_at <= :now ORDER BY due_at LIMIT :most"
)
# Whoever moves the instant has the alert until then: another node that saw the same row moves nothing.
_CLAIM: Final = text(
    "UPDATE budget_alerts SET due_at = :until, attempts = attempts + 1"
    " WHERE budget_id = :budget AND turn = :turn AND threshold = :threshold AND due_at <= :now"
)
_END: Final = text(
    "UPDATE budget_alerts SET due_at = :due, sent_at = :sent"
    " WHERE budget_id = :budget AND turn = :turn AND threshold = :threshold"
)


class AlertRepository:
    """Notes alerts, and hands them out to be told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, connection: AsyncConnection, places: Iterable[tuple[str, int]], now: int) -> int:
        """Note every threshold that the spending of these budgets and periods has reached; gives how many are new.

        In the transaction that books the spending: so it happens once for each window, whoever books.
        """
        noted = 0
        for budget, period in sorted(places):
            found = (await connection.execute(_BUDGET, {"budget": budget})).one_or_none()
            if found is None:
                continue
            window = Window(found.window_kind, found.window_seconds)
            low, high = window.span(period)
            spent = int((await connection.execute(_SPENT, {"budget": budget, "low": low, "high": high})).scalar_one())
            reached = {
                "budget": budget, "turn": window.turn(period), "spent": spent, "maximum": found.limit_nano_usd,
                "now": now,
            }  # fmt: skip
            for threshold in msgspec.json.decode(found.alerts, type=tuple[int, ...]):
                if spent * 100 >= found.limit_nano_usd * threshold:
                    noted += (await connection.execute(_NOTE, {**reached, "threshold": threshold})).rowcount
        return noted

    async def claim(self, now: int, until: int, most: int = 20) -> list[AlertRow]:
        """Take alerts that are due; nobody else gets them before ``until`` (us)."""
        async with self._database.read() as connection:
            due = [AlertRow(**row._mapping) for row in await connection.execute(_DUE, {"now": now, "most": most})]
        claimed = []
        if due:
            async with self._database.write() as connection:
                for row in due:
                    values = {**_name(row), "now": now, "until": until}
                    if (await connection.execute(_CLAIM, values)).rowcount:
                        claimed.append(msgspec.structs.replace(row, attempts=row.attempts + 1))
        return claimed

    async def end(self, row: AlertRow, *, sent_at: int | None, due_at: int | None) -> None:
        """An alert was told at ``sent_at``; or is to be told again at ``due_at``; both None: it is given up."""
        async with self._database.write() as connection:
            await connection.execute(_END, {**_name(row), "sent": sent_at, "due": due_at})


def _name(row: AlertRow) -> dict[str, str | int]:
    return {"budget": row.budget_id, "turn": row.turn, "threshold": row.threshold}
