"""Budgets and what was spent of them. The leases of processes are in budget_leases.py."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, Select, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.windows import Window
from pointsman.storage import configuration, tables
from pointsman.storage.budget_leases import lock_budgets
from pointsman.storage.budget_tables import budget_alerts, budget_leases, budget_periods, budgets
from pointsman.storage.database import Database
from pointsman.storage.keys import mark_changed

Scope = Literal["key", "account", "workspace", "member", "guardrail", "tag"]
# The column of `requests` that tells what a subject has spent before it had a budget. Others begin at zero.
_OWNERS: Final = {"key": "key_id", "workspace": "workspace_id", "account": "account_id"}
_SHARED_SCOPES: Final = ("account", "workspace", "member", "guardrail", "tag")
_SLICE: Final = 1000  # ids in one query
_CHILDREN: Final = (budget_periods, budget_leases, budget_alerts)


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One budget. ``alerts`` are percentages of the limit; a budget that is not ``hard`` refuses nothing.

    ``source`` says who keeps it: ``operator``, or the contract whose limit it is. ``include_byok``: what providers bill
    the callers themselves counts, too. Instants in us.
    """

    id: str
    scope: Scope
    subject: str
    limit_nano_usd: int
    window: Window
    alerts: tuple[int, ...] = ()
    hard: bool = True
    source: str = "operator"
    include_byok: bool = False
    created_at: int = 0
    updated_at: int = 0


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent of a budget in the window that holds an instant, and what processes hold for calls, in nano-USD.

    ``oldest`` is the oldest period in which anything was spent; None: in none.
    """

    spent: int = 0
    held: int = 0
    calls: int = 0
    unpriced_calls: int = 0
    oldest: int | None = None


class BudgetRepository:
    """Asks and changes the tables of budgets and of their periods."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, row: BudgetRow) -> tuple[BudgetRow, int]:
        """Store a budget, or change the one of the same owner, window and source, which keeps its id.

        Gives it with the new configuration revision. One that counted other costs is replaced: its sums mean nothing.

        What its owner has spent in the present window (that of ``updated_at``) counts in a new one.
        """
        same = _same(row)
        query = select(budgets).where(*same)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).one_or_none()
            counted = found is not None and found.include_byok == row.include_byok
            cursor, opening = (0, 0) if counted else await self._spent_before(connection, row)
        async with self._database.write() as connection:
            await self._database.in_order(connection)
            found = (await connection.execute(query)).one_or_none()
            if found is not None and not counted:
                await self._forget(connection, found.id)
                found = None
            if found is None:
                await connection.execute(insert(budgets), _values(row))
                opening += await self._spent_since(connection, row, cursor)
                period = row.window.period(row.updated_at)
                opened = {"spent_nano_usd": opening, "opening_nano_usd": opening}
                await connection.execute(insert(budget_periods), {"budget_id": row.id, "period": period, **opened})
            else:
                kept = msgspec.structs.replace(row, id=found.id, created_at=found.created_at)
                await connection.execute(update(budgets).where(budgets.c.id == found.id).values(_values(kept)))
                row = kept
            return row, await _bump(connection, row.scope, row.subject)

    async def _spent_before(self, connection: AsyncConnection, row: BudgetRow) -> tuple[int, int]:
        """The newest row of `requests`, and what the owner has spent up to there: asked without keeping others out."""
        newest = select(func.coalesce(func.max(tables.requests.c.sequence), 0))
        cursor = int((await connection.execute(newest)).scalar_one())
        return cursor, await self._sum(connection, row, tables.requests.c.sequence <= cursor)

    async def _spent_since(self, connection: AsyncConnection, row: BudgetRow, cursor: int) -> int:
        return await self._sum(connection, row, tables.requests.c.sequence > cursor)

    async def _sum(self, connection: AsyncConnection, row: BudgetRow, which: ColumnElement[bool]) -> int:
        owner = tables.requests.c.get(_OWNERS.get(row.scope, ""))
        if owner is None:
            return 0
        now, window = row.updated_at, row.window
        since = now - window.seconds * 1_000_000 if window.kind == "rolling" else window.period(now)
        cost: ColumnElement[Any] = func.coalesce(func.sum(tables.requests.c.cost_nano_usd), 0)
        if row.include_byok:
            own = case((tables.requests.c.byok, tables.requests.c.upstream_cost_nano_usd), else_=0)
            cost += func.coalesce(func.sum(own), 0)
        query = select(cost).where(owner == row.subject, tables.requests.c.created_at >= since, which)
        return int((await connection.execute(query)).scalar_one())

    async def remove(self, budget_id: str) -> int | None:
        """Forget a budget and all that was spent of it; gives the new configuration revision. None: there is none."""
        async with self._database.write() as connection:
            await self._database.in_order(connection)
            gone = await self._forget(connection, budget_id)
            return None if gone is None else await _bump(connection, gone.scope, gone.subject)

    async def _forget(self, connection: AsyncConnection, budget_id: str) -> Any:
        """Delete a budget and all that was spent of it; gives whose it was. None: there is none."""
        await lock_budgets(connection, self._database.kind, (budget_id,))
        of = delete(budgets).where(budgets.c.id == budget_id).returning(budgets.c.scope, budgets.c.subject)
        gone = (await connection.execute(of)).one_or_none()
        if gone is not None:
            for table in _CHILDREN:
                await connection.execute(delete(table).where(table.c.budget_id == budget_id))
        return gone

    async def get(self, budget_id: str) -> BudgetRow | None:
        """The budget with this id."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(budgets).where(budgets.c.id == budget_id))).one_or_none()
        return None if row is None else _row(row)

    async def revision(self) -> int:
        """The configuration's revision at the last change of a budget that is not a key's."""
        async with self._database.read() as connection:
            return await configuration.revision_of(connection, "budgets_revision")

    async def load_shared(self) -> tuple[BudgetRow, ...]:
        """Every budget that is not a key's, for the snapshot in memory."""
        query = select(budgets).where(budgets.c.scope.in_(_SHARED_SCOPES)).order_by(budgets.c.id)
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(query))

    async def any_of_keys(self) -> bool:
        """Whether any key has a budget of its own."""
        query = select(budgets.c.id).where(budgets.c.scope == "key").limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def of_keys(self, key_ids: Sequence[str]) -> dict[str, tuple[BudgetRow, ...]]:
        """The budgets of these keys, by key; those that have none are left out."""
        found: dict[str, tuple[BudgetRow, ...]] = {}
        for start in range(0, len(key_ids), _SLICE):
            some = key_ids[start : start + _SLICE]
            async with self._database.read() as connection:
                for row in map(_row, await connection.execute(subjects_query("key", some))):
                    found[row.subject] = (*found.get(row.subject, ()), row)
        return {subject: tuple(sorted(rows, key=lambda row: row.id)) for subject, rows in found.items()}

    async def list_page(
        self, limit: int, after: str | None = None, *, scope: str | None = None, subject: str | None = None
    ) -> tuple[BudgetRow, ...]:
        """Up to ``limit`` budgets in the order of their ids, behind ``after``; of this scope and subject if given."""
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(page_query(limit, after, scope, subject)))

    async def of_subjects(self, scope: Scope, subjects: Sequence[str], source: str) -> tuple[BudgetRow, ...]:
        """The budgets of these subjects, a hundred or so, that ``source`` keeps."""
        query = subjects_query(scope, subjects).where(budgets.c.source == source)
        async with self._database.read() as connection:
            rows = [_row(row) for row in await connection.execute(query)]
        return tuple(sorted(rows, key=lambda row: row.id))

    async def spendings(self, rows: Sequence[BudgetRow], at: int) -> dict[str, Spending]:
        """What was spent and is held of budgets, a few hundred, in the windows that end at ``at`` (us); by id."""
        found: dict[str, Spending] = {}
        spans: dict[tuple[int, int], list[str]] = {}
        for row in rows:
            spans.setdefault(row.window.span(row.window.period(at)), []).append(row.id)
        async with self._database.read() as connection:
            for span, ids in spans.items():
                held = {row[0]: int(row[1]) for row in await connection.execute(_held(ids, *span))}
                spent = {row.budget_id: row for row in await connection.execute(_spent(ids, *span))}
                for budget_id in ids:
                    found[budget_id] = _spending(spent.get(budget_id), held.get(budget_id, 0))
        return found

    async def spent_by(self, scope: Scope, subjects: Sequence[str], source: str) -> dict[str, tuple[BudgetRow, int]]:
        """The budgets without a window of these subjects, which ``source`` keeps, and what is spent of each."""
        query = subjects_query(scope, subjects)
        query = query.where(budgets.c.source == source, budgets.c.window_kind == "none")
        spent = func.coalesce(func.sum(budget_periods.c.spent_nano_usd), 0)
        async with self._database.read() as connection:
            rows = [_row(row) for row in await connection.execute(query)]
            sums = (
                select(budget_periods.c.budget_id, spent)
                .where(budget_periods.c.budget_id.in_([row.id for row in rows]))
                .group_by(budget_periods.c.budget_id)
            )
            found = {row[0]: int(row[1]) for row in await connection.execute(sums)} if rows else {}
        return {row.subject: (row, found.get(row.id, 0)) for row in rows}

    async def recount(self, budget_id: str, window: Window, at: int) -> tuple[int, int]:
        """What is stored as spent in the window that ends at ``at``, and what the requests themselves add up to."""
        lowest, highest = window.span(window.period(at))
        columns, requests = budget_periods.c, tables.requests.c
        where = (columns.budget_id == budget_id, columns.period.between(lowest, highest))
        stored = select(
            func.coalesce(func.sum(columns.spent_nano_usd), 0), func.coalesce(func.sum(columns.opening_nano_usd), 0)
        ).where(*where)
        marked = requests.charges.contains(f'"{budget_id}"', autoescape=True)
        charged = select(requests.charges, requests.cost_nano_usd).where(
            requests.charges.is_not(None), requests.created_at >= lowest, marked
        )
        async with self._database.read() as connection:
            spent, counted = map(int, (await connection.execute(stored)).one())
            async for charges, cost in await connection.stream(charged):
                counted += sum(
                    (charge[3] if len(charge) > 3 else cost) or 0
                    for charge in msgspec.json.decode(charges)
                    if charge[0] == budget_id and lowest <= charge[1] <= highest
                )
        return spent, counted


