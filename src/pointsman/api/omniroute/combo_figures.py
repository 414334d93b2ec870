"""``/api/combos/metrics``: what became of the requests of combos.

Added up from the records of requests of the last `DAYS` days, so a restart loses nothing and every worker counts. The
failed attempts of the newest `MAX_ATTEMPTS` requests that had some are counted target by target.
"""

import datetime
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Response, delete, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.omniroute.management import HttpRequest, admit, answer
from pointsman.gateway import Gateway
from pointsman.routing.combos import Combo
from pointsman.storage.combo_figures import ComboFigureRepository, Figure

DAYS: Final = 30
MAX_ATTEMPTS: Final = 10_000
_DAY_US: Final = 86_400_000_000


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
            "lastUsedAt": _instant(self.at),
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
        since = self._gateway.clock.now_us() - DAYS * _DAY_US
        combos = self._gateway.snapshot.catalogue.combos
        sums = await self._figures.sums(name, since)
        attempts = await self._figures.attempts(name, since, MAX_ATTEMPTS)
        failed: dict[str, dict[str, _Count]] = {}
        for combo, at, text in attempts:
            for target, us, status in _rows(text):
                count = failed.setdefault(combo, {}).setdefault(target, _Count())
                count.add(failures=1, us=us, at=at, status=status)
        by_combo: dict[str, list[Figure]] = {}
        for one in sums:
            by_combo.setdefault(one.combo, []).append(one)
        return {
            combo: _shown(combos.get(combo), figures, failed.get(combo, {}))
            for combo, figures in sorted(by_combo.items())
            if combo not in combos or combos[combo].settings.get("trackMetrics", True)
        }


def _rows(text: str) -> list[tuple[str, int, int]]:
    """Target, duration (us) and status of each failed attempt in a record."""
    found = []
    for row in msgspec.json.decode(text):
        if isinstance(row, list) and len(row) >= 4 and isinstance(row[0], str) and int(row[2] or 0) >= 400:
            found.append((row[0], int(row[3] or 0), int(row[2] or 0)))
    return found


def _shown(combo: Combo | None, figures: list[Figure], failed: Mapping[str, _Count]) -> dict[str, Any]:
    requests, successes = sum(one.requests for one in figures), sum(one.successes for one in figures)
    fallbacks, us = sum(one.fallbacks for one in figures), sum(one.duration for one in figures)
    targets = dict(failed)
    for one in figures:
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
        "lastUsedAt": _instant(max(one.last_at for one in figures)),
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


def _instant(micros: int) -> str:
    found = datetime.datetime.fromtimestamp(micros / 1e6, tz=datetime.UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
