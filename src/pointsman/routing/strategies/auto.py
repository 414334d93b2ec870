"""A scored choice: the sum of weighted factors, each from 0 to 1; a little chance keeps what is known of all fresh.

The factors' weights, the tiers and the figures of self-healing are OmniRoute's. A target that scores very low rests for
a while (`Memory.resting`); it comes last then, and is tried all the same when nothing else is left. A price that isn't
known counts as the highest, since it must not win by being unknown; a latency that isn't known counts half.
"""

from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final, cast

from pointsman.routing.measures import cost_of, expected_tokens, rotated
from pointsman.routing.strategies import cost_optimized, lkgp
from pointsman.routing.strategies.auto_factors import FACTORS, measured
from pointsman.routing.strategies.auto_sum import weighted_sum
from pointsman.routing.strategies.auto_weights import chosen_tiers, chosen_weights

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "auto"
FACTS: Final = ("price", "slug", "author")
ALIKE: Final = 1e-4  # of the best score: the top tier
NEAR: Final = 0.3  # of the range from best to worst: the middle tier
CLEAR: Final = 0.1  # a range this wide: the best are taken without a draw
EXPLORE: Final = 0.05
RESTS_BELOW: Final = 0.2
REST_US: Final = 300 * 1_000_000
LONGEST_REST_US: Final = 1800 * 1_000_000
# Router strategies of a route's ``routerStrategy`` that are something else than the sum of factors.
SLA: Final = {"latency": 0.35, "error": 0.35, "health": 0.15, "cost": 0.10, "stability": 0.05}
Ranked = list[tuple[float, "Step"]]


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """The chosen one, then the others by descending score; those that rest come last."""
    router = problem.route.settings.get("routerStrategy") or "rules"
    if router in ("cost", "eco"):
        return cost_optimized.order(steps, problem, draws)
    if router == "lkgp":
        return lkgp.order(steps, problem, draws)
    if router in ("latency", "fast"):
        return sorted(steps, key=lambda step: _slowness(step, problem))
    if router in ("sla", "sla-aware"):
        return [step for _, step in _by_sla(steps, problem)]
    ranked = list(zip(scores(steps, problem), steps, strict=True))
    ranked.sort(key=itemgetter(0), reverse=True)
    resting = problem.memory.resting
    if resting or ranked[-1][0] < RESTS_BELOW:
        awake, asleep = _split(ranked, problem)
    else:
        awake, asleep = ranked, []
    pick = _pick(awake, problem, draws)
    if problem.wants.budget is not None:
        pick = _affordable(pick, awake, problem)
    ordered = [step for _, step in awake if step is not pick]
    ordered.insert(0, pick)
    return ordered + [step for _, step in asleep] if asleep else ordered


def scores(steps: "list[Step]", problem: "Problem") -> list[float]:
    """Each step's score, 0 to 1."""
    return weighted_sum(steps, problem, chosen_weights(problem.route.settings, problem.wants.mode))


def resting(problem: "Problem") -> dict[str, tuple[int, int]]:
    """Who rests after this request, until when (us) and how often in a row; who does well again is forgotten."""
    steps, now, before = list(problem.route.steps), problem.now, problem.memory.resting
    found: dict[str, tuple[int, int]] = {}
    for step, score in zip(steps, scores(steps, problem), strict=True):
        until, times = before.get(step.target.id, (0, 0))
        if until > now:
            found[step.target.id] = (until, times)
        elif score < RESTS_BELOW:
            found[step.target.id] = (now + min(REST_US * 2**times, LONGEST_REST_US), min(times + 1, 8))
    return found


def _split(ranked: Ranked, problem: "Problem") -> tuple[Ranked, Ranked]:
    """Who takes part in the choice, and who rests. When all rest, none does."""
    now = problem.now
    rest = {name for name, (until, _) in problem.memory.resting.items() if until > now}
    awake = [pair for pair in ranked if pair[0] >= RESTS_BELOW and pair[1].target.id not in rest]
    if not awake or len(awake) == len(ranked):
        return ranked, []
    return awake, [pair for pair in ranked if pair[0] < RESTS_BELOW or pair[1].target.id in rest]


