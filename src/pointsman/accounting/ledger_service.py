"""Moves money between accounts, each movement exactly once: top-ups, grants, transfers, refunds, corrections.

Usage is posted by the projector, not here. Every movement carries an idempotency key of its caller's: the same key with
the same amounts changes nothing and answers as the first time, also over a crash and on another node.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.accounting.carrying import Carrier
from pointsman.accounting.usage_postings import charge
from pointsman.canonical.ledger import (
    MOST_NANO_USD,
    AccountKind,
    Draft,
    LedgerAccount,
    TransactionKind,
    credit_of,
)
from pointsman.canonical.record import RequestRecord
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.storage.database import AlreadyExistsError, Database
from pointsman.storage.ledger import Balance, LedgerEntry, LedgerRepository, Posted
from pointsman.storage.requests import RequestRepository

MOST_TEXT: Final = 200  # characters of a key, a source or a note
MOST_ENTRIES: Final = 500  # of a page
_OTHER_SIDE: Final = {
    TransactionKind.TOP_UP: AccountKind.EXTERNAL,
    TransactionKind.GRANT: AccountKind.PROMOTIONS,
    TransactionKind.WITHDRAWAL: AccountKind.EXTERNAL,
    TransactionKind.ADJUSTMENT: AccountKind.ADJUSTMENTS,
}


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be moved to or from an account: nano-USD, once for each ``key``. ``source`` says who asked."""

    account_id: str
    nano_usd: int
    key: str
    source: str
    note: str = ""


