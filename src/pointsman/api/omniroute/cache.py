"""``/api/cache``: what the response cache did, and its clearing. For administrators."""

import re
from collections.abc import Sequence
from typing import Any, Final

from litestar import Response, delete, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import admit, invalid, whole_number
from pointsman.api.omniroute.moments import instant
from pointsman.api.omniroute.resilience import Apply
from pointsman.cache_settings import MAX_TTL_SECONDS
from pointsman.gateway import Gateway
from pointsman.policy.cache_names import SPACE
from pointsman.storage.cache_clearings import ALL, CacheClearings
from pointsman.storage.cache_figures import HOUR_US, CacheFigures, CacheHour

MAX_TREND_HOURS: Final = 720
MAX_MODEL: Final = 256
DELETED_AT_ONCE: Final = 500
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


class CacheViews:
    """The views. Figures of requests are all processes'; those of memory are this process' alone."""

    def __init__(self, gateway: Gateway, figures: CacheFigures, clearings: CacheClearings, apply: Apply) -> None:
        self._gateway = gateway
        self._figures = figures
        self._clearings = clearings
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/cache")
        async def show(request: HttpRequest) -> Response[bytes]:
            admit(request)
            hours = whole_number(request, "trendHours", 24, (1, MAX_TREND_HOURS))
            now = self._gateway.clock.now_us()
            trend = await self._figures.hours(now - hours * HOUR_US)
            return answer(self._shown(trend, await self._figures.stored(SPACE, now)))

        @delete("/api/cache", status_code=200)
        async def clear(request: HttpRequest) -> Response[bytes]:
            admit(request)
            return answer(await self._clear(request))

        @get("/api/cache/stats")
        async def memory(request: HttpRequest) -> Response[bytes]:
            admit(request)
            return answer(self._memory())

        @delete("/api/cache/stats", status_code=200)
        async def reset(request: HttpRequest) -> Response[bytes]:
            admit(request)
            if self._gateway.cache is not None:
                self._gateway.cache.restart_counts()
            return answer({"success": True, "message": "Cache statistics were reset"})

        return [show, clear, memory, reset]

    async def _clear(self, request: HttpRequest) -> dict[str, Any]:
        """Clear all, or what one of ``model``, ``signature`` and ``staleMs`` names."""
        named = [name for name in ("model", "signature", "staleMs") if name in request.query_params]
        if len(named) > 1:
            raise invalid([(name, "only one of 'model', 'signature' and 'staleMs' may be given") for name in named])
        now, scope = self._gateway.clock.now_us(), ALL
        at = now
        if named == ["staleMs"]:
            at -= whole_number(request, "staleMs", 0, (0, MAX_TTL_SECONDS * 1000)) * 1000
        elif named == ["model"]:
            scope = f"model:{_model(request.query_params['model'])}"
        elif named:
            scope = f"entry:{_signature(request.query_params['signature'])}"
        revision = await self._clearings.clear(scope, at, now - MAX_TTL_SECONDS * 1_000_000)
        if named:
            await self._apply(revision)
            return {"ok": True, "invalidated": True, "scope": named[0]}
        cleared = self._gateway.cache.forget() if self._gateway.cache is not None else 0
        deleted = 0
        while count := await self._clearings.delete_answers(SPACE, DELETED_AT_ONCE):
            deleted += count
        await self._apply(revision)
        return {"ok": True, "cleared": max(cleared, deleted), "scope": "all"}

    def _shown(self, trend: Sequence[CacheHour], stored: int) -> dict[str, Any]:
        cache = self._gateway.cache
        hits = sum(hour.hits + hour.semantic for hour in trend)
        misses = sum(hour.misses for hour in trend)
        return {
            "semanticCache": {
                "memoryEntries": len(cache) if cache is not None else 0,
                "dbEntries": stored,
                "hits": hits,
                "semanticHits": sum(hour.semantic for hour in trend),
                "misses": misses,
                "hitRate": _rate(hits, misses),
                "tokensSaved": sum(hour.tokens_saved for hour in trend),
            },
            "promptCache": self._memory(),
            "trend": [
                {
                    "timestamp": instant(hour.begins_at),
                    "hits": hour.hits + hour.semantic,
                    "misses": hour.misses,
                    "tokensSaved": hour.tokens_saved,
                }
                for hour in trend
            ],
            "idempotency": {"activeKeys": len(self._gateway.shared), "windowMs": self._gateway.shared.window_ms},
            "config": {
                "semanticCacheEnabled": cache is not None and cache.settings.semantic.enabled,
                "mode": cache.settings.mode if cache is not None else "off",
            },
        }

    def _memory(self) -> dict[str, Any]:
        cache = self._gateway.cache
        if cache is None:
            empty = dict.fromkeys(("size", "maxSize", "bytes", "hits", "misses", "evictions"), 0)
            return {**empty, "hitRate": _rate(0, 0)}
        hits, misses = cache.counts["hit"] + cache.counts["semantic"], cache.counts["miss"]
        return {
            "size": len(cache),
            "maxSize": cache.settings.memory_bytes,
            "bytes": cache.bytes,
            "hits": hits,
            "misses": misses,
            "evictions": cache.counts["evicted"],
            "hitRate": _rate(hits, misses),
        }


def _rate(hits: int, misses: int) -> str:
    """Hits in percent, as the contract writes it."""
    return f"{100 * hits / (hits + misses) if hits + misses else 0:.1f}"


def _model(text: str) -> str:
    if not 0 < len(text) <= MAX_MODEL:
        raise invalid([("model", f"must have 1 to {MAX_MODEL} characters")])
    return text


def _signature(text: str) -> str:
    if not _SIGNATURE.fullmatch(text):
        raise invalid([("signature", "must be the 64 hexadecimal digits of an entry")])
    return text