def _pick(ranked: Ranked, problem: "Problem", draws: "Draws") -> "Step":
    if len(ranked) == 1:
        return ranked[0][1]
    rate = problem.route.settings.get("explorationRate")
    if draws.fraction() < (EXPLORE if rate is None else float(rate)) and not _incident(ranked, problem):
        return ranked[draws.below(len(ranked))][1]
    best, worst = ranked[0][0], ranked[-1][0]
    spread, turn = best - worst, problem.memory.turn
    if spread >= CLEAR:
        alike = next((place for place, (score, _) in enumerate(ranked) if best - score > ALIKE), len(ranked))
        return ranked[turn % alike][1]
    tiers: tuple[list[Step], list[Step], list[Step]] = ([], [], [])
    for score, step in ranked:
        behind = best - score
        tiers[0 if behind <= ALIKE else 1 if behind <= NEAR * spread else 2].append(step)
    shares = chosen_tiers(problem.route.settings)
    index = draws.weighted([share if tier else 0.0 for share, tier in zip(shares, tiers, strict=True)])
    return rotated(tiers[index] or tiers[0], turn)[0]


def _incident(ranked: Ranked, problem: "Problem") -> bool:
    """More than half of the breakers are open: no time for experiments."""
    if not problem.conditions:
        return False
    states = [problem.conditions.get(step.target.id) for step in problem.route.steps]
    return 2 * sum(found is not None and found.breaker == "open" for found in states) > len(states)


def _affordable(pick: "Step", ranked: Ranked, problem: "Problem") -> "Step":
    """The pick when the budget allows it; else the best that it allows; else the cheapest."""
    budget, tokens = cast(int, problem.wants.budget), expected_tokens(problem.wants)
    if cost_of(pick.target.facts.price, tokens) <= budget:
        return pick
    costs = [(cost_of(step.target.facts.price, tokens), step) for _, step in ranked]
    return next((step for cost, step in costs if cost <= budget), min(costs, key=lambda pair: pair[0])[1])


def _slowness(step: "Step", problem: "Problem") -> float:
    """The 95th percentile of the latency in ms, and a second for each per mille of failures."""
    found = problem.conditions.get(step.target.id)
    if found is None or found.latency_p95 is None:
        return inf
    failures = 0.0 if found.success_rate is None else 1 - found.success_rate
    return found.latency_p95 * 1000 + failures * 1000


def _by_sla(steps: "list[Step]", problem: "Problem") -> Ranked:
    """By OmniRoute's sum for service levels; ``hardConstraints`` puts who breaks one behind who doesn't."""
    found = measured(steps, problem, frozenset(("latencyInv", "health", "costInv", "stability")))

    def of(name: str, index: int) -> float:
        values = found[name]
        return values if isinstance(values, float) else values[index]

    settings, ranked = problem.route.settings, []
    for index, step in enumerate(steps):
        condition = problem.conditions.get(step.target.id)
        success = 0.5 if condition is None or condition.success_rate is None else condition.success_rate
        score = SLA["latency"] * of("latencyInv", index) + SLA["error"] * success + SLA["health"] * of("health", index)
        score += SLA["cost"] * of("costInv", index) + SLA["stability"] * of("stability", index)
        ranked.append((score, step))
    hard = bool((settings.get("sla") or {}).get("hardConstraints"))
    ranked.sort(key=lambda pair: (hard and _breaks(pair[1], problem), -pair[0]))
    return ranked


def _breaks(step: "Step", problem: "Problem") -> bool:
    bounds, found = problem.route.settings.get("sla") or {}, problem.conditions.get(step.target.id)
    if found is None:
        return False
    slow = bounds.get("maxP95Ms") is not None and (found.latency_p95 or 0) * 1000 > float(bounds["maxP95Ms"])
    success = 1.0 if found.success_rate is None else found.success_rate
    failing = bounds.get("maxErrorRate") is not None and 1 - success > float(bounds["maxErrorRate"])
    return slow or failing


def why(step: "Step", problem: "Problem") -> str:
    """The score, and the three factors that gave most of it."""
    steps = list(problem.route.steps)
    weights = chosen_weights(problem.route.settings, problem.wants.mode)
    index = next(number for number, one in enumerate(steps) if one is step)
    found = measured(steps, problem, frozenset(weights))
    parts = []
    for name in FACTORS:
        if name in found:
            values = found[name]
            value = values if isinstance(values, float) else values[index]
            parts.append((weights[name] * value, name, value))
    most = sorted(parts, reverse=True)[:3]
    told = ", ".join(f"{name} {value:.2f}" for _, name, value in most)
    rests = problem.memory.resting.get(step.target.id, (0, 0))[0] > problem.now
    return f"score {sum(part[0] for part in parts):.3f} ({told}){', rests after doing badly' if rests else ''}"
