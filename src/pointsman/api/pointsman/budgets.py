"""``/api/pointsman/budgets``: budgets for those who may manage the gateway."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.omniroute.resilience import Apply
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.policy.budget_service import BudgetService, described, nano_of, window_of
from pointsman.storage.budgets import BudgetRow

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_TEXT: Final = 200
HttpRequest = Request[Any, Any, Any]


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
            return _json(await self._page(request))

        @put("/api/pointsman/budgets", status_code=200)
        async def set_budget(request: HttpRequest) -> Response[bytes]:
            row, revision = await self._set(await request.body())
            await self._apply(revision)
            return _json(await self._shown(row))

        @get("/api/pointsman/budgets/{budget_id:str}")
        async def show_budget(request: HttpRequest, budget_id: FromPath[str]) -> Response[bytes]:
            row = await self._budgets.get(budget_id[:MAX_TEXT])
            if row is None:
                raise _unknown()
            return _json(await self._shown(row))

        @delete("/api/pointsman/budgets/{budget_id:str}", status_code=200)
        async def remove_budget(request: HttpRequest, budget_id: FromPath[str]) -> Response[bytes]:
            revision = await self._budgets.remove(budget_id[:MAX_TEXT])
            if revision is None:
                raise _unknown()
            await self._apply(revision)
            return _json({"deleted": True, "id": budget_id})

        return [list_budgets, set_budget, show_budget, remove_budget]

    async def _set(self, body: bytes) -> tuple[BudgetRow, int]:
        try:
            asked = msgspec.json.decode(body, type=BudgetBody)
            return await self._budgets.set(
                asked.scope,
                asked.subject,
                nano_of(asked.limit_usd),
                window_of(asked.window, asked.window_seconds),
                alerts=asked.alerts,
                hard=asked.hard,
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GatewayError(Kind.INVALID_REQUEST, f"the body is not valid: {error}") from error
        except ConfigError as error:
            raise GatewayError(Kind.INVALID_REQUEST, str(error), param=str(error).partition(":")[0]) from error

    async def _page(self, request: HttpRequest) -> dict[str, Any]:
        params = request.query_params
        text = params.get("limit", str(DEFAULT_LIMIT))
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
            raise GatewayError(Kind.INVALID_REQUEST, f"'limit' must be 1 to {MAX_LIMIT}", param="limit")
        after, scope, subject = (_short(params.get(name), name) for name in ("after", "scope", "subject"))
        limit = int(text)
        rows = await self._budgets.list_page(limit + 1, after, scope=scope, subject=subject)
        standings = await self._budgets.standings(rows[:limit])
        shown = [described(row, standing) for row, standing in zip(rows, standings, strict=False)]
        return {"data": shown, "next": rows[limit - 1].id if len(rows) > limit else None}

    async def _shown(self, row: BudgetRow) -> dict[str, Any]:
        return described(row, await self._budgets.standing(row))


def _short(text: str | None, name: str) -> str | None:
    if text is not None and not 1 <= len(text) <= MAX_TEXT:
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must be 1 to {MAX_TEXT} characters", param=name)
    return text


def _unknown() -> GatewayError:
    return GatewayError(Kind.NOT_FOUND, "there is no such budget")


def _json(value: Any) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json")
