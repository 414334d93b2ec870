"""``/api/v1/credits``: what an account has bought and used, and the way to buy with Coinbase, which is gone."""

from typing import Final

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.openrouter.exchange import caller_of, usd
from pointsman.errors import GatewayError, Kind
from pointsman.storage.ledger import LedgerRepository

GONE: Final = "The Coinbase API was removed. Credit is added with pointsman ledger top-up."


class CreditViews:
    """The views."""

    def __init__(self, ledger: LedgerRepository) -> None:
        self._ledger = ledger

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @get("/api/v1/credits")
        async def show_credits(request: HttpRequest) -> Response[bytes]:
            received, used = await self._ledger.received_and_used(caller_of(request).account_id)
            return answer({"data": {"total_credits": usd(received), "total_usage": usd(used)}})

        @post("/api/v1/credits/coinbase")
        async def buy_with_coinbase(request: HttpRequest) -> Response[bytes]:
            raise GatewayError(Kind.INVALID_REQUEST, GONE, status=410)

        return [show_credits, buy_with_coinbase]
