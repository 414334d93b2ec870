"""The better of two that chance picks (Mitzenmacher, The Power of Two Choices, 2001); the rest in the route's order.

Better is who succeeds more often and answers sooner. The figures are OmniRoute's.
"""

from math import inf, log10
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "p2c"
FACTS: Final[tuple[str, ...]] = ()
SUCCESS_UNKNOWN: Final = 0.5
SPEED_UNKNOWN: Final = 0.25
PROBING_COSTS: Final = 0.25


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Two different ones are drawn; the first of them stays when they are alike."""
    one = draws.below(len(steps))
    two = draws.below(len(steps) - 1)
    two += two >= one
    best = two if score(steps[two], problem) > score(steps[one], problem) else one
    return [steps[best], *steps[:best], *steps[best + 1 :]]


def score(step: "Step", problem: "Problem") -> float:
    """How well a target does."""
    found = problem.conditions.get(step.target.id)
    if found is None:
        return SUCCESS_UNKNOWN + SPEED_UNKNOWN
    if found.breaker == "open":
        return -inf
    success = SUCCESS_UNKNOWN if found.success_rate is None else found.success_rate
    speed = SPEED_UNKNOWN if found.latency is None else 1 / log10(found.latency * 1000 + 10)
    probing = found.probing or found.breaker == "half_open"
    return success + speed - (PROBING_COSTS if probing else 0.0)


def why(step: "Step", problem: "Problem") -> str:
    """Its score."""
    return f"score {score(step, problem):.3f}"
