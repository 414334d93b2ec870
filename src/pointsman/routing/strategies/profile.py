"""CrossCompute's profiles: models of the budget that the request asks for, by what they are worth to it.

First come models that the operator has pinned, then those an engine has picked, then the budget's own, then those of
the next ones. Among a budget's models quality counts against price: cheap looks at the price first, premium at quality
alone. A conversation stays with its model while tools are at work, and else as long as the budget fits.
"""

from math import inf
from typing import TYPE_CHECKING, Any, Final

from pointsman.routing.profiles.budgets import AUTO, BUDGETS
from pointsman.routing.profiles.grades import REASONING, Grade, blended_price, grade_of
from pointsman.routing.wants import Judged

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "profile"
FACTS: Final = ("price", "parameters")
# Where to look when a budget has nothing: upwards first, since an answer that is good enough is what is asked for.
ORDER: Final = {
    "cheap": ("cheap", "medium", "premium"), "medium": ("medium", "premium", "cheap"),
    "premium": ("premium", "medium", "cheap"),
}  # fmt: skip
# What a point of quality, and a point of price, count for by budget; then what the tier adds to both.
WORTH: Final = {"cheap": (0.4, 0.6), "medium": (0.6, 0.25), "premium": (1.0, 0.0)}
BY_TIER: Final = {"SIMPLE": (-0.1, 0.2), "MEDIUM": (0.0, 0.0), "COMPLEX": (0.2, -0.1), "REASONING": (0.2, -0.1)}
GUESSED: Final = 0.1  # what a model loses whose price nobody knows
Key = tuple[bool, int, int, int, bool, int, float, int, float]
NOBODY: Final = Judged(profile="auto", budget="medium", tier="MEDIUM", score=0.0, confidence=0.5)


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """The one to be asked first, then those to fall back to."""
    judged = problem.wants.judged or NOBODY
    sticky = next((step for step in steps if step.target.id == problem.memory.sticky), None)
    stays = sticky is not None and holds(sticky, judged, problem)
    budget = judged.budget
    if stays and judged.tool_loop and sticky is not None:  # and what it falls back to is no lesser one
        budget = max(budget, grade_of(sticky.id, 0).budget, key=_height)
    pins = _places(problem.route.settings.get("pins"), f"{budget}/{judged.tier}")
    picks = {name: place for place, name in enumerate(judged.picks)}
    key = _key(judged, budget, (pins, picks), problem)
    ordered = sorted(steps, key=key)
    if stays and sticky is not None:
        return [sticky, *[step for step in ordered if step is not sticky]]
    return ordered


def holds(step: "Step", judged: Judged, problem: "Problem") -> bool:
    """Whether a conversation stays with the model that answered it."""
    if judged.tool_loop:
        return True
    if judged.tier == "REASONING" and _reasons(step) is False:
        return False
    if judged.profile != AUTO:
        return True
    return _height(judged.budget) <= _height(grade_of(step.id, 0).budget) <= _height(judged.holds or judged.budget)


def _height(budget: str) -> int:
    names: tuple[str, ...] = BUDGETS
    return names.index(budget)


def _places(pins: Any, name: str) -> dict[str, int]:
    """The place of each pinned target for a budget and a tier."""
    ids = pins.get(name, ()) if isinstance(pins, dict) else ()
    return {one: place for place, one in enumerate(ids)}


def _key(judged: Judged, budget: str, named: tuple[dict[str, int], dict[str, int]], problem: "Problem") -> Any:
    chain, conditions, (pins, picks) = ORDER[budget], problem.conditions, named
    share, price_share = (a + b for a, b in zip(WORTH[budget], BY_TIER[judged.tier], strict=True))

    def key(step: "Step") -> Key:
        target, grade = step.target, grade_of(step.id, step.weight)
        condition = conditions.get(target.id)
        unstable = condition is not None and condition.unstable
        place = pins.get(target.id, len(pins)), picks.get(target.id, len(picks))
        thoughtless = judged.tier == "REASONING" and _reasons(step) is False
        price = blended_price(target.facts.price)
        return (
            unstable, *place, grade.rank // 2, thoughtless, chain.index(grade.budget) * 2 + grade.rank % 2,
            -worth_of(grade, (share, price_share)), -target.connection.priority, inf if price is None else price,
        )  # fmt: skip

    return key


def worth_of(grade: Grade, shares: tuple[float, float]) -> float:
    """What a model is worth: quality against price."""
    return round(shares[0] * grade.quality - shares[1] * grade.price - (GUESSED if grade.guessed else 0.0), 6)


def _reasons(step: "Step") -> bool | None:
    known = step.target.facts.parameters
    return None if known is None else not REASONING.isdisjoint(known)


def why(step: "Step", problem: "Problem") -> str:
    """What put a model where it is."""
    judged = problem.wants.judged or NOBODY
    if step.target.id == problem.memory.sticky and holds(step, judged, problem):
        return "the conversation stays with its model" + (" while tools are at work" if judged.tool_loop else "")
    grade = grade_of(step.id, step.weight)
    pins = _places(problem.route.settings.get("pins"), f"{judged.budget}/{judged.tier}")
    first = "pinned; " if step.target.id in pins else ""
    if step.target.id in judged.picks:
        first += f"chosen by {judged.engine}; "
    ranks = ("", ", an older release", ", for special work, a luxury or tiny")
    blended = blended_price(step.target.facts.price)
    price = "no price known, judged by its name" if blended is None else f"{blended / 1e6:.2f} USD a million tokens"
    return f"{first}{grade.budget}{ranks[grade.rank]}: quality {grade.quality:.2f}, {price}"