def subjects_query(scope: str, subjects: Sequence[str]) -> Select[Any]:
    """The query of what some subjects have, in no order: ordered by id, SQLite would walk all ids for them."""
    return select(budgets).where(budgets.c.scope == scope, budgets.c.subject.in_(subjects))


def page_query(limit: int, after: str | None, scope: str | None, subject: str | None) -> Any:
    """The query of a page: it walks the index of what it is asked for."""
    query = select(budgets).order_by(budgets.c.id).limit(limit)
    for column, value in ((budgets.c.scope, scope), (budgets.c.subject, subject)):
        if value is not None:
            query = query.where(column == value)
    return query if after is None else query.where(budgets.c.id > after)


async def _bump(connection: AsyncConnection, scope: str, subject: str) -> int:
    """Count a change: a key's budget is read with the key, all others are read together."""
    if scope != "key":
        return await configuration.bump(connection, "budgets_revision")
    revision = await configuration.bump(connection)
    await mark_changed(connection, tables.keys.c.id == subject, revision)
    return revision


def _spent(budget_ids: Sequence[str], lowest: int, highest: int) -> Any:
    columns = budget_periods.c
    sums = (func.sum(columns[name]).label(name) for name in ("spent_nano_usd", "calls", "unpriced_calls"))
    oldest = func.min(case((columns.spent_nano_usd > 0, columns.period))).label("oldest")
    query = select(columns.budget_id, *sums, oldest).group_by(columns.budget_id)
    return query.where(columns.budget_id.in_(budget_ids), columns.period.between(lowest, highest))


