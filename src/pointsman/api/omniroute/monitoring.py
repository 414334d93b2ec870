"""``/api/monitoring/health``: how this server and its upstreams do; ``/api/sessions``: conversations that are active.

The first is public. Nothing in it says who uses the gateway, or for what: accounts, models and sessions are told to
administrators only.
"""

import os
import platform
import resource
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from litestar import Response, delete, get
from litestar.handlers import HTTPRouteHandler

from pointsman import __version__
from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import admit, whole_number
from pointsman.api.omniroute.moments import instant, wait_ms
from pointsman.api.omniroute.rate_limits import learned, lockouts
from pointsman.api.omniroute.resilience import forget
from pointsman.gateway import Gateway
from pointsman.policy.authorization import ADMIN, is_permitted
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.sessions import Session
from pointsman.routing.health_states import View

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10_000
TOP: Final = 8
MAX_SHOWN: Final = 200
ABSENT: Final = ("model_not_found", "model_retired", "no_model_access", "not_acceptable")  # nobody's failure


class Monitoring:
    """The views. ``checks`` says of each part of this process whether it is ``ok``."""

    def __init__(self, gateway: Gateway, sharing: HealthSharing, checks: Callable[[], Mapping[str, str]]) -> None:
        self._gateway = gateway
        self._sharing = sharing
        self._checks = checks
        self._started = gateway.clock.monotonic()

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/monitoring/health")
        async def show(request: HttpRequest) -> Response[bytes]:
            key = request.scope["state"]["caller"]
            if key is None or not is_permitted(ADMIN, key, "GET"):
                return answer(self._public())
            return answer({**self._public(), **self._for_administrators()})

        @delete("/api/monitoring/health", status_code=200)
        async def reset(request: HttpRequest) -> Response[bytes]:
            admit(request)
            count = await forget(self._gateway, self._sharing)
            return answer({"success": True, "message": "Breakers and cooldowns were reset", "resetCount": count})

        @get("/api/sessions")
        async def sessions(request: HttpRequest) -> Response[bytes]:
            admit(request)
            limit = whole_number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            offset = whole_number(request, "offset", 0, (0, MAX_OFFSET))
            now = self._gateway.clock.now_us()
            active = self._gateway.sessions.active(now)
            page = [_session(one, now) for one in active[offset : offset + limit]]
            return answer({"count": len(active), "sessions": page, "byApiKey": _by_key(active)})

        return [show, reset, sessions]

    def _public(self) -> dict[str, Any]:
        gateway, now = self._gateway, self._gateway.clock.now_us()
        views = gateway.health.views(now)
        breakers = [view for view in views if view.scope == "provider"]
        connections = gateway.snapshot.catalogue.connections
        uptime = gateway.clock.monotonic() - self._started
        memory = {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        vendors = {one.vendor for one in connections.values()}
        states = [view.state for view in breakers]
        return {
            "status": status(views, connections, self._checks()),
            "timestamp": instant(now),
            "system": {
                "version": __version__, "nodeVersion": f"Python {platform.python_version()}", "uptime": uptime,
                "memoryUsage": memory, "pid": os.getpid(), "platform": sys.platform,
            },
            "version": __version__,
            "uptime": uptime,
            "memoryUsage": memory,
            "activeConnections": len(connections),
            "circuitBreakers": {
                "open": states.count("OPEN"),
                "halfOpen": states.count("HALF_OPEN"),
                "closed": len(vendors) - sum(state in ("OPEN", "HALF_OPEN") for state in states),
                "total": max(len(vendors), len(states)),
            },
            "providerBreakers": [_breaker(view, now) for view in breakers[:MAX_SHOWN]],
            "providerHealth": {view.name: _provider(view, now) for view in breakers[:MAX_SHOWN]},
            "providerSummary": {
                "catalogCount": len(vendors),
                "configuredCount": len(vendors),
                "activeCount": len(vendors) - states.count("OPEN"),
                "monitoredCount": len(breakers),
            },
            "checks": dict(self._checks()),
            "sessions": {"activeCount": len(gateway.sessions.active(now))},
        }  # fmt: skip

    def _for_administrators(self) -> dict[str, Any]:
        gateway, now = self._gateway, self._gateway.clock.now_us()
        views, active = gateway.health.views(now), gateway.sessions.active(now)
        cooling = [view for view in views if view.scope in ("connection", "quota")]
        known = list(gateway.health.quotas)[:MAX_SHOWN]
        return {
            "rateLimitStatus": {view.name: _state(view, now) for view in cooling[:MAX_SHOWN]},
            "learnedLimits": {name: learned(gateway, name, now) for name in known},
            "lockouts": lockouts(gateway, now)[:MAX_SHOWN],
            "sessions": {
                "activeCount": len(active),
                "stickyBoundCount": 0,
                "byApiKey": _by_key(active),
                "top": [_session(one, now) for one in sorted(active, key=lambda one: -one.requests)[:TOP]],
            },
        }


def status(views: list[View], connections: Collection[str], checks: Mapping[str, str]) -> str:
    """``unhealthy``: no call can be taken, or none has anywhere to go. ``degraded``: a provider or account fails."""
    views = [view for view in views if view.scope == "provider" or view.name.partition("/")[0] in connections]
    down = {view.name for view in views if view.scope in ("connection", "quota") and not view.usable}
    if any(value != "ok" for value in checks.values()) or (connections and len(down) >= len(connections)):
        return "unhealthy"
    failing = down or any(view.scope == "provider" and view.state != "CLOSED" for view in views)
    lasting = any(view.state in ("banned", "credits_exhausted", "error") for view in views)
    limited = any(view.scope == "model" and not view.usable and view.reason not in ABSENT for view in views)
    return "degraded" if failing or lasting or limited else "healthy"


def _breaker(view: View, now: int) -> dict[str, Any]:
    return {
        "provider": view.name,
        "state": view.state,
        "failureCount": view.failures,
        "lastFailure": instant(view.at),
        "retryAfterMs": wait_ms(view.until, now),
    }


def _provider(view: View, now: int) -> dict[str, Any]:
    return {
        "state": view.state,
        "failures": view.failures,
        "lastFailure": instant(view.at),
        "retryAfterMs": wait_ms(view.until, now),
    }


def _state(view: View, now: int) -> dict[str, Any]:
    return {
        "state": view.state,
        "reason": view.reason,
        "until": instant(view.until),
        "remainingMs": wait_ms(view.until, now),
        "backoffLevel": view.failures,
    }


def _session(one: Session, now: int) -> dict[str, Any]:
    return {
        "sessionId": one.id,
        "createdAt": instant(one.created_at),
        "lastActive": instant(one.last_active),
        "lastActiveAt": instant(one.last_active),
        "requestCount": one.requests,
        "connectionId": one.connection_id,
        "ageMs": wait_ms(now, one.created_at),
        "idleMs": wait_ms(now, one.last_active),
    }


def _by_key(active: list[Session]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in active:
        counts[one.key_id] = counts.get(one.key_id, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1])[:MAX_SHOWN])
