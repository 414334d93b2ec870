"""The ledger in the database: posts transactions, each once, and tells balances and entries."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import CursorResult, Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.ledger import Draft, LedgerAccount, TransactionKind, credit_of
from pointsman.storage import ledger_tables as tables
from pointsman.storage.budget_leases import CREDIT
from pointsman.storage.budget_tables import budget_periods
from pointsman.storage.database import AlreadyExistsError, Database


class Posted(NamedTuple):
    """A transaction's number, and whether it had been posted before."""

    sequence: int
    replayed: bool


class Range(NamedTuple):
    """The request rows, by their sequence, that a usage transaction sums up those of one account of."""

    first: int
    last: int


class Prepaid(NamedTuple):
    """What an account has left, and what its calls have cost, in nano-USD."""

    balance: int
    spent: int


class KnownTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """What was posted under a key; ``amounts`` in nano-USD by the name of the ledger account."""

    sequence: int
    kind: str
    subject: str | None
    amounts: dict[str, int]

    def amount(self, account: LedgerAccount) -> int:
        """What it moved to (above 0) or from this ledger account."""
        return self.amounts.get(account.id, 0)


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One posting with its transaction, as an account's owner sees it. Amounts in nano-USD, instants in us."""

    sequence: int
    kind: TransactionKind
    account_id: str
    amount_nano_usd: int
    created_at: int
    source: str
    note: str
    subject: str | None
    requests: int
    idempotency_key: str


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger account's postings add up to, as stored."""

    ledger_account: str
    balance_nano_usd: int
    postings: int
    last_transaction: int


_TRANSACTIONS: Final = tables.ledger_transactions
_POSTINGS: Final = tables.ledger_postings
_BALANCES: Final = tables.ledger_balances

_NEW_ACCOUNT: Final = text(
    "INSERT INTO ledger_accounts (id, kind, owner, created_at) VALUES (:id, :kind, :owner, :now)"
    " ON CONFLICT (id) DO NOTHING"
)
# These three run with every batch of requests: as the driver has them, one statement each.
_NEW_TRANSACTION: Final = (
    "INSERT INTO ledger_transactions (idempotency_key, kind, account_id, created_at, source, note, subject, requests,"
    " first_request, last_request) VALUES {rows} ON CONFLICT (idempotency_key) DO NOTHING RETURNING sequence"
)
_NEW_POSTINGS: Final = (
    "INSERT INTO ledger_postings (ledger_account, transaction_sequence, amount_nano_usd) VALUES {rows}"
)
_NEW_BALANCES: Final = (
    "INSERT INTO ledger_balances (ledger_account, last_transaction, balance_nano_usd, postings)"
    " VALUES {rows} ON CONFLICT (ledger_account) DO UPDATE SET"
    " balance_nano_usd = ledger_balances.balance_nano_usd + excluded.balance_nano_usd,"
    " postings = ledger_balances.postings + 1, last_transaction = excluded.last_transaction"
    " RETURNING ledger_account, postings"
)


