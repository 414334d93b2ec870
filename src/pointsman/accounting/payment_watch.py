"""Compares payments that were begun with the chain, at the start and then again and again, and credits what arrived.

It never moves money: a payer whose call was broken off has either paid, or is free to pay anew.
"""

import asyncio
from typing import Final

import structlog

from pointsman.accounting.payment_books import PaymentBooks
from pointsman.accounting.payments import Chain, Sight
from pointsman.canonical.payments import EXPIRED, TRANSACTION_FAILED, PaymentState
from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.storage.database import AlreadyExistsError, StorageError
from pointsman.storage.payments import PaymentRepository, PaymentRow

WATCH_SECONDS: Final = 2.0
PAGE: Final = 50
SHORTEST_WAIT_US: Final = 2_000_000
LONGEST_WAIT_US: Final = 3_600_000_000
DAY_US: Final = 86_400_000_000
LONGEST_VALID_US: Final = 30 * DAY_US  # of authorizations that are signed for longer, the time that is waited for them
PATIENCE_US: Final = 7 * DAY_US  # with a chain that says nothing of a payment whose time is over
log = structlog.get_logger("pointsman.payments")


class PaymentWatch:
    """One for each installation is enough; several disturb each other no more than they help."""

    def __init__(self, rows: PaymentRepository, books: PaymentBooks, clock: Clock, chain: Chain | None) -> None:
        self._rows = rows
        self._books = books
        self._clock = clock
        self._chain = chain

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; first everything that is open, then what is due."""
        first = True
        while not stop.is_set():
            try:
                await self.step(stop, everything=first)
                first = False
            except StorageError as error:
                log.warning("payments not looked at", reason=str(error))
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass

    async def step(self, stop: asyncio.Event | None = None, *, everything: bool = False) -> int:
        """Look at the payments that are due, until ``stop`` is set; gives how many were credited.

        Raises StorageError.
        """
        now, after, credited = None if everything else self._clock.now_us(), "", 0
        while rows := await self._rows.due(now, after, PAGE):
            for row in rows:
                if stop is not None and stop.is_set():
                    return credited
                if await self._rows.look_again(row, self._next(row)):
                    credited += await self._try_look(row)
            after = rows[-1].id
        return credited

    def _next(self, row: PaymentRow) -> int:
        """Soon for new ones, seldom for old ones: half their age later."""
        now = self._clock.now_us()
        return now + min(LONGEST_WAIT_US, max(SHORTEST_WAIT_US, (now - row.created_at) // 2))

    async def _try_look(self, row: PaymentRow) -> bool:
        """Whether it is credited now. What is wrong with one payment keeps no other one waiting."""
        try:
            return await self._look(row)
        except (GatewayError, StorageError, AlreadyExistsError) as error:
            log.warning("payment not looked at", payment=row.id, reason=str(error))
            if isinstance(error, GatewayError) and self._over_since(row) > PATIENCE_US:
                await self._close(row, PaymentState.UNCLEAR, TRANSACTION_FAILED)
            return False

    async def _look(self, row: PaymentRow) -> bool:
        if row.state is PaymentState.SETTLED:
            found = await self._books.arrived(row, row.transaction_hash or "")
            return found.state is PaymentState.CREDITED
        if self._chain is None:
            await self._give_up(row)
            return False
        look = await self._chain.look(row)
        if look.sight is Sight.ARRIVED:
            found = await self._books.arrived(row, look.transaction)
            return found.state is PaymentState.CREDITED
        if look.sight is Sight.GONE:
            await self._close(row, PaymentState.FAILED, look.reason)
        elif self._over_since(row) > PATIENCE_US:
            unused = look.sight is Sight.OPEN
            state, reason = (PaymentState.FAILED, EXPIRED) if unused else (PaymentState.UNCLEAR, TRANSACTION_FAILED)
            await self._close(row, state, reason)
        return False

    def _over_since(self, row: PaymentRow) -> int:
        """For how long (us) nobody waits for a payment any more; below 0 while somebody does."""
        now = self._clock.now_us()
        return now - max(min(row.valid_before * 1_000_000, row.created_at + LONGEST_VALID_US), row.held_until)

    async def _give_up(self, row: PaymentRow) -> None:
        """Without a chain: when its time is over, it either was refused or nobody knows."""
        if self._over_since(row) < 0:
            return
        if row.reason is not None:
            await self._close(row, PaymentState.FAILED, EXPIRED)
        else:
            await self._close(row, PaymentState.UNCLEAR, TRANSACTION_FAILED)

    async def _close(self, row: PaymentRow, state: PaymentState, reason: str) -> None:
        """Nothing more is waited for. What has arrived stays open until it is credited."""
        if not await self._rows.end(row, state, reason, self._clock.now_us()):
            return
        if state is PaymentState.UNCLEAR:
            log.error(
                "nobody can say whether a payment arrived; look at the chain, and credit it by hand", payment=row.id
            )
        else:
            log.info("payment came to nothing", payment=row.id, reason=reason)
