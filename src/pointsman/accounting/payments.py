"""Takes payments by x402: checks them, has them settled, and credits each authorization once.

A payment is stored before any money can move, and its state with every step (canonical/payments.py). The same payment
presented again goes on where it stood, or is answered as the first time. Whoever dies on the way leaves a row that
`PaymentWatch` (payment_watch.py) compares with the chain.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, Protocol

import msgspec
import structlog

from pointsman.accounting.carrying import Carrier
from pointsman.accounting.payment_books import PaymentBooks
from pointsman.canonical.payments import (
    EXPIRED,
    NONCE_USED,
    NOT_YET_VALID,
    RECIPIENT_MISMATCH,
    TRANSACTION_FAILED,
    VALUE_MISMATCH,
    Payment,
    PaymentPending,
    PaymentRefused,
    PaymentState,
)
from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.payments import PaymentRepository, PaymentRow

LEAST_SECONDS: Final = 6  # how long an authorization must still hold, as x402's reference facilitator demands
HOLD_SPARE_US: Final = 60_000_000  # beyond the time that settling may take: for checking it and asking the chain
LOOK_SECONDS: Final = 0.2
FIRST_LOOK_US: Final = 5_000_000
NEVER_SECONDS: Final = 2**62  # an authorization that holds for ever
log = structlog.get_logger("pointsman.payments")


class Sight(Enum):
    """What the chain says of an authorization."""

    ARRIVED = "arrived"  # it was used for just this payment
    GONE = "gone"  # it was used otherwise, cancelled, or is over: nothing can come any more
    WAITING = "waiting"  # used or sent, but not yet deep enough to be believed
    OPEN = "open"  # not used, and still could be


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """``transaction`` is the hash of the one by which it arrived, ``reason`` why it can't any more."""

    sight: Sight
    transaction: str = ""
    reason: str = ""


class Chain(Protocol):
    """Looks at the chain. Raises GatewayError when its node gives no answer."""

    async def height(self) -> int:
        """The number of the newest block."""
        ...

    async def look(self, row: PaymentRow) -> Look:
        """How a payment stands there."""
        ...


Note = Callable[[str], Awaitable[None]]


class Settler(Protocol):
    """Checks payments and carries them out: our own relayer, or a facilitator."""

    async def verify(self, payment: Payment) -> None:
        """Raises PaymentRefused for one that could not be settled, GatewayError when that can't be found out."""
        ...

    async def settle(self, row: PaymentRow, payment: Payment, note: Note) -> str:
        """Move the money; gives the transaction's hash, which ``note`` was told before it was sent where it is known.

        Raises PaymentPending or GatewayError when nobody knows whether it moves, PaymentRefused when it does not.
        """
        ...