def _held(budget_ids: Sequence[str], lowest: int, highest: int) -> Any:
    leases = budget_leases.c
    held = func.sum(leases.granted_nano_usd - leases.settled_nano_usd)
    return (
        select(leases.budget_id, held)
        .where(
            leases.budget_id.in_(budget_ids),
            leases.period.between(lowest, highest),
            leases.granted_nano_usd > leases.settled_nano_usd,
        )
        .group_by(leases.budget_id)
    )


def _spending(row: Row[Any] | None, held: int) -> Spending:
    if row is None:
        return Spending(held=held)
    return Spending(
        spent=int(row.spent_nano_usd),
        held=held,
        calls=int(row.calls),
        unpriced_calls=int(row.unpriced_calls),
        oldest=row.oldest,
    )


def _same(row: BudgetRow) -> tuple[ColumnElement[bool], ...]:
    return (
        budgets.c.scope == row.scope,
        budgets.c.subject == row.subject,
        budgets.c.window_kind == row.window.kind,
        budgets.c.window_seconds == row.window.seconds,
        budgets.c.source == row.source,
    )


def _values(row: BudgetRow) -> dict[str, Any]:
    values = msgspec.structs.asdict(row)
    window = values.pop("window")
    alerts = msgspec.json.encode(row.alerts).decode()
    return {**values, "window_kind": window.kind, "window_seconds": window.seconds, "alerts": alerts}


def _row(row: Row[Any]) -> BudgetRow:
    values = dict(row._mapping)
    window = Window(values.pop("window_kind"), values.pop("window_seconds"))
    values["alerts"] = msgspec.json.decode(values["alerts"], type=tuple[int, ...])
    return BudgetRow(window=window, **values)
