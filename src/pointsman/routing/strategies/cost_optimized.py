"""The cheapest for this request first: what goes in and what will come out. Unknown prices come last."""

from math import isinf
from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import cost_of, expected_tokens

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "cost-optimized"
FACTS: Final[tuple[str, ...]] = ("price",)


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """By what this request is expected to cost."""
    tokens = expected_tokens(problem.wants)
    return sorted(steps, key=lambda step: cost_of(step.target.facts.price, tokens))


def why(step: "Step", problem: "Problem") -> str:
    """Its cost."""
    cost = cost_of(step.target.facts.price, expected_tokens(problem.wants))
    return "unpriced" if isinf(cost) else f"about ${cost / 1e12:.6f} for this request"
