"""What the ledger's check asks the database: sums over stretches of rows, all of one moment."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.ledger import MOST_NANO_USD, AccountKind, LedgerAccount, credit_of
from pointsman.storage import ledger_tables, tables
from pointsman.storage.database import Database
from pointsman.storage.segments import SegmentRow

_CHARGE: Final = f"CASE WHEN cost_nano_usd > {MOST_NANO_USD} THEN {MOST_NANO_USD} ELSE cost_nano_usd END"
_OWED: Final = f"coalesce(upstream_cost_nano_usd, {_CHARGE})"
_UNBALANCED: Final = text(
    "SELECT transaction_sequence AS sequence, sum(amount_nano_usd) AS total FROM ledger_postings"
    " WHERE transaction_sequence > :after AND transaction_sequence <= :last"
    " GROUP BY transaction_sequence HAVING sum(amount_nano_usd) <> 0 LIMIT :most"
)
_EMPTY: Final = text(
    "SELECT sequence FROM ledger_transactions AS t WHERE sequence > :after AND sequence <= :last AND NOT EXISTS"
    " (SELECT 1 FROM ledger_postings WHERE transaction_sequence = t.sequence) LIMIT :most"
)
_ORPHANS: Final = text(
    "SELECT DISTINCT transaction_sequence FROM ledger_postings AS p WHERE transaction_sequence > :after"
    " AND transaction_sequence <= :last AND NOT EXISTS"
    " (SELECT 1 FROM ledger_transactions WHERE sequence = p.transaction_sequence) LIMIT :most"
)
_TOTALS: Final = text(
    "SELECT ledger_account, sum(amount_nano_usd) AS total, count(*) AS postings, max(transaction_sequence) AS newest"
    " FROM ledger_postings WHERE transaction_sequence > :after AND transaction_sequence <= :last"
    " GROUP BY ledger_account"
)
_USAGE: Final = text(
    "SELECT ledger_account, sum(amount_nano_usd) AS total FROM ledger_postings JOIN ledger_transactions"
    " ON sequence = transaction_sequence WHERE transaction_sequence > :after AND transaction_sequence <= :last"
    " AND kind = 'usage' GROUP BY ledger_account"
)
_REQUESTS: Final = text(
    "SELECT account_id, coalesce(nullif(provider, ''), nullif(connection_id, ''), 'unknown') AS provider, byok,"
    f" exemption IS NOT NULL AS insured, sum({_CHARGE}) AS charged, sum({_OWED}) AS owed FROM requests"
    " WHERE sequence > :after AND sequence <= :last AND (cost_nano_usd > 0 OR upstream_cost_nano_usd > 0)"
    " GROUP BY 1, 2, 3, 4"
)
_FAULTY: Final = text(
    "SELECT sequence, posted, charged FROM (SELECT t.sequence, -p.amount_nano_usd AS posted,"
    f" (SELECT coalesce(sum({_CHARGE}), 0) FROM requests WHERE sequence BETWEEN t.first_request AND t.last_request"
    " AND account_id = t.account_id) AS charged FROM ledger_transactions AS t JOIN ledger_postings AS p"
    " ON p.transaction_sequence = t.sequence AND p.ledger_account = :name"
    " WHERE t.kind = 'usage' AND t.account_id = :account) AS both_sides WHERE posted <> charged LIMIT :most"
)


class Total(NamedTuple):
    """What postings of a ledger account add up to."""

    nano_usd: int
    postings: int
    newest: int


class Faulty(msgspec.Struct, frozen=True, kw_only=True):
    """A usage transaction and what its requests were charged, in nano-USD."""

    sequence: int
    posted: int
    charged: int


class LedgerAudit:
    """One moment of the books, for reading."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def ends(self) -> tuple[int, int]:
        """The last numbers of transactions (also of postings without one) and of requests."""
        ledger = await self._one("SELECT coalesce(max(sequence), 0) FROM ledger_transactions")
        posted = await self._one("SELECT coalesce(max(transaction_sequence), 0) FROM ledger_postings")
        return max(ledger, posted), await self._one("SELECT coalesce(max(sequence), 0) FROM requests")

    async def _one(self, statement: str) -> int:
        return int((await self._connection.execute(text(statement))).scalar_one())

    async def unbalanced(self, after: int, last: int, most: int) -> list[tuple[int, int]]:
        """Transactions behind ``after`` whose postings do not sum to 0, and what they sum to."""
        rows = await self._rows(_UNBALANCED, after, last, most)
        return [(int(row.sequence), int(row.total)) for row in rows]

    async def halves(self, after: int, last: int, most: int) -> list[int]:
        """Transactions without postings, and numbers of postings without a transaction."""
        empty = await self._rows(_EMPTY, after, last, most)
        return [int(row[0]) for row in (*empty, *await self._rows(_ORPHANS, after, last, most))]

    async def totals(self, after: int, last: int) -> dict[str, Total]:
        """What postings in this stretch of transactions add up to, by ledger account."""
        rows = await self._rows(_TOTALS, after, last)
        return {row.ledger_account: Total(int(row.total), row.postings, row.newest) for row in rows}

    async def usage(self, after: int, last: int) -> dict[str, int]:
        """The same of usage transactions alone, in nano-USD."""
        return {row.ledger_account: int(row.total) for row in await self._rows(_USAGE, after, last)}

    async def of_requests(self, after: int, last: int) -> list[tuple[LedgerAccount, int]]:
        """What the requests in this stretch mean for the ledger, in nano-USD."""
        found: list[tuple[LedgerAccount, int]] = []
        for row in await self._rows(_REQUESTS, after, last):
            charged, owed = int(row.charged or 0), int(row.owed or 0)
            income = AccountKind.BYOK_FEES if row.byok else AccountKind.USAGE
            found += [(credit_of(row.account_id), -charged), (LedgerAccount(income), charged)]
            if not row.byok:
                expense = AccountKind.INSURANCE if row.insured else AccountKind.UPSTREAM_COSTS
                found += [(LedgerAccount(expense), -owed), (LedgerAccount(AccountKind.PROVIDER, row.provider), owed)]
        return found

    async def faulty(self, account_id: str, most: int) -> list[Faulty]:
        """Usage transactions of an account that are not what its requests were charged."""
        values = {"name": credit_of(account_id).id, "account": account_id, "most": most}
        rows = await self._connection.execute(_FAULTY, values)
        return [Faulty(sequence=row.sequence, posted=int(row.posted), charged=int(row.charged)) for row in rows]

    async def balances(self, after: str, limit: int) -> list[tuple[str, Total]]:
        """A page of stored balances behind the ledger account ``after``."""
        table = ledger_tables.ledger_balances
        query = select(table).where(table.c.ledger_account > after).order_by(table.c.ledger_account).limit(limit)
        rows = await self._connection.execute(query)
        return [(row.ledger_account, Total(row.balance_nano_usd, row.postings, row.last_transaction)) for row in rows]

    async def segments(self) -> list[SegmentRow]:
        """How far each journal segment is in the database."""
        rows = await self._connection.execute(select(tables.journal_segments))
        return [SegmentRow(**row._mapping) for row in rows]

    async def figures(self, request_ids: Sequence[str]) -> dict[str, tuple[str, int | None, int | None]]:
        """Account, charge and upstream cost of those of these requests that are stored."""
        table = tables.requests
        query = select(table.c.request_id, table.c.account_id, table.c.cost_nano_usd, table.c.upstream_cost_nano_usd)
        rows = await self._connection.execute(query.where(table.c.request_id.in_(request_ids)))
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    async def unpriced(self) -> int:
        """How many requests used tokens at no known price."""
        query = select(func.count()).select_from(tables.requests).where(tables.UNPRICED)
        return int((await self._connection.execute(query)).scalar_one())

    async def _rows(self, statement: Any, after: int, last: int, most: int | None = None) -> Sequence[Any]:
        values = {"after": after, "last": last} | ({} if most is None else {"most": most})
        return (await self._connection.execute(statement, values)).all()


