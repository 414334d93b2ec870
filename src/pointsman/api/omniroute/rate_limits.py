"""``/api/rate-limits`` and ``/api/rate-limit``: what is known of accounts' limits, and whether it is obeyed."""

from typing import Any, Final

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import admit, invalid, read_object, whole_number
from pointsman.api.omniroute.moments import instant, wait_ms
from pointsman.api.omniroute.resilience import Apply
from pointsman.gateway import Gateway
from pointsman.policy.resilience import ResilienceService
from pointsman.routing.health_states import View
from pointsman.routing.targets import Connection

PATHS: Final = ["/api/rate-limits", "/api/rate-limit"]
DEFAULT_LIMIT: Final = 200
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 1_000_000


class RateLimits:
    """The views."""

    def __init__(self, gateway: Gateway, service: ResilienceService, apply: Apply) -> None:
        self._gateway = gateway
        self._service = service
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get(PATHS)
        async def show(request: HttpRequest) -> Response[bytes]:
            admit(request)
            limit = whole_number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            offset = whole_number(request, "offset", 0, (0, MAX_OFFSET))
            return answer(self._shown(limit, offset))

        @post(PATHS, status_code=200)
        async def change(request: HttpRequest) -> Response[bytes]:
            admit(request)
            asked = await read_object(request)
            name, enabled = asked.get("connectionId"), asked.get("enabled")
            faults = [(field, "is not known") for field in asked if field not in ("connectionId", "enabled")]
            if not isinstance(name, str) or name not in self._gateway.snapshot.catalogue.connections:
                faults.append(("connectionId", "must be the id of a connection"))
            if not isinstance(enabled, bool):
                faults.append(("enabled", "must be true or false"))
            if faults:
                raise invalid(faults)
            assert isinstance(name, str)
            await self._apply(await self._service.protect(name, bool(enabled)))
            return answer({"success": True, "connectionId": name, "enabled": enabled})

        return [show, change]

    def _shown(self, limit: int, offset: int) -> dict[str, Any]:
        health, now = self._gateway.health, self._gateway.clock.now_us()
        connections = list(self._gateway.snapshot.catalogue.connections.values())
        views = {view.name: view for view in health.views(now) if view.scope == "connection"}
        page = connections[offset : offset + limit]
        return {
            "connections": [self._connection(one, views.get(one.id), now) for one in page],
            "total": len(connections),
            "limit": limit,
            "offset": offset,
            "overview": {
                "connections": len(connections),
                "protected": sum(health.is_protected(one) for one in connections),
                "learned": sum(one.id in health.quotas for one in connections),
                "cooling": health.standing(now)[0],
            },
            "lockouts": lockouts(self._gateway, now)[:MAX_LIMIT],
            "cacheStats": {"learned": len(health.quotas)},
        }

    def _connection(self, connection: Connection, view: View | None, now: int) -> dict[str, Any]:
        health = self._gateway.health
        return {
            "connectionId": connection.id,
            "provider": connection.vendor,
            "name": connection.id,
            "rateLimitProtection": health.is_protected(connection),
            "state": view.state if view is not None else "active",
            "rateLimitedUntil": instant(view.until) if view is not None and view.until > now else None,
            "headroom": health.headroom(connection.id, now),
            **learned(self._gateway, connection.id, now),
        }


def learned(gateway: Gateway, connection_id: str, now: int) -> dict[str, Any]:
    """What an account's upstream has told of its limits."""
    quota = gateway.health.quotas.get(connection_id)
    if quota is None:
        return {"limits": {}, "learnedAt": None}
    limits = {
        what: {"limit": one.limit, "remaining": one.remaining, "resetAt": instant(one.reset_at)}
        for what, one in quota.windows.items()
    }
    return {"limits": limits, "learnedAt": instant(quota.seen_at)}


def lockouts(gateway: Gateway, now: int) -> list[dict[str, Any]]:
    """The models that are left alone by themselves."""
    connections = gateway.snapshot.catalogue.connections
    found = []
    for view in gateway.health.views(now):
        if view.scope == "model" and not view.usable:
            connection_id, _, model = view.name.partition("/")
            connection = connections.get(connection_id)
            found.append(
                {
                    "provider": connection.vendor if connection is not None else None,
                    "connectionId": connection_id,
                    "model": model,
                    "reason": view.reason,
                    "until": instant(view.until),
                    "remainingMs": wait_ms(view.until, now),
                }
            )
    return found
