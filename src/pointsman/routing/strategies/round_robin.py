"""Each has its turn. ``stickyRoundRobinLimit`` requests in a row go to the same one.

The turn is that of the request, whether or not it goes well: a target that fails does not keep its place.
"""

from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import rotated

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "round-robin"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Begun where it is this request's turn."""
    sticky = problem.route.settings.get("stickyRoundRobinLimit") or 1
    return rotated(steps, problem.memory.turn // max(1, int(sticky)))


def why(step: "Step", problem: "Problem") -> str:
    """The turn."""
    return f"turn {problem.memory.turn}"