@asynccontextmanager
async def audited(database: Database) -> AsyncIterator[LedgerAudit]:
    """The books as they are now, whatever is posted meanwhile. Raises StorageError."""
    async with database.read() as connection:
        if database.kind == "postgresql":
            await connection.execution_options(isolation_level="REPEATABLE READ")
        yield LedgerAudit(connection)


async def tail_totals(connection: AsyncConnection, after: int) -> dict[str, Total]:
    """What the postings behind the transaction ``after`` add up to, inside the caller's transaction."""
    return await LedgerAudit(connection).totals(after, 2**62)


async def replace_balances(connection: AsyncConnection, totals: Mapping[str, Total]) -> int:
    """Store these balances instead of those that are there; gives how many were others."""
    table = ledger_tables.ledger_balances
    stored = {row.ledger_account: Total(*row[1:]) for row in await connection.execute(select(table))}
    changed = [name for name in stored.keys() | totals.keys() if stored.get(name) != totals.get(name)]
    for names in _pieces(sorted(changed), 500):
        await connection.execute(table.delete().where(table.c.ledger_account.in_(names)))
        rows = [{"ledger_account": name, **_values(totals[name])} for name in names if name in totals]
        if rows:
            await connection.execute(table.insert(), rows)
    return len(changed)


def _values(total: Total) -> dict[str, int]:
    return {
        "balance_nano_usd": total.nano_usd,
        "postings": total.postings,
        "last_transaction": total.newest,
    }


def _pieces(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
