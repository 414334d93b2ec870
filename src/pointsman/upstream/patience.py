"""What a request does when every target has refused it for a limit: it waits, if the first of them is back soon.

By ``[resilience.wait_for_cooldown]``, for combos by ``[resilience.combo_cooldown_wait]``, with OmniRoute's figures. All
waits of a request together are bounded, and none is begun that would end behind its deadline. A combo may also say that
all of its targets are tried again after any failure (``maxSetRetries``, ``setRetryDelayMs``).
"""

from collections.abc import Sequence
from typing import Final

from pointsman.errors import GatewayError
from pointsman.resilience import ResilienceSettings
from pointsman.routing.failures import classify
from pointsman.routing.health import HealthBook
from pointsman.routing.plan import Route, RoutePlan
from pointsman.ticker import INTERVAL_SECONDS
from pointsman.upstream.attempts import Tried

LIMITED: Final = frozenset(("rate_limited", "model_rate_limited", "limited_here"))  # failures that pass by themselves
SECOND_US: Final = 1_000_000
MARGIN: Final = 0.01  # seconds behind the end of a cooldown


class Patience:
    """How often and how long one request may still wait. Times in seconds."""

    __slots__ = ("_health", "_left", "_longest", "_rounds", "_set_delay", "_sets")

    def __init__(self, settings: ResilienceSettings, route: Route, health: HealthBook) -> None:
        self._health = health
        if route.combo is None:
            single = settings.wait_for_cooldown
            self._rounds = single.max_retries if single.enabled else 0
            self._longest = self._left = float(single.max_retry_wait_sec)
        else:
            several = settings.combo_cooldown_wait
            self._rounds = several.max_attempts if several.enabled else 0
            self._longest, self._left = several.max_wait_ms / 1000, several.budget_ms / 1000
        self._sets = int(route.settings.get("maxSetRetries") or 0)
        self._set_delay = (route.settings.get("setRetryDelayMs") or 0) / 1000

    def first_wait(self, chosen: RoutePlan, now: int, left: float) -> float | None:
        """How long to wait before anybody is asked: none is well, and the first to recover is limited until then."""
        if not chosen.last_resort or not chosen.order:
            return None
        found = self._health.condition(chosen.order[0], now)
        if found is None or found.usable or found.reason not in LIMITED:
            return None
        return self._granted((found.until - now) / SECOND_US, left)

    def wait(self, error: GatewayError, tried: Sequence[Tried], now: int, left: float) -> float | None:
        """How long to wait before all are tried again, ``left`` seconds before the deadline; None: it has failed."""
        if tried and all(one.failure.word in LIMITED for one in tried):
            seconds = self._granted(self._recovery(tried, now), left)
            if seconds is not None:
                return seconds
        if self._sets <= 0 or not tried or not classify(error).next or self._set_delay + INTERVAL_SECONDS >= left:
            return None
        self._sets -= 1
        return self._set_delay

    def _granted(self, seconds: float | None, left: float) -> float | None:
        if seconds is None or not self._rounds or seconds > min(self._longest, self._left, left - INTERVAL_SECONDS):
            return None
        self._rounds -= 1
        self._left -= seconds
        return seconds + MARGIN

    def _recovery(self, tried: Sequence[Tried], now: int) -> float | None:
        """Seconds until the first of the targets is back, as far as anybody says."""
        known: list[float] = []
        for one in {one.target.id: one for one in tried}.values():
            found = self._health.condition(one.target, now)
            if found is not None and not found.usable:
                known.append((found.until - now) / SECOND_US)
            elif one.error.retry_after_seconds is not None:
                known.append(one.error.retry_after_seconds)
        return max(0.0, min(known)) if known else None