class PaymentDesk:
    """The one way by which payments come in. ``seconds``: how long settling one may take.

    Without a ``chain`` nobody but the facilitator can say what became of a payment whose settling was interrupted.
    """

    def __init__(
        self,
        rows: PaymentRepository,
        books: PaymentBooks,
        clock: Clock,
        settler: Settler,
        chain: Chain | None,
        seconds: float,
    ) -> None:
        self._rows = rows
        self._books = books
        self._clock = clock
        self._settler = settler
        self._chain = chain
        self._seconds = seconds
        self._carrier = Carrier()
        self._closing = False

    async def pay(self, account_id: str, payment: Payment) -> PaymentRow:
        """Take a payment for an account's credit; gives it credited.

        Raises PaymentRefused with x402's reason, GatewayError when nothing was begun and it can't be checked now,
        StorageError. Settling goes on though the caller goes away.
        """
        known = await self._find(payment)
        if known is None:
            row = await self._begin(account_id, payment)
            if row is not None:
                return await self._carrier.whole(self._carry(row, payment, resumed=False))
            known = await self._find(payment)
        if known is None or not _is_same(known, account_id, payment):
            raise PaymentRefused(NONCE_USED)
        if known.state is PaymentState.CREDITED:
            return known
        now = self._clock.now_us()
        if await self._rows.hold(known.id, now, now + self._hold_us):
            held = await self._rows.get(known.id) or known  # as the one left it who had it before
            return await self._carrier.whole(self._carry(held, payment, resumed=True))
        return await self._await_other(known)

    async def _find(self, payment: Payment) -> PaymentRow | None:
        offer, signed = payment.offer, payment.authorization
        return await self._rows.find(offer.network, offer.asset.lower(), signed.payer, signed.nonce)

    async def _begin(self, account_id: str, payment: Payment) -> PaymentRow | None:
        """A new payment, checked and stored; None: somebody else has begun it in the meantime."""
        self._check(payment)
        # Before the chain is asked whether it is unused: whoever uses it does so in a later block.
        height = await self._chain.height() if self._chain is not None else 0
        try:
            await self._settler.verify(payment)
        except PaymentRefused:
            if await self._find(payment) is None:
                raise
            return None  # the chain refuses what the other one has just carried out
        row = self._intend(account_id, payment, height)
        try:
            await self._rows.add(row)
        except AlreadyExistsError:
            return None
        return row

    @property
    def _hold_us(self) -> int:
        return int(self._seconds * 1e6) + HOLD_SPARE_US

    def _check(self, payment: Payment) -> None:
        """Whether what was signed is what is asked, now. Raises PaymentRefused."""
        offer, signed = payment.offer, payment.authorization
        if signed.pay_to != offer.pay_to.lower():
            raise PaymentRefused(RECIPIENT_MISMATCH)
        if signed.value != offer.atomic:
            raise PaymentRefused(VALUE_MISMATCH)
        now = self._clock.now_us() // 1_000_000
        if signed.valid_before < now + LEAST_SECONDS:
            raise PaymentRefused(EXPIRED)
        if signed.valid_after > now:
            raise PaymentRefused(NOT_YET_VALID)

    def _intend(self, account_id: str, payment: Payment, height: int) -> PaymentRow:
        offer, signed = payment.offer, payment.authorization
        now = self._clock.now_us()
        return PaymentRow(
            id=self._clock.new_id("pay", now),
            account_id=account_id,
            state=PaymentState.INTENDED,
            network=offer.network,
            asset=offer.asset.lower(),
            payer=signed.payer,
            nonce=signed.nonce,
            pay_to=signed.pay_to,
            amount_atomic=signed.value,
            amount_nano_usd=offer.nano_usd,
            valid_before=min(signed.valid_before, NEVER_SECONDS),
            first_block=height,
            created_at=now,
            updated_at=now,
            held_until=now + self._hold_us,
            due_at=now + FIRST_LOOK_US,
        )

    async def _carry(self, row: PaymentRow, payment: Payment, *, resumed: bool) -> PaymentRow:
        """Settle and credit a payment that is ours to settle."""
        try:
            transaction = await (self._resume(row, payment) if resumed else self._settle(row, payment))
        except PaymentPending:
            await self._let_go(row, None)
            raise
        except PaymentRefused as refused:
            found = await self._seen(row)
            if found is None or found.sight is not Sight.ARRIVED:
                # Without a chain this says nothing of a settlement before, of which nobody knows what it did.
                unknown = resumed and row.reason is None and self._chain is None
                await self._let_go(row, None if unknown else refused.reason)
                raise
            transaction = found.transaction  # somebody else was faster with the same authorization
        except GatewayError as error:
            log.warning("payment not settled yet", payment=row.id, reason=error.message)
            await self._let_go(row, None)
            raise PaymentPending from error
        return await self._books.arrived(row, transaction)

    async def _settle(self, row: PaymentRow, payment: Payment) -> str:
        async def note(transaction: str) -> None:
            await self._rows.sent(row.id, transaction, self._clock.now_us())

        return await self._settler.settle(row, payment, note)

    async def _resume(self, row: PaymentRow, payment: Payment) -> str:
        """The transaction of a payment that was begun before: what came of that decides whether to begin again."""
        if row.state is PaymentState.SETTLED:
            return row.transaction_hash or ""
        found = await self._seen_at_last(row)
        if found.sight is Sight.ARRIVED:
            return found.transaction
        if found.sight is Sight.GONE:
            await self._rows.end(row, PaymentState.FAILED, found.reason, self._clock.now_us())
            raise PaymentRefused(found.reason)
        try:
            self._check(payment)
            await self._settler.verify(payment)
        except PaymentRefused as refused:
            if refused.reason == NONCE_USED and self._chain is None:
                await self._unclear(row)
            raise
        return await self._settle(row, payment)

    async def _seen_at_last(self, row: PaymentRow) -> Look:
        """What the chain says when it no longer waits. Raises PaymentPending."""
        if self._chain is None:
            return Look(sight=Sight.OPEN)
        deadline = self._clock.monotonic() + self._seconds
        while True:
            found = await self._chain.look(row)
            if found.sight is not Sight.WAITING:
                return found
            if self._closing or self._clock.monotonic() > deadline:
                raise PaymentPending
            await asyncio.sleep(LOOK_SECONDS)

    async def _seen(self, row: PaymentRow) -> Look | None:
        """What the chain says now; None: it can't be asked."""
        try:
            return await self._chain.look(row) if self._chain is not None else None
        except GatewayError:
            return None

    async def _unclear(self, row: PaymentRow) -> None:
        await self._rows.end(row, PaymentState.UNCLEAR, TRANSACTION_FAILED, self._clock.now_us())
        log.error("nobody can say whether a payment arrived; look at the chain, and credit it by hand", payment=row.id)

    async def _let_go(self, row: PaymentRow, reason: str | None) -> None:
        await self._rows.let_go(row.id, reason, self._clock.now_us())

    async def _await_other(self, row: PaymentRow) -> PaymentRow:
        """The outcome of a payment that somebody else settles at this moment."""
        deadline = self._clock.monotonic() + self._seconds
        while True:
            found = await self._rows.get(row.id) or row
            if found.state is PaymentState.CREDITED:
                return found
            if found.state in (PaymentState.FAILED, PaymentState.UNCLEAR):
                raise PaymentRefused(found.reason or TRANSACTION_FAILED)
            if found.held_until == 0 and found.state is PaymentState.INTENDED:
                raise PaymentRefused(found.reason) if found.reason else PaymentPending()
            if self._clock.monotonic() > deadline:
                raise PaymentPending
            await asyncio.sleep(LOOK_SECONDS)

    async def aclose(self) -> None:
        """Wait for what is being settled, which a settler that is closed ends soon; then for what is written.

        Nothing waits for the chain any more: what is on its way there is looked for at the next start.
        """
        self._closing = True
        await self._carrier.aclose()
        await self._books.aclose()


def _is_same(row: PaymentRow, account_id: str, payment: Payment) -> bool:
    signed = payment.authorization
    return (row.account_id, row.pay_to, row.amount_atomic) == (account_id, signed.pay_to, signed.value)
