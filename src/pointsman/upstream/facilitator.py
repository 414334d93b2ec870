"""A facilitator of x402: a service that checks and settles payments for us (``POST /verify``, ``POST /settle``)."""

from typing import Final, TypeVar

import msgspec

from pointsman.accounting.payments import Note
from pointsman.canonical.payments import (
    INVALID_SIGNATURE,
    SETTLEMENT_PENDING,
    TRANSACTION_FAILED,
    Payment,
    PaymentPending,
    PaymentRefused,
)
from pointsman.errors import GatewayError, Kind
from pointsman.storage.payments import PaymentRow
from pointsman.upstream.json_posts import JsonPost
from pointsman.wire.x402 import Settled, Verified, facilitator_request

VERIFY_SECONDS: Final = 20.0
MAX_REASON: Final = 100  # characters of its reasons, which go to clients
T = TypeVar("T")


class Facilitator:
    """``seconds``: how long settling may take."""

    def __init__(self, service: JsonPost, seconds: float) -> None:
        self._service = service
        self._seconds = seconds

    async def verify(self, payment: Payment) -> None:
        """Raises PaymentRefused with its reason, GatewayError when it gives none."""
        found = await self._ask("/verify", payment, VERIFY_SECONDS, Verified)
        if not found.is_valid:
            raise PaymentRefused(_word(found.invalid_reason) or INVALID_SIGNATURE)

    async def settle(self, row: PaymentRow, payment: Payment, note: Note) -> str:
        """Raises PaymentRefused with its reason, PaymentPending and GatewayError when it is not known."""
        found = await self._ask("/settle", payment, self._seconds, Settled)
        if found.success and found.transaction:
            return found.transaction[:MAX_REASON]
        if found.success or found.error_reason == SETTLEMENT_PENDING:
            raise PaymentPending
        raise PaymentRefused(_word(found.error_reason) or TRANSACTION_FAILED)

    async def _ask(self, path: str, payment: Payment, seconds: float, kind: type[T]) -> T:
        answer = await self._service.ask(facilitator_request(payment), seconds, path)
        try:
            return msgspec.json.decode(answer.body, type=kind)  # refusals may have a status of 400 and more
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = f"{self._service.name} gave an answer that can't be read, with status {answer.status}"
            raise GatewayError(Kind.UPSTREAM_ERROR, message) from None


def _word(reason: str | None) -> str:
    """Its reason, as far as it is a plain word."""
    return "".join(
        letter for letter in (reason or "")[:MAX_REASON] if letter.isascii() and (letter.isalnum() or letter in "_-")
    )
