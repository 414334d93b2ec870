"""``POST /api/agents/topup``: an agent pays for its own credit by x402, in version 1 or 2 of that protocol."""

from typing import Any, Final

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from pointsman.accounting.cashier import Cashier
from pointsman.api.crosscompute.agent_standing import AgentStanding
from pointsman.api.crosscompute.client import caller, read_members, tell
from pointsman.api.exchange import HttpRequest, wrong
from pointsman.api.omniroute.moments import instant
from pointsman.canonical.credits import credits_number, nano_of_credits
from pointsman.canonical.ledger import NANO_PER_USD
from pointsman.canonical.payments import Offer, Payment, PaymentRefused
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.policy.budget_service import nano_of
from pointsman.storage.payments import PaymentRow
from pointsman.wire.x402 import CHALLENGE_HEADER, REQUEST_HEADERS, RESPONSE_HEADERS, challenge, read_payment, receipt

UNPAID: Final = "payment required"
MAX_RESOURCE: Final = 2048  # characters of the address that is shown in a challenge
AMOUNTS: Final = ("amountUsd", "credits")


class TopUpView:
    """The view. Without a ``cashier`` no payment is asked for, and none is taken."""

    def __init__(self, standing: AgentStanding, cashier: Cashier | None) -> None:
        self._standing = standing
        self._cashier = cashier

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @post("/api/agents/topup", status_code=200)
        async def top_up(request: HttpRequest) -> Response[bytes]:
            answer = await self._answer(request)
            version = _version(request)
            answer.headers["x-crosscompute-payment-header-present"] = "false" if version is None else "true"
            answer.headers["x-crosscompute-payment-header-kind"] = "none" if version is None else f"v{version}"
            return answer

        return top_up

    async def _answer(self, request: HttpRequest) -> Response[bytes]:
        standing = await self._standing.of(caller(request))
        if self._cashier is None:
            message = "payments by x402 are not taken here; ask the operator to credit the account"
            return tell({"error": {"message": message, "type": "insufficient_quota", "code": "x402_disabled"}}, 402)
        nano, field = await _amount(request)
        offer = self._cashier.offer(nano, str(request.url)[:MAX_RESOURCE], field)
        version = _version(request)
        if version is None:
            return _challenged(offer, UNPAID)
        payment: Payment | None = None
        try:
            payment = read_payment(version, request.headers[REQUEST_HEADERS[version]], offer)
            row = await self._cashier.desk.pay(standing["account"]["id"], payment)
        except PaymentRefused as refused:
            answer = _challenged(offer, refused.reason)
            if payment is not None:
                answer.headers[RESPONSE_HEADERS[version]] = receipt(payment, "", refused.reason)
            return answer
        paid = tell({"topup": _told(row), **await self._standing.of(caller(request))})
        paid.headers[RESPONSE_HEADERS[version]] = receipt(payment, row.transaction_hash or "")
        return paid


def _version(request: HttpRequest) -> int | None:
    """Of the payment that came with it: the newer one when there are two."""
    return next((version for version in (2, 1) if REQUEST_HEADERS[version] in request.headers), None)


def _challenged(offer: Offer, reason: str) -> Response[bytes]:
    body, header = challenge(offer, reason)
    answer = tell(body, 402)
    answer.headers[CHALLENGE_HEADER] = header
    return answer


async def _amount(request: HttpRequest) -> tuple[int | None, str]:
    """What is asked for in nano-USD, of address or body, and the field's name; None: the usual amount."""
    members = await read_members(request, required=False)
    given = [(name, members[name]) for name in AMOUNTS if members.get(name) is not None]
    given += [(name, value) for name in AMOUNTS for value in request.query_params.getall(name, [])]
    if not given:
        return None, AMOUNTS[0]
    if len(given) > 1:
        message = f"'{given[1][0]}': give one amount only"
        raise GatewayError(Kind.INVALID_REQUEST, message, param=given[1][0])
    [(name, value)] = given
    return _nano(name, value), name


def _nano(name: str, value: Any) -> int:
    """Raises GatewayError(INVALID_REQUEST) naming the field."""
    try:
        if name == "amountUsd":
            return nano_of(value, name)
        found = nano_of_credits(float(value) if isinstance(value, str) else value)
        if found is not None:
            return found
    except (ConfigError, ValueError):
        pass
    unit = "dollars" if name == "amountUsd" else "credits"
    raise wrong(name, f"must be an amount in {unit}")


def _told(row: PaymentRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "credits": credits_number(row.amount_nano_usd),
        "amountUsd": row.amount_nano_usd / NANO_PER_USD,
        "amountAtomic": str(row.amount_atomic),
        "network": row.network,
        "asset": row.asset,
        "payer": row.payer,
        "txHash": row.transaction_hash,
        "status": "settled",
        "createdAt": instant(row.created_at),
    }
