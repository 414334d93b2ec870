"""OpenRouter's order of the endpoints of a model.

Accounts of one's own come first (connections tagged ``byok``; those tagged ``byok-fallback`` last). Of the others, in
this order of precedence: the caller's ``order``; a ``sort``, by the caller or a variant of the name; a service tier;
and without any of them a draw in which an endpoint is the likelier the cheaper it is, by 1/price^2, those with an
outage behind all others. Endpoints slower than the caller likes go to the end. A conversation stays where its prompt is
cached, unless the caller gave an ``order``. Source: openrouter.ai/docs (provider routing, prompt caching) as of
2026-11.
"""

from collections.abc import Callable
from math import inf, log
from typing import TYPE_CHECKING, Final

from pointsman.routing.providers import provider_matches
from pointsman.routing.survey import survey_of
from pointsman.routing.targets import PriceTag
from pointsman.routing.variants import SETTING, sort_of

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Condition, Problem, Step
    from pointsman.routing.wants import Percentiles, Wants

NAME: Final = "openrouter"
FACTS: Final = ("price", "service_tier", "quantization")
OWN, OWN_LAST = "byok", "byok-fallback"  # tags of connections
USUAL_INPUT: Final = 750  # tokens of a request of unknown size
INPUT_SHARE: Final = 3  # tokens in for one out
# Tiers that come before the rest for those who ask for one of them.
TIER_ORDER: Final = {"priority": ("priority",), "ultrafast": ("ultrafast", "priority"), "flex": ("flex",)}
PERCENTILES: Final = ("p50", "p75", "p90", "p99")


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """The same steps; where the caller wants no fallbacks, only those that may be tried."""
    wants = problem.wants
    preferences = wants.preferences
    if preferences.order:
        return _own_first(_listed(steps, problem, draws))
    ordered = _own_first(_ranked(steps, problem, draws))
    ordered = _stuck(ordered, problem)
    return ordered if preferences.allow_fallbacks else ordered[:1]


def why(step: "Step", problem: "Problem") -> str:
    """What put a step where it is."""
    preferences, condition = problem.wants.preferences, problem.conditions.get(step.target.id)
    if preferences.order and any(provider_matches(slug, step.target) for slug in preferences.order):
        return "its place in the caller's order"
    if problem.memory.sticky == step.target.id and not preferences.order:
        return "it answered this conversation before"
    if OWN in step.target.connection.tags:
        return "an account of one's own"
    sort = _sort(problem)
    cost = _cost(step.target.facts.price, _tokens(problem.wants))
    price = "no known price" if cost == inf else f"{cost / 1e12:.6g} USD for a request like this"
    if sort == "price":
        return f"sorted by price: {price}"
    if sort is not None:
        return f"sorted by {sort}: {_measured(condition)}"
    if problem.wants.service_tier in TIER_ORDER:
        return f"service tier {step.target.facts.service_tier or 'default'}"
    outage = ", after an outage in the last half minute" if condition is not None and condition.unstable else ""
    return f"drawn by 1/price^2: {price}{outage}"


def _measured(condition: "Condition | None") -> str:
    if condition is None:
        return "nothing measured"
    first, speed = condition.first_token.get("p50"), condition.throughput.get("p50")
    return ", ".join(
        (
            "first token unknown" if first is None else f"first token after {first:.3g} s",
            "speed unknown" if speed is None else f"{speed:.3g} tokens/s",
        )
    )


