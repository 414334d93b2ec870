"""Who has the largest part of its scarcest quota left comes first; an unknown quota counts as whole."""

from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import headroom

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "headroom"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """By descending headroom; those alike keep the route's order."""
    get = problem.conditions.get
    return sorted(steps, key=lambda step: -headroom(get(step.target.id)))


def why(step: "Step", problem: "Problem") -> str:
    """Its headroom."""
    return f"{headroom(problem.conditions.get(step.target.id)):.0%} of its quota left"
