"""The factors of `auto`: what speaks for a target, from 0 to 1. One that is the same for all is a single number."""

import re
from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import expected_tokens, headroom
from pointsman.routing.targets import PriceTag

if TYPE_CHECKING:
    from pointsman.routing.plan import Condition, Problem, Step

Values = list[float] | float
HALF: Final = 0.5
MONTH_US: Final = 2_592_000 * 1_000_000
HEALTH: Final = {"closed": 1.0, "half_open": 0.5, "open": 0.0}
ACCOUNT_TIERS: Final = {"ultra": 1.0, "pro": 0.67, "standard": 0.33, "free": 0.0}
MODEL_TIERS: Final = ("free", "cheap", "premium")
NEARNESS: Final = (1.0, 0.7, 0.3)  # by steps between two tiers
PREMIUM_FROM: Final = 3_000_000  # pico-USD a token, three in for one out: 3 USD a million
# How well families of models suit tasks; the first pattern found in a model's name counts. Judged by what they are sold
# for: small ones for simple work, those that think for reasoning, those for programmers for code.
_FITS: Final = (
    (re.compile("coder|codex|codestral|devstral|-code"), {"code": 1.0, "reasoning": 0.6, "simple": 0.5, "medium": 0.6}),
    (re.compile(r"nano|mini|lite|haiku|flash|small|tiny|\b[1-9]b\b"),
     {"code": 0.45, "reasoning": 0.4, "simple": 1.0, "medium": 0.65}),
    (re.compile(r"opus|\bo[134]\b|-r1|reason|think|-pro\b|deep"),
     {"code": 0.9, "reasoning": 1.0, "simple": 0.4, "medium": 0.75}),
    (re.compile("sonnet|gpt-5|gpt-4|gemini|grok|claude|large|glm|kimi|qwen"),
     {"code": 0.85, "reasoning": 0.8, "simple": 0.6, "medium": 0.9}),
)  # fmt: skip
MOST_KNOWN: Final = 10_000


def measured(steps: "list[Step]", problem: "Problem", names: frozenset[str]) -> dict[str, Values]:
    """The factors of these names for each step."""
    conditions = problem.conditions
    found: list[Condition | None]
    found = [conditions.get(step.target.id) for step in steps] if conditions else [None] * len(steps)
    done: dict[Callable[..., Values], Values] = {}
    for name, make in FACTORS.items():
        if name in names and make not in done:
            done[make] = make(steps, found, problem)
    return {name: done[make] for name, make in FACTORS.items() if name in names}