def _listed(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Those that the caller named, in the caller's order; then, if that is allowed, the others."""
    preferences = problem.wants.preferences
    left = _ranked(steps, problem, draws)
    listed: list[Step] = []
    survey = survey_of(problem.route.steps)
    for slug in preferences.order:
        ids = survey.accounts((slug,))
        if ids is None:
            found = [step for step in left if provider_matches(slug, step.target)]
        else:
            found = [step for step in left if step.target.connection.id in ids]
        if found:
            listed += found
            taken = set(map(id, found))
            left = [step for step in left if id(step) not in taken]
    if not preferences.allow_fallbacks:
        return listed or left[:1]
    return listed + left


def _own_first(steps: "list[Step]") -> "list[Step]":
    if not any([step.target.connection.tags for step in steps]):
        return steps
    return sorted(steps, key=_ownership)


def _ownership(step: "Step") -> int:
    tags = step.target.connection.tags
    return 0 if OWN in tags else 2 if OWN_LAST in tags else 1


def _stuck(ordered: "list[Step]", problem: "Problem") -> "list[Step]":
    sticky = problem.memory.sticky
    if sticky is not None:
        for index, step in enumerate(ordered):
            if step.target.id == sticky and not _unstable(problem, step):
                return [step, *ordered[:index], *ordered[index + 1 :]]
    return ordered


def _ranked(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Everything but lists, ownership and stickiness."""
    sort = _sort(problem)
    if sort is not None:
        ranked = SORTERS[sort](steps, problem)
    elif problem.wants.service_tier in TIER_ORDER:
        ranked = _by_tier(steps, problem)
    else:
        ranked = _drawn(steps, problem, draws)
    return _slow_last(ranked, problem)


def _sort(problem: "Problem") -> str | None:
    return problem.wants.preferences.sort or sort_of(problem.route.settings.get(SETTING, ()))


def _drawn(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """One after another, by 1/price^2: keys as Efraimidis and Spirakis draw without replacement (2006)."""
    tokens_in, tokens_out = _tokens(problem.wants)
    costs = [  # `_cost`, without a call for each
        inf
        if (price := step.target.facts.price) is None
        else price.prompt * tokens_in + price.completion * tokens_out + price.request
        for step in steps
    ]
    free = not all(costs)
    known = [cost for cost in costs if 0 < cost < inf]
    dearest, cheapest = (max(known), min(known)) if known else (1.0, 1.0)
    keyed: list[tuple[bool, bool, float, int]] = []
    get = problem.conditions.get
    for index, (step, cost, fraction) in enumerate(zip(steps, costs, draws.fractions(len(steps)), strict=True)):
        # What costs nothing comes before what does. A price that isn't known is taken to be the highest.
        relative = 1.0 if cost == 0 else (dearest if cost == inf else cost) / cheapest
        key = -log(1.0 - fraction) * relative * relative
        unstable = (condition := get(step.target.id)) is not None and condition.unstable
        keyed.append((unstable, free and cost != 0, key, index))
    keyed.sort()
    return [steps[index] for _, _, _, index in keyed]


def _unstable(problem: "Problem", step: "Step") -> bool:
    condition = problem.conditions.get(step.target.id)
    return condition is not None and condition.unstable


def _by_price(steps: "list[Step]", problem: "Problem") -> "list[Step]":
    tokens = _tokens(problem.wants)
    return sorted(steps, key=lambda step: _cost(step.target.facts.price, tokens))


def _by_throughput(steps: "list[Step]", problem: "Problem") -> "list[Step]":
    return sorted(steps, key=lambda step: -_figure(problem, step, "throughput", 0.0))


def _by_latency(steps: "list[Step]", problem: "Problem") -> "list[Step]":
    return sorted(steps, key=lambda step: _figure(problem, step, "first_token", inf))


def _by_quality(steps: "list[Step]", problem: "Problem") -> "list[Step]":
    """By what is known of how well calls go: success, in whole percents, then speed."""

    def key(step: "Step") -> tuple[float, float]:
        condition = problem.conditions.get(step.target.id)
        rate = condition.success_rate if condition is not None else None
        return -(1.0 if rate is None else round(rate, 2)), -_figure(problem, step, "throughput", 0.0)

    return sorted(steps, key=key)


SORTERS: "Final[dict[str, Callable[[list[Step], Problem], list[Step]]]]" = {
    "price": _by_price,
    "throughput": _by_throughput,
    "latency": _by_latency,
    "exacto": _by_quality,
}


def _figure(problem: "Problem", step: "Step", name: str, unknown: float) -> float:
    condition = problem.conditions.get(step.target.id)
    if condition is None:
        return unknown
    figures: dict[str, float] = getattr(condition, name)
    return figures.get("p50", unknown)


def _by_tier(steps: "list[Step]", problem: "Problem") -> "list[Step]":
    """Endpoints of the tier first; the fastest first, or of the cheap tier the cheapest."""
    tier = problem.wants.service_tier or ""
    ranks = {name: rank for rank, name in enumerate(TIER_ORDER[tier])}
    ranked = _by_price(steps, problem) if tier == "flex" else _by_throughput(steps, problem)
    return sorted(ranked, key=lambda step: ranks.get(step.target.facts.service_tier or "", len(ranks)))


def _slow_last(steps: "list[Step]", problem: "Problem") -> "list[Step]":
    preferences = problem.wants.preferences
    slowest, latest = preferences.min_throughput, preferences.max_latency
    if slowest is None and latest is None:
        return steps

    def slow(step: "Step") -> bool:
        condition = problem.conditions.get(step.target.id)
        if condition is None:
            return False
        return _misses(condition.throughput, slowest, least=True) or _misses(condition.first_token, latest, least=False)

    return sorted(steps, key=slow)


def _misses(figures: dict[str, float], bounds: "Percentiles | None", *, least: bool) -> bool:
    """Whether a figure is known and beyond its bound; all of them have to hold."""
    if bounds is None:
        return False
    for at in PERCENTILES:
        bound, figure = getattr(bounds, at), figures.get(at)
        if bound is not None and figure is not None and (figure < bound if least else figure > bound):
            return True
    return False


def _tokens(wants: "Wants") -> tuple[int, float]:
    """About how many tokens go in and come out: three to one, unless the request tells more."""
    tokens_in = wants.input_tokens or USUAL_INPUT
    tokens_out = tokens_in / INPUT_SHARE
    if wants.max_output_tokens:
        tokens_out = min(tokens_out, wants.max_output_tokens)
    return tokens_in, tokens_out


def _cost(price: PriceTag | None, tokens: tuple[int, float]) -> float:
    """Pico-USD; infinite when that isn't known."""
    if price is None:
        return inf
    return price.prompt * tokens[0] + price.completion * tokens[1] + price.request
