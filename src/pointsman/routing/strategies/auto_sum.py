"""The weighted sum of all factors of `auto` in one pass: what adding the values of auto_factors.py gives, but sooner.

A test holds the two together; whoever changes one changes the other.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import expected_tokens
from pointsman.routing.strategies.auto_factors import (
    HALF,
    HEALTH,
    MODEL_TIERS,
    MONTH_US,
    NEARNESS,
    account_tier,
    density,
    fits_of,
    tier_of,
)
from pointsman.routing.strategies.auto_weights import NORMAL
from pointsman.routing.survey import Survey, survey_of

if TYPE_CHECKING:
    from pointsman.routing.plan import Condition, Problem, Step

Row = tuple[float, float | None, "Condition | None"]  # what a target has by itself, its cost, how it does
Most = tuple[float, float, float]  # the highest cost, latency, deviation


class _Weights:
    """Weights by factor, ready for the loops."""

    __slots__ = ("cost", "density", "fit", "half", "health", "latency", "nearness", "quota", "reset", "stability",
                 "sticky", "tier", "unknown")  # fmt: skip

    def __init__(self, weights: Mapping[str, float], cache_marks: bool) -> None:
        get = weights.get
        self.quota, health = get("quota", 0.0), get("health", 0.0)
        self.latency, self.stability = get("latencyInv", 0.0), get("stability", 0.0)
        self.reset, self.tier = get("resetWindowAffinity", 0.0), get("tierPriority", 0.0)
        self.cost, self.fit, self.density = get("costInv", 0.0), get("taskFit", 0.0), get("connectionDensity", 0.0)
        self.nearness = get("tierAffinity", 0.0) + get("specificityMatch", 0.0)
        cache = get("cacheAffinity", 0.0)
        self.sticky = get("contextAffinity", 0.0) + (cache if cache_marks else 0.0)
        self.half = (get("contextAffinity", 0.0) + cache) * HALF  # what those have that are not the sticky one
        self.unknown = self.quota + health + HALF * (self.latency + self.stability + self.reset)
        self.health = {breaker: health * value for breaker, value in HEALTH.items()} | {"probing": health * HALF}


@lru_cache(maxsize=64)
def _ready(weights: tuple[tuple[str, float], ...], cache_marks: bool) -> _Weights:
    return _Weights(dict(weights), cache_marks)


_USUAL: Final = (_Weights(NORMAL, False), _Weights(NORMAL, True))


def weighted_sum(steps: "list[Step]", problem: "Problem", chosen: Mapping[str, float]) -> list[float]:
    """Each step's score, 0 to 1, by weights that sum to 1."""
    wants, sticky = problem.wants, problem.memory.sticky
    marks, survey = wants.cache_marks, survey_of(problem.route.steps)
    weights = _USUAL[marks] if chosen is NORMAL else _ready(tuple(chosen.items()), marks)
    merits = _merits(survey, weights, wants.task, wants.difficulty)
    rows, most = _gathered(steps, problem, merits)
    scores = _scores(rows, most, weights, problem.now)
    crowds = density(steps) if survey.shared_vendors else None
    if crowds is not None:
        share = {name: weights.density * crowd for name, crowd in crowds.items()}
        scores = [score + share[step.target.connection.id] for score, step in zip(scores, steps, strict=True)]
    if sticky is not None:
        stays = weights.sticky * HALF
        scores = [
            score + stays if step.target.id == sticky else score for score, step in zip(scores, steps, strict=True)
        ]
    if min(scores) < 0 or max(scores) > 1:
        return [min(1.0, max(0.0, score)) for score in scores]
    return scores


def _gathered(steps: "list[Step]", problem: "Problem", merits: dict[str, float]) -> tuple[list[Row], Most]:
    """Of each step its merit, cost and condition; and the highest figures among them, below 0 where none is known."""
    tokens_in, tokens_out = expected_tokens(problem.wants)
    get = problem.conditions.get
    dearest, slowest, widest = -1.0, -1.0, -1.0
    rows: list[Row] = []
    for step in steps:
        target = step.target
        price, one = target.facts.price, get(target.id)
        if price is None:
            rows.append((merits[target.id], None, one))
        else:  # measures.cost_of, without a call for each
            cost = price.prompt * tokens_in + price.completion * tokens_out + price.request
            rows.append((merits[target.id], cost, one))
            if cost > dearest:
                dearest = cost
        if one is not None:
            late, wide = one.latency_p95, one.latency_deviation
            if late is not None and late > slowest:
                slowest = late
            if wide is not None and wide > widest:
                widest = wide
    return rows, (dearest, slowest, widest)


def _scores(rows: list[Row], most: Most, weights: _Weights, now: int) -> list[float]:
    """The sums. measures.headroom and auto_factors.sooner stand here in one loop over the windows."""
    dearest, slowest, widest = most
    health, unknown, price_unknown = weights.health, weights.unknown, weights.cost * HALF if dearest < 0 else 0.0
    # An account whose quota comes back soon counts as one of a better tier.
    even, back = weights.reset * HALF, weights.reset + 0.2 * weights.tier
    for_cost, for_quota, for_speed, for_stability = weights.cost, weights.quota, weights.latency, weights.stability
    scores: list[float] = []
    for merit, cost, one in rows:
        score = merit + (price_unknown if cost is None else for_cost * (1 - cost / dearest if dearest else 1.0))
        if one is None:
            scores.append(score + unknown)
            continue
        left, resets = 1.0 if (whole := one.headroom) is None else whole, even
        if windows := one.windows:
            first = inf
            for window in windows:
                if (remaining := window.remaining) < left:
                    left = remaining
                if (at := window.resets_at) is not None and at < first:
                    first = at
            soon = 1 - (first - now) / MONTH_US
            resets = back if soon > 1 else 0.0 if soon < 0 else back * soon
        late, wide = one.latency_p95, one.latency_deviation
        scores.append(
            score
            + (0.0 if one.quota_spent else for_quota * left)
            + health["probing" if one.probing else one.breaker]
            + for_speed * (1 - late / slowest if late is not None and slowest > 0 else HALF)
            + for_stability * (1 - wide / widest if wide is not None and widest > 0 else HALF)
            + resets
        )
    return scores


@lru_cache(maxsize=256)
def _merits(survey: Survey, weights: _Weights, task: str | None, difficulty: str | None) -> dict[str, float]:
    """What each target has by itself: its account's tier, how it fits the task, how near it is to what is needed."""
    place = MODEL_TIERS.index(difficulty) if difficulty in MODEL_TIERS else -1
    fits, merits = fits_of(task or "medium"), {}
    for target in [step.target for step in survey.steps]:
        merit = weights.tier * 0.8 * account_tier(target.connection.tags) + weights.fit * fits[target.model]
        near = HALF if place < 0 else NEARNESS[abs(tier_of(target.facts.price) - place)]
        merits[target.id] = merit + weights.half + weights.nearness * near
    return merits
