"""When a second target is asked although the first has not failed: it takes longer than it nearly always does.

How long a target takes until its answer begins is learned from the last answers; so is what it may not be asked for:
hedges are a bounded share of the requests that might have one, and each a bounded cost.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from pointsman.routing.targets import Target
from pointsman.settings import HedgeSettings

TAG: Final = "hedge"  # of a connection: requests that go there first may have a second attempt
KEPT: Final = 128  # times of a target
MAX_TARGETS: Final = 2000
BURST: Final = 10.0  # hedges that may be saved up

Place = tuple[str, bool]  # a target's id, and whether its answer streams: a whole one begins when it is there


class HedgeTerms(NamedTuple):
    """When a request may have a second attempt: after the ``percentile`` (0 to 1) of the first target's times, of which
    there must be ``samples``, but not within ``least`` seconds. ``share`` of such requests have one at most, and none
    whose second attempt may cost more than ``cost`` nano-USD (0: any).
    """

    percentile: float
    least: float
    samples: int
    share: float
    cost: int


class Hedging(Protocol):
    """What attempts ask of whoever hedges."""

    def after(self, target: Target) -> float | None:
        """Seconds after which another target is asked beside this one; None: it is not."""
        ...

    def may(self, target: Target) -> bool:
        """Whether this target may be asked as the second one."""
        ...

    @property
    def answering(self) -> bool:
        """True once one of them has begun to answer the client."""
        ...


def hedge_terms(settings: HedgeSettings, route: Mapping[str, Any], first: Target) -> HedgeTerms | None:
    """What holds for a route whose first target is ``first``; None: it is not hedged.

    The settings, the route's own (OmniRoute's names) or a tag of the first target's connection turn it on.
    """
    of_combo = route.get("zeroLatencyOptimizationsEnabled") is True and route.get("hedging") is True
    if not (settings.enabled or of_combo or TAG in first.connection.tags):
        return None
    least, told = settings.least_seconds, route.get("hedgeDelayMs")
    if of_combo and isinstance(told, int | float) and told >= 0:
        least = told / 1000
    return HedgeTerms(
        percentile=settings.percentile / 100,
        least=least,
        samples=settings.least_samples,
        share=settings.max_share,
        cost=settings.max_cost_nano_usd,
    )


class HedgeBook:
    """How long targets took lately until their answers began, and what may still be spent on second attempts."""

    def __init__(self) -> None:
        self._times: OrderedDict[Place, deque[float]] = OrderedDict()
        self._allowance = 0.0
        self.counts: Final = {"started": 0, "won": 0, "lost": 0, "over_share": 0, "over_cost": 0}

    def add(self, place: Place, seconds: float) -> None:
        """An answer began, or was given up, after so long: then it would have taken longer still."""
        times = self._times.get(place)
        if times is None:
            while len(self._times) >= MAX_TARGETS:
                self._times.popitem(last=False)
            times = self._times[place] = deque(maxlen=KEPT)
        self._times.move_to_end(place)
        times.append(seconds)

    def after(self, place: Place, terms: HedgeTerms) -> float | None:
        """Seconds until a second attempt is worth while; None: too little is known."""
        times = self._times.get(place)
        if times is None or len(times) < terms.samples:
            return None
        ordered = sorted(times)
        return max(terms.least, ordered[min(len(ordered) - 1, int(len(ordered) * terms.percentile))])

    def accrue(self, share: float) -> None:
        """A request comes that may be hedged."""
        self._allowance = min(self._allowance + share, BURST)

    def take(self) -> bool:
        """Begin a second attempt, if the share of requests that have one allows it."""
        if self._allowance < 1.0:
            self.counts["over_share"] += 1
            return False
        self._allowance -= 1.0
        self.counts["started"] += 1
        return True
