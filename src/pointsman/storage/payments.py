"""Payments by x402 in the database: each authorization once, and how far it has come (canonical/payments.py)."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Index, Row, Table, Text, UniqueConstraint, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.payments import OPEN_STATES, PaymentState
from pointsman.storage.database import Database
from pointsman.storage.tables import metadata

# ``held_until``: until then somebody settles it. ``due_at``: when to look next whether it has arrived, NULL when there
# is nothing more to see. ``transaction_hash`` is written before the transaction is sent. ``first_block`` is the chain's
# height before that: nothing of it can be older. Amounts of the asset are texts: they may have 256 bits.
payments: Final = Table(
    "payments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("payer", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("pay_to", Text, nullable=False),
    Column("amount_atomic", Text, nullable=False),
    Column("amount_nano_usd", BigInteger, nullable=False),
    Column("valid_before", BigInteger, nullable=False),
    Column("first_block", BigInteger, nullable=False),
    Column("transaction_hash", Text),
    Column("reason", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    UniqueConstraint("network", "asset", "payer", "nonce"),
)
Index(None, payments.c.account_id, payments.c.created_at)
Index(
    None,
    payments.c.due_at,
    sqlite_where=text("due_at IS NOT NULL"),
    postgresql_where=text("due_at IS NOT NULL"),
)
_OPEN: Final = tuple(state.value for state in OPEN_STATES)


class PaymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One payment. Instants in us, but ``valid_before`` in seconds as the chain has it."""

    id: str
    account_id: str
    state: PaymentState
    network: str
    asset: str
    payer: str
    nonce: str
    pay_to: str
    amount_atomic: int
    amount_nano_usd: int
    valid_before: int
    first_block: int
    created_at: int
    updated_at: int
    held_until: int
    due_at: int | None
    transaction_hash: str | None = None
    reason: str | None = None

    @property
    def key(self) -> str:
        """Its name in the ledger: the authorization's own, which can be used once only."""
        return f"x402:{self.network}:{self.asset}:{self.payer}:{self.nonce}"


class PaymentRepository:
    """Asks and changes the table. Every change of a state names the state before it: of two only one happens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: PaymentRow) -> None:
        """Keep a new payment. Raises AlreadyExistsError when its authorization is known."""
        values = msgspec.structs.asdict(row) | {"state": row.state.value, "amount_atomic": str(row.amount_atomic)}
        async with self._database.write() as connection:
            await connection.execute(insert(payments).values(**values))

    async def get(self, payment_id: str) -> PaymentRow | None:
        """A payment by its id."""
        return await self._one(payments.c.id == payment_id)

    async def find(self, network: str, asset: str, payer: str, nonce: str) -> PaymentRow | None:
        """The payment with this authorization."""
        where = (payments.c.network == network, payments.c.asset == asset, payments.c.payer == payer)
        return await self._one(*where, payments.c.nonce == nonce)

    async def _one(self, *where: Any) -> PaymentRow | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(payments).where(*where))).one_or_none()
        return None if row is None else _read(row)

    async def due(self, now: int | None, after: str, most: int) -> list[PaymentRow]:
        """Up to ``most`` open payments, by id behind ``after``, that are to be looked at by ``now``; None: all."""
        query = select(payments).where(payments.c.due_at.is_not(None), payments.c.id > after)
        if now is not None:
            query = query.where(payments.c.due_at <= now)
        async with self._database.read() as connection:
            return [_read(row) for row in await connection.execute(query.order_by(payments.c.id).limit(most))]

    async def hold(self, payment_id: str, now: int, until: int) -> bool:
        """Take an open payment to settle it; False: somebody else has it, or it is not open any more."""
        free = (payments.c.id == payment_id, payments.c.state.in_(_OPEN), payments.c.held_until <= now)
        return await self._change(free, held_until=until, updated_at=now)

    async def sent(self, payment_id: str, transaction: str, now: int) -> None:
        """Note the transaction that is about to be sent."""
        await self._change((payments.c.id == payment_id,), transaction_hash=transaction, updated_at=now)

    async def settled(self, payment_id: str, transaction: str, now: int) -> bool:
        """It has arrived; False: that was known."""
        intended = (payments.c.id == payment_id, payments.c.state == PaymentState.INTENDED.value)
        values: dict[str, Any] = {"state": PaymentState.SETTLED.value, "transaction_hash": transaction}
        return await self._change(intended, **values, due_at=now, updated_at=now)

    async def credited(self, connection: AsyncConnection, payment_id: str, now: int) -> bool:
        """In the caller's transaction, which posts it: it is credited; False: it was already."""
        settled = (payments.c.id == payment_id, payments.c.state == PaymentState.SETTLED.value)
        values: dict[str, Any] = {"state": PaymentState.CREDITED.value, "reason": None, "updated_at": now}
        done = await connection.execute(update(payments).where(*settled).values(**values, due_at=None, held_until=0))
        return done.rowcount > 0

    async def end(self, row: PaymentRow, state: PaymentState, reason: str, now: int) -> bool:
        """Nothing more comes of an intended payment; False: it was not one any more, or somebody has just taken it."""
        intended = (payments.c.id == row.id, payments.c.state == PaymentState.INTENDED.value)
        as_known = (*intended, payments.c.held_until == row.held_until)
        values: dict[str, Any] = {"state": state.value, "reason": reason, "updated_at": now}
        return await self._change(as_known, **values, due_at=None, held_until=0)

    async def let_go(self, payment_id: str, reason: str | None, now: int) -> None:
        """Nobody settles it any more; ``reason`` is why not, and the sweep still looks whether it arrives."""
        open_ = (payments.c.id == payment_id, payments.c.state.in_(_OPEN))
        await self._change(open_, reason=reason, held_until=0, updated_at=now)

    async def look_again(self, row: PaymentRow, at: int) -> bool:
        """Put off the next look at a payment; False: somebody else looks at it, or it is not open any more."""
        unchanged = (payments.c.id == row.id, payments.c.due_at == row.due_at)
        return await self._change(unchanged, due_at=at)

    async def _change(self, where: Sequence[Any], **values: Any) -> bool:
        async with self._database.write() as connection:
            return (await connection.execute(update(payments).where(*where).values(**values))).rowcount > 0


def _read(row: Row[Any]) -> PaymentRow:
    values = dict(row._mapping)
    values["state"], values["amount_atomic"] = PaymentState(row.state), int(row.amount_atomic)
    return PaymentRow(**values)
