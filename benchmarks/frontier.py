"""The frontier: the highest constant rate that a target carries with its 99th percentile under a bound."""

import math
from dataclasses import dataclass, field

from benchmarks.load import Load
from benchmarks.scenarios import say
from benchmarks.targets import Target

BOUNDS_MS = (1.0, 5.0, 10.0)
CONNECTIONS = 64
# Less than this part of the asked rate was carried: the target is beyond its end, whatever its p99.
CARRIED = 0.97
CLOSE_ENOUGH = 1.05


@dataclass
class Frontier:
    """What was tried on one target, and the best rate by bound; None when even the lowest was too slow."""

    name: str
    tries: list[tuple[float, float]] = field(default_factory=list)  # (rate, p99 in ms; infinite when not carried)

    def best(self, bound_ms: float) -> float | None:
        """The highest rate with its p99 under the bound, below the first that was over it."""
        over = [rate for rate, p99 in self.tries if p99 > bound_ms]
        under = [rate for rate, p99 in self.tries if p99 <= bound_ms and rate < min(over, default=math.inf)]
        return max(under, default=None)

    def line(self) -> str:
        """The findings as a sentence."""
        parts = []
        for bound in BOUNDS_MS:
            best = self.best(bound)
            parts.append(f"{bound:g} ms: {f'{best:,.0f}/s' if best is not None else 'none'}")
        return f"{self.name}, highest rate with p99 under {', '.join(parts)} ({CONNECTIONS} connections, open loop)"


def find(target: Target, load: Load, steps: int, seconds: float) -> Frontier:
    """Bisects between a sixteenth of the closed loop's rate and all of it, ``steps`` runs for each bound at most."""
    closed = load.closed(target.json, CONNECTIONS, 1)
    top = closed.done / closed.seconds
    found = Frontier(target.name)
    say(f"frontier of {target.name}, below {top:,.0f}/s")
    for bound in BOUNDS_MS:
        for _ in range(steps):
            rate = _next_rate(found, bound, top)
            if rate is None:
                break
            _try(found, target, load, rate, seconds)
    return found


def _next_rate(found: Frontier, bound_ms: float, top: float) -> float | None:
    """The middle between the best rate under the bound and the lowest over it; None when they are close."""
    high = min([rate for rate, p99 in found.tries if p99 > bound_ms], default=top)
    low = found.best(bound_ms) or top / 16
    return None if high / low < CLOSE_ENOUGH else math.sqrt(high * low)


def _try(found: Frontier, target: Target, load: Load, rate: float, seconds: float) -> None:
    """Twice when it was too slow, and the better counts: a stall of the machine says nothing about the target."""
    p99 = math.inf
    for _ in range(2):
        result = load.steady(target.json, CONNECTIONS, rate, seconds)
        carried = not result.failed and result.done / result.seconds >= CARRIED * rate
        p99 = min(p99, result.p99 if carried else math.inf)
        if p99 <= BOUNDS_MS[0]:
            break
    found.tries.append((rate, p99))
    say(f"  {rate:,.0f}/s: p99 {p99:.2f} ms")