def _quota(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    if not problem.conditions:
        return 1.0
    return [1.0 if one is None else headroom(one) for one in found]


def _health(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    if not problem.conditions:
        return 1.0
    return [1.0 if one is None else HALF if one.probing else HEALTH[one.breaker] for one in found]


def _cheapness(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    tokens_in, tokens_out = expected_tokens(problem.wants)
    costs = [  # measures.cost_of, without a call for each
        inf
        if (price := step.target.facts.price) is None
        else price.prompt * tokens_in + price.completion * tokens_out + price.request
        for step in steps
    ]
    highest = max([cost for cost in costs if cost != inf], default=-1.0)
    if highest < 0:
        return HALF
    return [0.0 if cost == inf else 1 - cost / highest if highest else 1.0 for cost in costs]


def _quickness(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    if not problem.conditions:
        return HALF
    times = [None if one is None else one.latency_p95 for one in found]
    highest = max([time for time in times if time is not None], default=0.0)
    return [1 - time / highest if time is not None and highest else HALF for time in times]


def _stability(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    if not problem.conditions:
        return HALF
    spreads = [None if one is None else one.latency_deviation for one in found]
    highest = max([spread for spread in spreads if spread is not None], default=0.0)
    return [1 - spread / highest if spread is not None and highest else HALF for spread in spreads]


def _task_fit(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    fits = fits_of(problem.wants.task or "medium")
    return [fits[step.target.model] for step in steps]


class Fits(dict[str, float]):
    """How well models suit one task, by name: worked out once for each, as long as there are not too many."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self._task = task

    def __missing__(self, model: str) -> float:
        name = model.lower()[:200]
        value = next((fits.get(self._task, HALF) for pattern, fits in _FITS if pattern.search(name)), HALF)
        if len(self) < MOST_KNOWN:
            self[model] = value
        return value


@lru_cache(maxsize=16)
def fits_of(task: str) -> Fits:
    """How well models suit a task, by their names."""
    return Fits(task)


def _account_tier(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    """A better account first, and one whose quota comes back soon: the tier stands among the connection's tags."""
    tags = [step.target.connection.tags for step in steps]
    plain = 0.8 * ACCOUNT_TIERS["standard"]
    tiers = [plain if not one else 0.8 * account_tier(one) for one in tags]
    if not problem.conditions:
        return tiers
    now = problem.now
    return [
        tier if one is None or not one.windows else min(1.0, tier + 0.2 * sooner(one, now))
        for tier, one in zip(tiers, found, strict=True)
    ]


def account_tier(tags: frozenset[str]) -> float:
    """What an account is worth by the tier among its connection's tags."""
    for tag, value in ACCOUNT_TIERS.items():
        if tag in tags:
            return value
    return ACCOUNT_TIERS["standard"]


def sooner(condition: "Condition", now: int) -> float:
    """How soon the first of its quotas is whole again: 1 now, 0 in a month or at an unknown time."""
    first = inf
    for window in condition.windows:
        at = window.resets_at
        if at is not None and at < first:
            first = at
    soon = 1 - (first - now) / MONTH_US
    return 1.0 if soon > 1 else 0.0 if soon < 0 else soon


def tier_of(price: PriceTag | None) -> int:
    """A model's place in MODEL_TIERS by its price; an unknown one is taken to be cheap."""
    if price is None:
        return 1
    blended = (3 * price.prompt + price.completion) / 4
    return 0 if blended == 0 else 2 if blended >= PREMIUM_FROM else 1


def _difficulty(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    """How near the model's tier is to what the request needs; the same for all without a hint."""
    hint = problem.wants.difficulty
    if hint not in MODEL_TIERS:
        return HALF
    place = MODEL_TIERS.index(hint)
    return [NEARNESS[abs(tier_of(step.target.facts.price) - place)] for step in steps]


def _context(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    sticky = problem.memory.sticky
    return HALF if sticky is None else [1.0 if step.target.id == sticky else HALF for step in steps]


def _density(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    crowds = density(steps)
    return 0.0 if crowds is None else [crowds[step.target.connection.id] for step in steps]


def density(steps: "list[Step]") -> dict[str, float] | None:
    """By connection: vendors with several accounts can take more. None: no vendor has several."""
    accounts = {(one := step.target.connection).id: one for step in steps}
    crowds: dict[str, int] = {}
    vendors = {name: one.provider or one.kind for name, one in accounts.items()}
    for vendor in vendors.values():
        crowds[vendor] = crowds.get(vendor, 0) + 1
    if len(crowds) == len(vendors):
        return None
    return {name: min(1.0, (crowds[vendor] - 1) / 10) for name, vendor in vendors.items()}


def _resets(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    """The sooner a quota is whole again, the less it has to be spared."""
    now = problem.now
    return [HALF if one is None or not one.windows else sooner(one, now) for one in found]


def _cache(steps: "list[Step]", found: "list[Condition | None]", problem: "Problem") -> Values:
    """A prompt that is marked for a cache is cheaper where it lies."""
    return _context(steps, found, problem) if problem.wants.cache_marks else HALF


FACTORS: Final[dict[str, Callable[..., Values]]] = {
    "quota": _quota,
    "health": _health,
    "costInv": _cheapness,
    "latencyInv": _quickness,
    "taskFit": _task_fit,
    "stability": _stability,
    "tierPriority": _account_tier,
    "tierAffinity": _difficulty,
    "specificityMatch": _difficulty,
    "contextAffinity": _context,
    "connectionDensity": _density,
    "resetWindowAffinity": _resets,
    "cacheAffinity": _cache,
}
