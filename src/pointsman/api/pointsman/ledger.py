"""``/api/pointsman/ledger``: credit, entries, top-ups and the check of the books, for those who may manage the gateway.

Amounts are integers of nano-USD; top-ups take dollars. Lists are paged by the number or name of the last row.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.accounting.ledger_check import verify
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.api.exchange import HttpRequest, answer, decoded, number, text, wrong
from pointsman.canonical.ledger import credit_of
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.policy.budget_service import nano_of
from pointsman.storage.database import Database

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_NUMBER: Final = 2**62


class TopUpBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that came in, or a gift."""

    account_id: str
    amount_usd: float | int | str
    idempotency_key: str
    note: str = ""
    gift: bool = False


class LedgerViews:
    """The views."""

    def __init__(self, ledger: LedgerService, database: Database, journal: Path) -> None:
        self._ledger = ledger
        self._database = database
        self._journal = journal
        self._checking = asyncio.Lock()

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/pointsman/ledger/balances")
        async def list_balances(request: HttpRequest) -> Response[bytes]:
            after, limit = text(request, "after") or "", number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            found = await self._ledger.balances(after, limit + 1)
            more = found[limit - 1].ledger_account if len(found) > limit else None
            return answer({"data": found[:limit], "next": more})

        @get("/api/pointsman/ledger/credit")
        async def show_credit(request: HttpRequest) -> Response[bytes]:
            account = _needed(request, "account_id")
            return answer({"account_id": account, "credit_nano_usd": await self._ledger.credit(account)})

        @get("/api/pointsman/ledger/entries")
        async def list_entries(request: HttpRequest) -> Response[bytes]:
            account, limit = _needed(request, "account_id"), number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            before = number(request, "before", MAX_NUMBER, (1, MAX_NUMBER))
            found = await self._ledger.entries(credit_of(account), before, limit + 1)
            more = found[limit - 1].sequence if len(found) > limit else None
            return answer({"data": found[:limit], "next": more})

        @post("/api/pointsman/ledger/top-ups", status_code=200)
        async def top_up(request: HttpRequest) -> Response[bytes]:
            return answer(await self._top_up(await request.body()))

        @post("/api/pointsman/ledger/verify", status_code=200)
        async def verify_books(request: HttpRequest) -> Response[bytes]:
            if self._checking.locked():
                raise GatewayError(Kind.OVERLOADED, "the books are being checked already", retry_after_seconds=5)
            async with self._checking:
                report = await verify(self._database, self._journal)
            return answer({"is_right": report.is_right, **msgspec.to_builtins(report)})

        return [list_balances, show_credit, list_entries, top_up, verify_books]

    async def _top_up(self, body: bytes) -> dict[str, Any]:
        asked = decoded(body, TopUpBody)
        try:
            amount = nano_of(asked.amount_usd, "amount_usd")
        except ConfigError as error:
            raise GatewayError(Kind.INVALID_REQUEST, str(error), param="amount_usd") from error
        movement = Movement(
            account_id=asked.account_id, nano_usd=amount, key=asked.idempotency_key, source="api", note=asked.note
        )
        posted = await (self._ledger.grant(movement) if asked.gift else self._ledger.top_up(movement))
        return {
            "sequence": posted.sequence,
            "replayed": posted.replayed,
            "credit_nano_usd": await self._ledger.credit(asked.account_id),
        }


def _needed(request: HttpRequest, name: str) -> str:
    found = text(request, name)
    if found is None:
        raise wrong(name, "is missing")
    return found
