"""Brings a payment that has arrived into the ledger: once, whoever noticed it and however often."""

import structlog

from pointsman.accounting.carrying import Carrier
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.canonical.ledger import TransactionKind
from pointsman.canonical.payments import PaymentState
from pointsman.clock import Clock
from pointsman.storage.database import Database, StorageError
from pointsman.storage.payments import PaymentRepository, PaymentRow

SOURCE = "x402"  # who moved it, in the ledger's entries
log = structlog.get_logger("pointsman.payments")


class PaymentBooks:
    """From intended to settled to credited; each step is stored before the next begins."""

    def __init__(self, database: Database, rows: PaymentRepository, ledger: LedgerService, clock: Clock) -> None:
        self._database = database
        self._rows = rows
        self._ledger = ledger
        self._clock = clock
        self._carrier = Carrier()

    async def arrived(self, row: PaymentRow, transaction: str) -> PaymentRow:
        """The money of ``row`` came with this transaction of the chain: credit it. Raises StorageError.

        It is carried through though the caller goes away: a transaction left open would lock out all others.
        """
        return await self._carrier.whole(self._arrived(row, transaction))

    async def _arrived(self, row: PaymentRow, transaction: str) -> PaymentRow:
        await self._rows.settled(row.id, transaction, self._clock.now_us())
        return await self._credit(row.id)

    async def _credit(self, payment_id: str) -> PaymentRow:
        row = await self._rows.get(payment_id)
        if row is None:
            raise StorageError(f"the payment {payment_id} is not there any more")
        if row.state is not PaymentState.SETTLED:
            return row
        note = f"{row.amount_atomic} of {row.asset} by {row.transaction_hash}"
        movement = Movement(
            account_id=row.account_id, nano_usd=row.amount_nano_usd, key=row.key, source=SOURCE, note=note
        )
        draft = self._ledger.drafted(movement, TransactionKind.TOP_UP)
        async with self._database.write() as connection:
            await self._database.in_order(connection)
            if await self._rows.credited(connection, row.id, self._clock.now_us()):
                await self._ledger.repository.post(connection, draft)
                log.info("payment credited", payment=row.id, account=row.account_id, nano_usd=row.amount_nano_usd)
        return await self._rows.get(payment_id) or row

    async def aclose(self) -> None:
        """Wait for what is being written."""
        await self._carrier.aclose()