class LedgerRepository:
    """Asks and adds to the ledger's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def post(self, connection: AsyncConnection, draft: Draft, over: Range | None = None) -> Posted:
        """Post a transaction inside the caller's; ``over`` are the requests that a usage transaction sums up.

        The same key with the same amounts is a replay and changes nothing. Raises AlreadyExistsError when the key
        belongs to another transaction.
        """
        await self._database.in_order(connection)
        first, last = (None, None) if over is None else over
        texts = (draft.key, draft.kind.value, draft.account_id, draft.created_at, draft.source, draft.note)
        row = (*texts, draft.subject, draft.requests, first, last)
        sequence = (await self._insert(connection, _NEW_TRANSACTION, [row])).scalar_one_or_none()
        if sequence is None:
            return Posted(await self._replayed(connection, draft), replayed=True)
        amounts = {account.id: amount for account, amount in draft.amounts.items()}
        postings = [(name, sequence, amounts[name]) for name in sorted(amounts)]
        await self._insert(connection, _NEW_POSTINGS, postings)
        balances = await self._insert(connection, _NEW_BALANCES, [(*posting, 1) for posting in postings])
        new = {row.ledger_account for row in balances if row.postings == 1}
        if new:
            accounts = [one for one in draft.amounts if one.id in new]
            names = [{"id": one.id, "kind": one.kind.value, "owner": one.owner} for one in accounts]
            await connection.execute(_NEW_ACCOUNT, [{**name, "now": draft.created_at} for name in names])
        return Posted(int(sequence), replayed=False)

    async def _insert(
        self, connection: AsyncConnection, statement: str, rows: Sequence[tuple[Any, ...]]
    ) -> CursorResult[Any]:
        """Run ``statement`` with these rows in it."""
        mark = iter(range(1, 1 + sum(map(len, rows))))
        lite = self._database.kind == "sqlite"
        places = (", ".join("?" if lite else f"${next(mark)}" for _ in row) for row in rows)
        values = tuple(value for row in rows for value in row)
        return await connection.exec_driver_sql(statement.format(rows=", ".join(f"({one})" for one in places)), values)

    async def _replayed(self, connection: AsyncConnection, draft: Draft) -> int:
        """The number of the transaction that has the draft's key. Raises AlreadyExistsError when it is another."""
        known = await self.find_in(connection, draft.key)
        asked = {account.id: amount for account, amount in draft.amounts.items()}
        if known is None or (known.amounts, known.kind, known.subject) != (asked, draft.kind.value, draft.subject):
            raise AlreadyExistsError(f"the idempotency key {draft.key} was used for another transaction")
        return known.sequence

    async def find_in(self, connection: AsyncConnection, key: str) -> KnownTransaction | None:
        """The transaction with this idempotency key, inside the caller's transaction."""
        query = select(_TRANSACTIONS).where(_TRANSACTIONS.c.idempotency_key == key)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        found = select(_POSTINGS.c.ledger_account, _POSTINGS.c.amount_nano_usd).where(
            _POSTINGS.c.transaction_sequence == row.sequence
        )
        amounts = {name: amount for name, amount in (await connection.execute(found)).all()}
        return KnownTransaction(sequence=row.sequence, kind=row.kind, subject=row.subject, amounts=amounts)

    async def credit(self, account_id: str) -> int:
        """What this account may still spend, in nano-USD; below 0: it spent more than it had."""
        async with self._database.read() as connection:
            return await self.balance_in(connection, credit_of(account_id))

    async def credit_in(self, connection: AsyncConnection, account_id: str) -> int:
        """The same inside the caller's transaction."""
        return await self.balance_in(connection, credit_of(account_id))

    async def has_paid(self, account_id: str) -> bool:
        """Whether anything was ever paid in for this account."""
        paid = (_TRANSACTIONS.c.account_id == account_id, _TRANSACTIONS.c.kind == text("'top_up'"))
        query = select(_TRANSACTIONS.c.sequence).where(*paid).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def received_and_used(self, account_id: str) -> tuple[int, int]:
        """What an account was credited in all, less what was paid out again, and what its calls were charged, less
        refunds. In nano-USD; the difference is its balance.
        """
        calls = (TransactionKind.USAGE.value, TransactionKind.REFUND.value)
        used = func.coalesce(func.sum(_POSTINGS.c.amount_nano_usd).filter(_TRANSACTIONS.c.kind.in_(calls)), 0)
        query = (
            select(func.coalesce(func.sum(_POSTINGS.c.amount_nano_usd), 0), used)
            .join(_TRANSACTIONS, _TRANSACTIONS.c.sequence == _POSTINGS.c.transaction_sequence)
            .where(_POSTINGS.c.ledger_account == credit_of(account_id).id)
        )
        async with self._database.read() as connection:
            balance, charged = map(int, (await connection.execute(query)).one())
        return balance - charged, -charged

    async def credits(self, account_ids: Sequence[str]) -> dict[str, int]:
        """What each of these accounts may still spend, in nano-USD."""
        names = {credit_of(account_id).id: account_id for account_id in account_ids}
        query = select(_BALANCES.c.ledger_account, _BALANCES.c.balance_nano_usd)
        async with self._database.read() as connection:
            rows = await connection.execute(query.where(_BALANCES.c.ledger_account.in_(list(names))))
            found = {names[row.ledger_account]: row.balance_nano_usd for row in rows}
        return {account_id: found.get(account_id, 0) for account_id in account_ids}

    async def balance_in(self, connection: AsyncConnection, account: LedgerAccount) -> int:
        """A ledger account's balance inside the caller's transaction; 0 for one that has no postings."""
        query = select(_BALANCES.c.balance_nano_usd).where(_BALANCES.c.ledger_account == account.id)
        found: int | None = (await connection.execute(query)).scalar_one_or_none()
        return found or 0

    async def prepaid(self, account_id: str) -> Prepaid:
        """How an account stands whose calls are all bound by its credit, both figures of one moment."""
        spent = select(func.coalesce(func.sum(budget_periods.c.spent_nano_usd), 0))
        spent = spent.where(budget_periods.c.budget_id == CREDIT + account_id)
        balance = select(_BALANCES.c.balance_nano_usd).where(_BALANCES.c.ledger_account == credit_of(account_id).id)
        query = select(func.coalesce(balance.scalar_subquery(), 0), spent.scalar_subquery())
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one()
        return Prepaid(balance=int(row[0]), spent=int(row[1]))

    async def balances(self, after: str, limit: int) -> tuple[Balance, ...]:
        """Up to ``limit`` balances, by name, behind the ledger account ``after``."""
        async with self._database.read() as connection:
            return tuple(Balance(**row._mapping) for row in await connection.execute(balances_query(after, limit)))

    async def refunded(self, connection: AsyncConnection, request_id: str, account_id: str) -> int:
        """What was given back for a request so far, in nano-USD, inside the caller's transaction."""
        query = subject_query(request_id, account_id)
        return int((await connection.execute(query)).scalar_one())

    async def entries(self, account: LedgerAccount, before: int | None, limit: int) -> tuple[LedgerEntry, ...]:
        """Up to ``limit`` entries of a ledger account, newest first, from before the transaction ``before``."""
        query = entries_query(account, before, limit)
        async with self._database.read() as connection:
            return tuple(_entry(row) for row in await connection.execute(query))


