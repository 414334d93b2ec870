"""The route's own order."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "priority"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """As they stand in the route."""
    return steps


def why(step: "Step", problem: "Problem") -> str:
    """Its place."""
    return "its place in the route"
