"""The weighted sum of all factors of `auto` in one pass: what adding the values of auto_factors.py gives, but sooner.

A test holds the two together; whoever changes one changes the other.
"""

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import expected_tokens, headroom
from pointsman.routing.strategies.auto_factors import (
    ACCOUNT_TIERS,
    HALF,
    HEALTH,
    MODEL_TIERS,
    NEARNESS,
    PREMIUM_FROM,
    account_tier,
    density,
    fit_of,
    sooner,
)

if TYPE_CHECKING:
    from pointsman.routing.plan import Condition, Problem, Step

_PLAIN_TIER: Final = 0.8 * ACCOUNT_TIERS["standard"]


class _Weights:
    """Weights by factor, ready for the loop."""

    __slots__ = ("cost", "density", "fit", "half", "health", "latency", "nearness", "quota", "reset", "stability",
                 "sticky", "tier", "unknown")  # fmt: skip

    def __init__(self, weights: Mapping[str, float], problem: "Problem") -> None:
        get = weights.get
        self.quota, self.health = get("quota", 0.0), get("health", 0.0)
        self.latency, self.stability = get("latencyInv", 0.0), get("stability", 0.0)
        self.reset, self.tier = get("resetWindowAffinity", 0.0), get("tierPriority", 0.0)
        self.cost, self.fit, self.density = get("costInv", 0.0), get("taskFit", 0.0), get("connectionDensity", 0.0)
        self.nearness = get("tierAffinity", 0.0) + get("specificityMatch", 0.0)
        cache = get("cacheAffinity", 0.0)
        self.sticky = get("contextAffinity", 0.0) + (cache if problem.wants.cache_marks else 0.0)
        self.half = (get("contextAffinity", 0.0) + cache) * HALF  # what those have that are not the sticky one
        self.unknown = self.quota + self.health + HALF * (self.latency + self.stability + self.reset)


def weighted_sum(steps: "list[Step]", problem: "Problem", chosen: Mapping[str, float]) -> list[float]:
    """Each step's score, 0 to 1, by weights that sum to 1."""
    weights = _Weights(chosen, problem)
    conditions, now, wants = problem.conditions, problem.now, problem.wants
    targets = [step.target for step in steps]
    found = [conditions.get(target.id) for target in targets] if conditions else [None] * len(targets)
    tokens_in, tokens_out = expected_tokens(wants)
    prices = [target.facts.price for target in targets]
    costs = [
        inf if price is None else price.prompt * tokens_in + price.completion * tokens_out + price.request
        for price in prices
    ]
    dearest = max([cost for cost in costs if cost != inf], default=-1.0)
    slowest = max([one.latency_p95 for one in found if one is not None and one.latency_p95 is not None], default=0.0)
    widest = max(
        [one.latency_deviation for one in found if one is not None and one.latency_deviation is not None], default=0.0
    )
    place = MODEL_TIERS.index(wants.difficulty) if wants.difficulty in MODEL_TIERS else -1
    crowds, sticky, task = density(steps), problem.memory.sticky, wants.task or "medium"
    scores = []
    for target, one, price, cost in zip(targets, found, prices, costs, strict=True):
        connection = target.connection
        score = weights.unknown if one is None else _standing(one, weights, (slowest, widest), now)
        tier = _PLAIN_TIER if not connection.tags else 0.8 * account_tier(connection.tags)
        if one is not None and one.windows:
            tier = min(1.0, tier + 0.2 * sooner(one, now))
        score += weights.tier * tier + weights.fit * fit_of(task, target.model) + weights.half
        if dearest < 0:
            score += weights.cost * HALF
        elif cost != inf:
            score += weights.cost * (1 - cost / dearest if dearest else 1.0)
        if place < 0:
            score += weights.nearness * HALF
        else:
            # auto_factors.tier_of, without a call for each
            blended = -1 if price is None else 3 * price.prompt + price.completion
            own = 1 if blended < 0 else 0 if blended == 0 else 2 if blended >= 4 * PREMIUM_FROM else 1
            score += weights.nearness * NEARNESS[abs(own - place)]
        if crowds is not None:
            score += weights.density * crowds[connection.id]
        if sticky is not None and target.id == sticky:
            score += weights.sticky * HALF
        scores.append(0.0 if score < 0 else 1.0 if score > 1 else score)
    return scores


def _standing(one: "Condition", weights: _Weights, most: tuple[float, float], now: int) -> float:
    """What a target's condition gives: quota, health, speed, steadiness, resets."""
    slowest, widest = most
    score = weights.quota * headroom(one)
    score += weights.health * (HALF if one.probing else HEALTH[one.breaker])
    late, wide = one.latency_p95, one.latency_deviation
    score += weights.latency * (1 - late / slowest if late is not None and slowest else HALF)
    score += weights.stability * (1 - wide / widest if wide is not None and widest else HALF)
    if weights.reset:
        score += weights.reset * (sooner(one, now) if one.windows else HALF)
    return score
