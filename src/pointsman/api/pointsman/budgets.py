"""``/api/pointsman/budgets``: budgets for those who may manage the gateway."""

from typing import Any, Final

import msgspec
from litestar import Response, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import MAX_TEXT, HttpRequest, answer, decoded, number, text
from pointsman.api.omniroute.resilience import Apply
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.policy.budget_service import BudgetService, described, nano_of, window_of
from pointsman.storage.budgets import BudgetRow

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200


class BudgetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a budget is set to."""

    scope: str
    subject: str
    limit_usd: float | int | str
    window: str = "none"
    window_seconds: int | None = None
    alerts: list[int] = []
    hard: bool = True


class BudgetViews:
    """The views."""

    def __init__(self, budgets: BudgetService, apply: Apply) -> None:
        self._budgets = budgets
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/pointsman/budgets")
        async def list_budgets(request: HttpRequest) -> Response[bytes]:
            return answer(await self._page(request))

        @put("/api/pointsman/budgets", status_code=200)
        async def set_budget(request: HttpRequest) -> Response[bytes]:
            row, revision = await self._set(await request.body())
            await self._apply(revision)
            return answer(await self._shown(row))

        @get("/api/pointsman/budgets/{budget_id:str}")
        async def show_budget(request: HttpRequest, budget_id: FromPath[str]) -> Response[bytes]:
            row = await self._budgets.get(budget_id[:MAX_TEXT])
            if row is None:
                raise _unknown()
            return answer(await self._shown(row))

        @delete("/api/pointsman/budgets/{budget_id:str}", status_code=200)
        async def remove_budget(request: HttpRequest, budget_id: FromPath[str]) -> Response[bytes]:
            revision = await self._budgets.remove(budget_id[:MAX_TEXT])
            if revision is None:
                raise _unknown()
            await self._apply(revision)
            return answer({"deleted": True, "id": budget_id})

        return [list_budgets, set_budget, show_budget, remove_budget]

    async def _set(self, body: bytes) -> tuple[BudgetRow, int]:
        asked = decoded(body, BudgetBody)
        try:
            return await self._budgets.set(
                asked.scope,
                asked.subject,
                nano_of(asked.limit_usd),
                window_of(asked.window, asked.window_seconds),
                alerts=asked.alerts,
                hard=asked.hard,
            )
        except ConfigError as error:
            raise GatewayError(Kind.INVALID_REQUEST, str(error), param=str(error).partition(":")[0]) from error

    async def _page(self, request: HttpRequest) -> dict[str, Any]:
        limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
        after, scope, subject = (text(request, name) for name in ("after", "scope", "subject"))
        rows = await self._budgets.list_page(limit + 1, after, scope=scope, subject=subject)
        standings = await self._budgets.standings(rows[:limit])
        shown = [described(row, standing) for row, standing in zip(rows, standings, strict=False)]
        return {"data": shown, "next": rows[limit - 1].id if len(rows) > limit else None}

    async def _shown(self, row: BudgetRow) -> dict[str, Any]:
        return described(row, await self._budgets.standing(row))


def _unknown() -> GatewayError:
    return GatewayError(Kind.NOT_FOUND, "there is no such budget")
