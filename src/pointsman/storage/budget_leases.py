"""The escrow of budgets: what each process may spend without asking, and what of it is spent for good.

For every budget and window, what was spent and what processes hold never exceeds the limit when a lease is given. A
request's cost is moved from its process' lease to what is spent in the transaction that stores the request, so the sum
does not change, once for each request, whatever crashes. A lease may go to nobody else before all that its process
has written to its journal is stored: `release` is for that moment. `expire` is for a home (the directory of journals)
of which nothing was heard for longer than its leases last: none of its processes spends from them then. That ends
the home's term. The first of its processes that comes back begins another one; each other one that names the old term
learns that its leases are gone, too.

In PostgreSQL whoever gives leases of a budget holds an advisory lock of it. Rows of `budget_periods` are always
written before those of `budget_leases`, each in the order of their keys, and that of `budget_homes` is the last, so
nobody waits in a circle.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from secrets import randbits
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.windows import Window
from pointsman.storage.database import Database, Kind

CREDIT: Final = "credit:"  # before an account's id: its credit, whose limit is its balance
GUARDRAIL: Final = "guardrail:"  # before a guardrail's id: the budget of one whom it binds, whose limit stands there
PORTIONS: Final = 100  # what is given beyond the need is at most this part of the limit
_WEEK_US: Final = 7 * 86_400_000_000
_SHARE: Final = 4  # and this part of what nobody holds
_RESTS: Final = 2**62  # stands for the answer to all that will be asked
_TERM_BITS: Final = 27  # of a home's beat, above those that count
_BEAT_BITS: Final = 36  # when they overflow, in years, leases lapse once

Balance = Callable[[AsyncConnection, str], Awaitable[int]]


class LeasesLapsed(Exception):
    """The leases of this home have expired: of what was given to its processes, they have only what is spent."""


class LeaseAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a process asks of one budget and period, in nano-USD.

    ``floor`` is what must stay granted to it in all, ``want`` what it would like to have at least; ``spare``: more is
    welcome. ``recall``: when there is too little, others are to give back what no call of theirs needs. ``rests``: the
    floor is all spent, stored or not, so until it asks again there is nothing to give back and it is not to be asked.
    """

    budget_id: str
    window: Window
    period: int
    floor: int
    want: int
    spare: bool = False
    recall: bool = False
    rests: bool = False


class LeaseGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What the process may spend in all, and how the budget stands, in nano-USD.

    ``limit`` is None when the budget is gone and nothing is limited.
    ``spent`` and ``held`` (in other leases, also the process' own of other periods) are those of the whole window.
    ``unanswered``: of so many of these leases nobody has said yet whether what they hold is needed. ``oldest``: the
    oldest period in which anything was spent.
    """

    granted: int
    limit: int | None = None
    spent: int = 0
    held: int = 0
    unanswered: int = 0
    oldest: int | None = None


class Holder(msgspec.Struct, frozen=True):
    """A process that has leases, by its journal; the directory of that; and how long they last when it is silent."""

    name: str
    home: str
    lease_us: int


class Home(msgspec.Struct, frozen=True):
    """A directory of journals whose processes have leases. ``beat`` grows whenever one of them is heard of; its
    highest bits are the term.
    """

    name: str
    beat: int
    lease_us: int


class Charge(msgspec.Struct, frozen=True):
    """What a stored request has cost of one budget. ``holder`` is None when nothing was reserved for it."""

    budget_id: str
    period: int
    holder: str | None
    cost: int | None  # None: unpriced


_STANDING: Final = text(
    "SELECT coalesce((SELECT limit_nano_usd FROM budgets WHERE id = :budget),"
    " (SELECT limit_nano_usd FROM guardrails WHERE id = :guardrail)) AS maximum,"
    " (SELECT coalesce(sum(spent_nano_usd), 0) FROM budget_periods"
    "   WHERE budget_id = :budget AND period BETWEEN :low AND :high) AS spent,"
    " (SELECT min(period) FROM budget_periods"
    "   WHERE budget_id = :budget AND period BETWEEN :low AND :high AND spent_nano_usd > 0) AS oldest,"
    " (SELECT coalesce(sum(granted_nano_usd - settled_nano_usd), 0) FROM budget_leases"
    "   WHERE budget_id = :budget AND period BETWEEN :low AND :high AND granted_nano_usd > settled_nano_usd"
    "   AND (holder <> :holder OR period <> :period)) AS held,"
    " (SELECT count(*) FROM budget_leases l JOIN budget_periods p ON p.budget_id = l.budget_id AND p.period = l.period"
    "   WHERE l.budget_id = :budget AND l.period BETWEEN :low AND :high AND l.granted_nano_usd > l.settled_nano_usd"
    "   AND (l.holder <> :holder OR l.period <> :period) AND l.answered < p.recall) AS unanswered,"
    " (SELECT recall FROM budget_periods WHERE budget_id = :budget AND period = :period) AS recall"
)
_OWN: Final = text(
    "SELECT granted_nano_usd AS granted, settled_nano_usd AS settled, answered FROM budget_leases"
    " WHERE budget_id = :budget AND period = :period AND holder = :holder"
)
_OPEN_PERIOD: Final = text(
    "INSERT INTO budget_periods (budget_id, period) VALUES (:budget, :period)"
    " ON CONFLICT (budget_id, period) DO NOTHING"
)
_RECALL: Final = text(
    "UPDATE budget_periods SET recall = recall + 1 WHERE budget_id = :budget AND period BETWEEN :low AND :high"
)
_GRANT: Final = text(
    "INSERT INTO budget_leases (budget_id, period, holder, home, granted_nano_usd, answered, updated_at)"
    " VALUES (:budget, :period, :holder, :home, :granted, :answered, :now)"
    " ON CONFLICT (budget_id, period, holder) DO UPDATE SET granted_nano_usd = excluded.granted_nano_usd,"
    " answered = excluded.answered, updated_at = excluded.updated_at"
)
_RECALLED: Final = text(
    "SELECT l.budget_id, l.period FROM budget_leases l"
    " JOIN budget_periods p ON p.budget_id = l.budget_id AND p.period = l.period"
    " WHERE l.holder = :holder AND l.answered < p.recall"
)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:number)")
_SPEND: Final = text(
    "INSERT INTO budget_periods (budget_id, period, spent_nano_usd, calls, unpriced_calls)"
    " SELECT :budget, :period, :spent, :calls, :unpriced WHERE :budget LIKE 'credit:%'"
    " OR EXISTS (SELECT 1 FROM budgets WHERE id = :budget)"
    " OR EXISTS (SELECT 1 FROM guardrails WHERE id = :guardrail)"
    " ON CONFLICT (budget_id, period) DO UPDATE SET"
    " spent_nano_usd = budget_periods.spent_nano_usd + excluded.spent_nano_usd,"
    " calls = budget_periods.calls + excluded.calls,"
    " unpriced_calls = budget_periods.unpriced_calls + excluded.unpriced_calls"
)
_SETTLE: Final = text(
    "UPDATE budget_leases SET settled_nano_usd = settled_nano_usd + :spent"
    " WHERE budget_id = :budget AND period = :period AND holder = :holder"
)
_REGISTER: Final = text(
    "INSERT INTO budget_homes (home, beat, lease_us) VALUES (:home, :beat, :lease_us)"
    " ON CONFLICT (home) DO UPDATE SET beat = budget_homes.beat + 1, lease_us = CASE"
    " WHEN budget_homes.lease_us > excluded.lease_us AND EXISTS (SELECT 1 FROM budget_leases WHERE home = :home)"
    " THEN budget_homes.lease_us ELSE excluded.lease_us END RETURNING beat"
)
_BEAT: Final = text("UPDATE budget_homes SET beat = beat + 1 WHERE home = :home")
_BEAT_IN_TERM: Final = text(
    "UPDATE budget_homes SET beat = beat + 1"
    " WHERE home = :home AND lease_us >= :lease_us AND beat >> :beat_bits = :term"
)
_FREE: Final = text(
    "UPDATE budget_leases SET granted_nano_usd = settled_nano_usd, updated_at = :now"
    " WHERE home = :home AND granted_nano_usd > settled_nano_usd"
)


class BudgetLeaseRepository:
    """Gives leases and books what was spent. ``balance`` tells what an account has left, in the same transaction."""

    def __init__(self, database: Database, balance: Balance | None = None) -> None:
        self._database = database
        self._balance = balance

    async def exchange(self, holder: Holder, term: int, asks: Sequence[LeaseAsk], now: int) -> list[LeaseGrant]:
        """Answer what a process asks, in one transaction, and know that it lives. ``term`` is what `register` gave.

        Raises StorageError; then it may have its floors only. Raises LeasesLapsed; then it has not even these, of no
        budget, and must `register` before it asks again.
        """
        alive = {"home": holder.home, "lease_us": holder.lease_us, "beat_bits": _BEAT_BITS, "term": term}
        async with self._database.write() as connection:
            await lock_budgets(connection, self._database.kind, {ask.budget_id for ask in asks})
            await self._prepare(connection, asks)
            grants: dict[int, LeaseGrant] = {}
            for place in sorted(range(len(asks)), key=lambda place: (asks[place].budget_id, asks[place].period)):
                grants[place] = await self._grant(connection, holder, asks[place], now)
            if not (await connection.execute(_BEAT_IN_TERM, alive)).rowcount:
                raise LeasesLapsed
        return [grants[place] for place in range(len(asks))]

    async def _prepare(self, connection: AsyncConnection, asks: Sequence[LeaseAsk]) -> None:
        """Everything that is written to `budget_periods`."""
        for ask in sorted(asks, key=lambda ask: (ask.budget_id, ask.period)):
            low, high = ask.window.span(ask.period)
            names = {"budget": ask.budget_id, "period": ask.period}
            await connection.execute(_OPEN_PERIOD, names)
            if ask.recall:
                await connection.execute(_RECALL, {"budget": ask.budget_id, "low": low, "high": high})

    async def _grant(self, connection: AsyncConnection, holder: Holder, ask: LeaseAsk, now: int) -> LeaseGrant:
        low, high = ask.window.span(ask.period)
        names = {"budget": ask.budget_id, "period": ask.period, "holder": holder.name}
        own = (await connection.execute(_OWN, names)).one_or_none()
        asked = {**names, "low": low, "high": high, "guardrail": _guardrail_of(ask.budget_id)}
        standing = (await connection.execute(_STANDING, asked)).one()
        spent, held = int(standing.spent), int(standing.held)
        limit: int | None = standing.maximum
        if ask.budget_id.startswith(CREDIT) and self._balance is not None:
            limit = spent + await self._balance(connection, ask.budget_id.removeprefix(CREDIT))
        settled = 0 if own is None else int(own.settled)
        if limit is None:
            return LeaseGrant(granted=ask.want)
        floor = max(ask.floor, settled)  # what was spent beyond a lease is known as spent, and no reason to refuse more
        room = max(0, limit - spent - held - (floor - settled))
        need = max(0, ask.want - floor)
        more = min(need, room)
        if ask.spare and more == need:
            more += min(limit // PORTIONS, (room - more) // _SHARE)
        granted = floor + more
        answered = _RESTS if ask.rests else standing.recall
        if (own is None and granted) or (own is not None and (own.granted, own.answered) != (granted, answered)):
            values = {**names, "home": holder.home, "granted": granted, "answered": answered, "now": now}
            await connection.execute(_GRANT, values)
        return LeaseGrant(
            granted=granted,
            limit=limit,
            spent=spent,
            held=held,
            unanswered=int(standing.unanswered),
            oldest=standing.oldest,
        )

    async def recalled(self, holder: str) -> set[tuple[str, int]]:
        """The budgets and periods of which somebody else is short, and of which this process has not told its need."""
        async with self._database.read() as connection:
            return {(row.budget_id, row.period) for row in await connection.execute(_RECALLED, {"holder": holder})}

    async def retire(self, holder: str, places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """End the leases of these budgets and periods of which nothing is held; gives those that were ended."""
        query = text(
            "DELETE FROM budget_leases WHERE budget_id = :budget AND period = :period AND holder = :holder"
            " AND granted_nano_usd <= settled_nano_usd"
        )
        left = text(
            "SELECT count(*) FROM budget_leases WHERE budget_id = :budget AND period = :period AND holder = :holder"
        )
        ended = []
        async with self._database.write() as connection:
            for budget, period in sorted(places):
                values = {"budget": budget, "period": period, "holder": holder}
                await connection.execute(query, values)
                if not (await connection.execute(left, values)).scalar_one():
                    ended.append((budget, period))
        return ended

    async def book(self, connection: AsyncConnection, charges: Iterable[Charge]) -> set[tuple[str, int]]:
        """Count what stored requests have cost, in the caller's transaction; gives the periods that have changed."""
        spent: dict[tuple[str, int], list[int]] = {}
        settled: dict[tuple[str, int, str], int] = {}
        for charge in charges:
            place, cost = (charge.budget_id, charge.period), charge.cost or 0
            sums = spent.setdefault(place, [0, 0, 0])
            sums[0] += cost
            sums[1] += 1
            sums[2] += charge.cost is None
            if charge.holder is not None and cost:
                settled[*place, charge.holder] = settled.get((*place, charge.holder), 0) + cost
        for (budget, period), (cost, calls, unpriced) in sorted(spent.items()):
            values = {"budget": budget, "period": period, "spent": cost, "calls": calls, "unpriced": unpriced}
            await connection.execute(_SPEND, {**values, "guardrail": _guardrail_of(budget)})
        for (budget, period, holder), cost in sorted(settled.items()):
            values = {"budget": budget, "period": period, "holder": holder, "spent": cost}
            await connection.execute(_SETTLE, values)
        return set(spent)

    async def holders(self, home: str) -> set[str]:
        """The processes of this directory that have leases."""
        query = text("SELECT DISTINCT holder FROM budget_leases WHERE home = :home")
        async with self._database.read() as connection:
            return set((await connection.execute(query, {"home": home})).scalars())

    async def release(self, holders: Iterable[str]) -> int:
        """Take back all that these processes hold; they are gone, and every request of theirs is stored."""
        query = text("DELETE FROM budget_leases WHERE holder = :holder")
        released = 0
        async with self._database.write() as connection:
            for holder in sorted(holders):
                released += (await connection.execute(query, {"holder": holder})).rowcount
        return released

    async def register(self, holder: Holder) -> int:
        """Let a process have leases from now on; gives the home's term, for `exchange`. Raises StorageError.

        While there are leases, they last as long as any process of the home has asked for.
        """
        new = {"home": holder.home, "lease_us": holder.lease_us, "beat": randbits(_TERM_BITS) << _BEAT_BITS}
        async with self._database.write() as connection:
            return int((await connection.execute(_REGISTER, new)).scalar_one()) >> _BEAT_BITS

    async def beat(self, home: str) -> None:
        """Tell that somebody of this home lives. Raises StorageError."""
        async with self._database.write() as connection:
            await connection.execute(_BEAT, {"home": home})

    async def homes(self) -> list[Home]:
        """All of them. Raises StorageError."""
        async with self._database.read() as connection:
            rows = await connection.execute(text("SELECT home, beat, lease_us FROM budget_homes"))
            return [Home(row.home, row.beat, row.lease_us) for row in rows]

    async def expire(self, home: Home, now: int) -> int | None:
        """Take back what the processes of a home hold, unless somebody has heard of it; gives how many leases.

        What they have spent and is not stored yet is booked all the same when their journals are read, beside what
        they held. Raises StorageError.
        """
        lock = text("SELECT 1 FROM budget_leases WHERE home = :home ORDER BY budget_id, period, holder FOR UPDATE")
        gone = text("DELETE FROM budget_homes WHERE home = :home AND beat = :beat")
        async with self._database.write() as connection:
            if self._database.kind == "postgresql":
                await connection.execute(lock, {"home": home.name})
            freed = (await connection.execute(_FREE, {"home": home.name, "now": now})).rowcount
            if not (await connection.execute(gone, {"home": home.name, "beat": home.beat})).rowcount:
                await connection.rollback()
                return None
            return freed

    async def prune(self, now: int) -> None:
        """Drop what holds nothing: of rolling windows older than two of them, and of lost homes after a week."""
        old = (
            " FROM budgets b WHERE b.id = {0}.budget_id AND b.window_kind = 'rolling'"
            " AND {0}.period < :now - 2 * b.window_seconds * 1000000"
        )
        leases = f"DELETE FROM budget_leases WHERE granted_nano_usd <= settled_nano_usd AND EXISTS (SELECT 1{old})"
        periods = (  # those of rolling windows are looked for first: few, where there may be a period for each key
            "DELETE FROM budget_periods WHERE budget_id IN (SELECT id FROM budgets WHERE window_kind = 'rolling')"
            f" AND EXISTS (SELECT 1{old}) AND NOT EXISTS (SELECT 1 FROM budget_leases l"
            " WHERE l.budget_id = budget_periods.budget_id AND l.period = budget_periods.period)"
        )
        lost = text(
            "DELETE FROM budget_leases WHERE granted_nano_usd <= settled_nano_usd AND updated_at < :before"
            " AND home NOT IN (SELECT home FROM budget_homes)"
        )
        async with self._database.write() as connection:
            await connection.execute(lost, {"before": now - _WEEK_US})
            await connection.execute(text(leases.format("budget_leases")), {"now": now})
            await connection.execute(text(periods.format("budget_periods")), {"now": now})


def _guardrail_of(budget_id: str) -> str:
    """The guardrail that a budget is of; the empty text, which is no guardrail's id, for any other one."""
    return budget_id.removeprefix(GUARDRAIL).partition(":")[0] if budget_id.startswith(GUARDRAIL) else ""


async def lock_budgets(connection: AsyncConnection, kind: Kind, budget_ids: Iterable[str]) -> None:
    """Keep others from giving leases of these budgets until the transaction ends. SQLite has one writer anyway."""
    if kind == "postgresql":
        # Numbers made of the ids; two budgets with the same one only wait for each other.
        digests = {blake2b(one.encode(), digest_size=8).digest() for one in budget_ids}
        for number in sorted(int.from_bytes(digest, "big", signed=True) for digest in digests):
            await connection.execute(_LOCK, {"number": number})