def balances_query(after: str, limit: int) -> Any:
    """The query of a page of balances, by name."""
    return select(_BALANCES).where(_BALANCES.c.ledger_account > after).order_by(_BALANCES.c.ledger_account).limit(limit)


def subject_query(request_id: str, account_id: str) -> Any:
    """The query of what was refunded of a request: first its refunds, then the postings of each."""
    refunds = select(_TRANSACTIONS.c.sequence).where(
        _TRANSACTIONS.c.subject == request_id, _TRANSACTIONS.c.kind == TransactionKind.REFUND.value
    )
    return select(func.coalesce(func.sum(_POSTINGS.c.amount_nano_usd), 0)).where(
        _POSTINGS.c.ledger_account == credit_of(account_id).id, _POSTINGS.c.transaction_sequence.in_(refunds)
    )


def entries_query(account: LedgerAccount, before: int | None, limit: int) -> Any:
    """The query of a page of entries: it walks the postings' primary key backwards."""
    query = (
        select(_TRANSACTIONS, _POSTINGS.c.amount_nano_usd)
        .join(_POSTINGS, _TRANSACTIONS.c.sequence == _POSTINGS.c.transaction_sequence)
        .where(_POSTINGS.c.ledger_account == account.id)
        .order_by(_POSTINGS.c.transaction_sequence.desc())
        .limit(limit)
    )
    return query if before is None else query.where(_POSTINGS.c.transaction_sequence < before)


def _entry(row: Row[Any]) -> LedgerEntry:
    values = {name: getattr(row, name) for name in LedgerEntry.__struct_fields__}
    values["kind"] = TransactionKind(row.kind)
    return LedgerEntry(**values)