class LedgerService:
    """Posts movements and tells balances. Raises StorageError when the database does not work."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._requests = RequestRepository(database)
        self._carrier = Carrier()
        self.repository: Final = LedgerRepository(database)

    async def top_up(self, movement: Movement) -> Posted:
        """Credit what was paid from outside. Raises GatewayError(INVALID_REQUEST)."""
        return await self._post(self.drafted(movement, TransactionKind.TOP_UP))

    async def grant(self, movement: Movement) -> Posted:
        """Credit what is given away. Raises GatewayError(INVALID_REQUEST)."""
        return await self._post(self.drafted(movement, TransactionKind.GRANT))

    async def adjust(self, movement: Movement) -> Posted:
        """Correct an account by hand; ``nano_usd`` may be below 0. Raises GatewayError(INVALID_REQUEST)."""
        return await self._post(self.drafted(movement, TransactionKind.ADJUSTMENT))

    async def withdraw(self, movement: Movement) -> Posted:
        """Pay credit out. Raises GatewayError(INVALID_REQUEST), and PAYMENT_REQUIRED when there is not enough."""
        draft = self.drafted(movement, TransactionKind.WITHDRAWAL)
        return await self._post(draft, payer=movement.account_id, least=movement.nano_usd)

    async def transfer(self, movement: Movement, to: str) -> Posted:
        """Move credit from the movement's account to another one.

        Raises GatewayError(INVALID_REQUEST), and PAYMENT_REQUIRED when the giver has not enough.
        """
        _check(movement, signed=False)
        if to == movement.account_id:
            raise GatewayError(Kind.INVALID_REQUEST, "an account can't pay itself", param="to")
        amounts = {credit_of(movement.account_id): -movement.nano_usd, credit_of(to): movement.nano_usd}
        draft = self._draft(movement, TransactionKind.TRANSFER, amounts)
        return await self._post(draft, payer=movement.account_id, least=movement.nano_usd)

    async def refund(self, request_id: str, key: str, nano_usd: int | None = None, note: str = "") -> Posted:
        """Give back what a request was charged, or a part of it; all refunds together never exceed the charge.

        Raises GatewayError(NOT_FOUND) for an unknown request, INVALID_REQUEST when so much was not charged.
        """
        record = await self._requests.find(request_id)
        if record is None:
            raise GatewayError(Kind.NOT_FOUND, f"there is no request {request_id}", param="request_id")
        return await self._carrier.whole(self._refund_once(record, key, nano_usd, note))

    async def _refund_once(self, record: RequestRecord, key: str, nano_usd: int | None, note: str) -> Posted:
        request_id = record.request_id
        income = AccountKind.BYOK_FEES if record.byok else AccountKind.USAGE
        async with self._writing() as connection:
            await self._database.in_order(connection)
            known = await self.repository.find_in(connection, f"{TransactionKind.REFUND.value}:{key}")
            left = charge(record) - await self.repository.refunded(connection, request_id, record.account_id)
            amount = known.amount(credit_of(record.account_id)) if known is not None and nano_usd is None else nano_usd
            amount = left if amount is None else amount
            movement = Movement(account_id=record.account_id, nano_usd=amount, key=key, source="refund", note=note)
            if known is None and amount > left:
                raise GatewayError(
                    Kind.INVALID_REQUEST, f"only {left} nano-USD of this charge are left", param="nano_usd"
                )
            _check(movement, signed=False)
            amounts = {credit_of(record.account_id): amount, LedgerAccount(income): -amount}
            draft = self._draft(movement, TransactionKind.REFUND, amounts, subject=request_id)
            return await self.repository.post(connection, draft)

    async def credit(self, account_id: str) -> int:
        """What an account may still spend, in nano-USD; below 0 when it spent more than it had."""
        return await self.repository.credit(account_id)

    async def balances(self, after: str = "", limit: int = MOST_ENTRIES) -> tuple[Balance, ...]:
        """A page of the ledger's balances, by name, behind the ledger account ``after``."""
        return await self.repository.balances(after, min(limit, MOST_ENTRIES))

    async def entries(
        self, account: LedgerAccount, before: int | None = None, limit: int = 50
    ) -> tuple[LedgerEntry, ...]:
        """A page of an account's entries, newest first; go on with the sequence of the last one as ``before``."""
        return await self.repository.entries(account, before, min(limit, MOST_ENTRIES))

    def drafted(self, movement: Movement, kind: TransactionKind) -> Draft:
        """A movement between an account and the outside as a transaction, to be posted inside one of the caller's.

        Raises GatewayError(INVALID_REQUEST) naming the field.
        """
        _check(movement, signed=kind is TransactionKind.ADJUSTMENT)
        amount = -movement.nano_usd if kind is TransactionKind.WITHDRAWAL else movement.nano_usd
        amounts = {credit_of(movement.account_id): amount, LedgerAccount(_OTHER_SIDE[kind]): -amount}
        return self._draft(movement, kind, amounts)

    def _draft(
        self,
        movement: Movement,
        kind: TransactionKind,
        amounts: dict[LedgerAccount, int],
        subject: str | None = None,
    ) -> Draft:
        return Draft(
            key=f"{kind.value}:{movement.key}",
            kind=kind,
            account_id=movement.account_id,
            created_at=self._clock.now_us(),
            source=movement.source,
            note=movement.note,
            amounts=amounts,
            subject=subject,
        )

    async def _post(self, draft: Draft, payer: str | None = None, least: int = 0) -> Posted:
        return await self._carrier.whole(self._post_once(draft, payer, least))

    async def _post_once(self, draft: Draft, payer: str | None, least: int) -> Posted:
        """Post, if ``payer`` has ``least``."""
        async with self._writing() as connection:
            await self._database.in_order(connection)
            if payer is not None and await self.repository.find_in(connection, draft.key) is None:
                left = await self.repository.balance_in(connection, credit_of(payer))
                if left < least:
                    raise GatewayError(Kind.PAYMENT_REQUIRED, f"{payer} has only {left} nano-USD of credit")
            return await self.repository.post(connection, draft)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._database.write() as connection:
                yield connection
        except AlreadyExistsError as error:
            raise GatewayError(Kind.INVALID_REQUEST, str(error), param="idempotency_key", status=409) from error


def _check(movement: Movement, *, signed: bool) -> None:
    """Raises GatewayError(INVALID_REQUEST) naming the field."""
    size = abs(movement.nano_usd) if signed else movement.nano_usd
    if not 0 < size <= MOST_NANO_USD:
        raise GatewayError(
            Kind.INVALID_REQUEST, f"must be above 0 and at most {MOST_NANO_USD} nano-USD", param="nano_usd"
        )
    for name in ("account_id", "key", "source", "note"):
        value = getattr(movement, name)
        if len(value) > MOST_TEXT or "\0" in value or (not value and name != "note"):
            raise GatewayError(Kind.INVALID_REQUEST, f"must have 1 to {MOST_TEXT} characters", param=name)
