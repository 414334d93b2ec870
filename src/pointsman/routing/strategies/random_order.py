"""Any order is as likely as any other."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "random"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Shuffled."""
    return draws.shuffled(steps)


def why(step: "Step", problem: "Problem") -> str:
    """Chance."""
    return "drawn"
