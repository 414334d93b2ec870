"""``/api/combos/metrics``: what became of the requests of combos.

Added up as the records of requests are stored, for thirty days and the present one, so a restart loses nothing and
every worker counts.
"""

from typing import Any

from litestar import Response, delete, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import admit
from pointsman.api.omniroute.moments import instant
from pointsman.gateway import Gateway
from pointsman.routing.combos import Combo
from pointsman.storage.combo_days import first_day
from pointsman.storage.combo_figures import ComboFigureRepository, Figure


class _Count:
    """Requests of one target, or of one model."""

    def __init__(self) -> None:
        self.successes = self.failures = self.us = self.at = self.status = 0

    def add(self, *, successes: int = 0, failures: int = 0, us: int = 0, at: int = 0, status: int = 0) -> None:
        self.successes += successes
        self.failures += failures
        self.us += us
        if at >= self.at:
            self.at, self.status = at, status

    def shown(self) -> dict[str, Any]:
        requests = self.successes + self.failures
        return {
            "requests": requests,
            "successes": self.successes,
            "failures": self.failures,
            "totalLatencyMs": self.us // 1000,
            "avgLatencyMs": _ratio(self.us, requests * 1000),
            "successRate": _ratio(self.successes * 100, requests),
            "lastStatus": "ok" if self.status == 200 else "error",
            "lastStatusCode": self.status,
            "lastUsedAt": instant(self.at),
        }


class ComboFigures:
    """The views."""

    def __init__(self, gateway: Gateway, figures: ComboFigureRepository) -> None:
        self._gateway = gateway
        self._figures = figures

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/combos/metrics")
        async def figures(request: HttpRequest) -> Response[bytes]:
            admit(request)
            name = request.query_params.get("combo")
            found = await self._collect(name)
            if name is None:
                return answer({"metrics": found})
            if name not in found:
                return answer({"metrics": None, "message": f"No metrics recorded for combo '{name[:100]}'"})
            return answer({"metrics": found[name]})

        @delete("/api/combos/metrics", status_code=200)
        async def reset(request: HttpRequest) -> Response[bytes]:
            admit(request)
            name = request.query_params.get("combo")
            await self._figures.reset(name, self._gateway.clock.now_us())
            return answer({"success": True, "message": "Metrics reset" if name is None else "Combo metrics reset"})

        return [figures, reset]

    async def _collect(self, name: str | None) -> dict[str, Any]:
        combos = self._gateway.snapshot.catalogue.combos
        by_combo: dict[str, list[Figure]] = {}
        for one in await self._figures.sums(name, first_day(self._gateway.clock.now_us())):
            by_combo.setdefault(one.combo, []).append(one)
        return {
            combo: _shown(combos.get(combo), figures)
            for combo, figures in sorted(by_combo.items())
            if combo not in combos or combos[combo].settings.get("trackMetrics", True)
        }


def _shown(combo: Combo | None, figures: list[Figure]) -> dict[str, Any]:
    requests, successes = sum(one.requests for one in figures), sum(one.successes for one in figures)
    fallbacks, us = sum(one.fallbacks for one in figures), sum(one.duration for one in figures)
    targets: dict[str, _Count] = {}
    for one in figures:
        if one.failures:
            count = targets.setdefault(one.target, _Count())
            count.add(failures=one.failures, us=one.failed_duration, at=one.failed_at, status=one.failed_status)
        if one.successes and one.target:
            count = targets.setdefault(one.target, _Count())
            count.add(successes=one.successes, us=one.success_duration, at=one.last_at, status=one.last_status)
    models: dict[str, _Count] = {}
    for target, count in targets.items():
        model = models.setdefault(target.partition("/")[2], _Count())
        model.add(successes=count.successes, failures=count.failures, us=count.us, at=count.at, status=count.status)
    steps = {entry.target: entry for entry in combo.entries} if combo is not None else {}
    return {
        "totalRequests": requests,
        "totalSuccesses": successes,
        "totalFailures": requests - successes,
        "totalFallbacks": fallbacks,
        "totalLatencyMs": us // 1000,
        "avgLatencyMs": _ratio(us, requests * 1000),
        "successRate": _ratio(successes * 100, requests),
        "fallbackRate": _ratio(fallbacks * 100, requests),
        "strategy": combo.strategy if combo is not None else None,
        "lastUsedAt": instant(max(one.last_at for one in figures)),
        "intentCounts": {},
        "byModel": {name: count.shown() for name, count in sorted(models.items())},
        "byTarget": {
            name: {
                **count.shown(),
                "stepId": steps[name].id if name in steps else None,
                "provider": name.partition("/")[0],
                "providerId": name.partition("/")[0],
                "connectionId": name.partition("/")[0],
                "label": name,
            }
            for name, count in sorted(targets.items())
        },
    }


def _ratio(part: int, whole: int) -> int:
    return round(part / whole) if whole else 0
