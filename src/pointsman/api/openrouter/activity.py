"""``GET /api/v1/activity``: what an account used, by UTC day, model and endpoint, in the last thirty whole days."""

import datetime
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, line, wrong
from pointsman.api.openrouter.exchange import caller_of, provider_name, usd
from pointsman.canonical.windows import DAY_US
from pointsman.gateway import Gateway
from pointsman.policy.router_keys import RouterKeys
from pointsman.storage.activity import Activity, ActivityFilter, ActivityRepository, Span
from pointsman.wire.openrouter_activity import ActivityItem

DAYS: Final = 30


class ActivityView:
    """The view."""

    def __init__(self, gateway: Gateway, activity: ActivityRepository, keys: RouterKeys) -> None:
        self._gateway = gateway
        self._activity = activity
        self._keys = keys

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/api/v1/activity")
        async def list_activity(request: HttpRequest) -> Response[bytes]:
            span = _span(line(request, "date"), self._gateway.clock.now_us())
            wanted = await self._wanted(request)
            rows = await self._activity.sums(wanted, span)
            return answer({"data": [self._shown(row, wanted.by_workspace) for row in rows]})

        return list_activity

    async def _wanted(self, request: HttpRequest) -> ActivityFilter:
        caller, fingerprint = caller_of(request), line(request, "api_key_hash")
        grouped = line(request, "group_by")
        if grouped not in (None, "workspace"):
            raise wrong("group_by", "must be workspace")
        return ActivityFilter(
            account_id=caller.account_id,
            key_id=None if fingerprint is None else (await self._keys.find(caller, fingerprint)).row.id,
            user_id=line(request, "user_id"),
            workspace_id=line(request, "workspace_id"),
            by_workspace=grouped is not None,
        )

    def _shown(self, row: Activity, by_workspace: bool) -> ActivityItem:
        day = datetime.date(1970, 1, 1) + datetime.timedelta(days=row.day // DAY_US)
        return ActivityItem(
            date=str(day),
            model=row.model,
            model_permaslug=row.model,
            endpoint_id=f"{row.connection_id}/{row.model}",
            provider_name=provider_name(self._gateway, row.connection_id, row.provider) or "",
            usage=usd(row.charged),
            byok_usage=usd(row.byok),
            requests=row.requests,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            reasoning_tokens=row.reasoning_tokens,
            cache_read_tokens=row.cache_read_tokens,
            workspace_id=row.workspace_id if by_workspace else None,
        )


def _span(date: str | None, now: int) -> Span:
    """The day that is meant, or the last thirty that are over."""
    today = now - now % DAY_US
    if date is None:
        return Span(today - DAYS * DAY_US, today)
    try:
        if len(date) != len("2027-12-31"):
            raise ValueError
        day = datetime.date.fromisoformat(date)
    except ValueError:
        raise wrong("date", "must be a day such as 2027-12-31") from None
    first = (day - datetime.date(1970, 1, 1)).days * DAY_US
    if not today - DAYS * DAY_US <= first < today:
        raise wrong("date", f"must be one of the last {DAYS} UTC days that are over")
    return Span(first, first + DAY_US)
