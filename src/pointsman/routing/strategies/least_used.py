"""Who has the least to do now comes first; among those alike, who had the least to do lately."""

from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import rotated

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "least-used"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """By calls under way, then by calls of the last minutes, then in turn."""
    get = problem.conditions.get

    def load(step: "Step") -> tuple[int, int]:
        found = get(step.target.id)
        return (0, 0) if found is None else (found.in_flight, found.calls)

    return sorted(rotated(steps, problem.memory.turn), key=load)


def why(step: "Step", problem: "Problem") -> str:
    """Its load."""
    found = problem.conditions.get(step.target.id)
    return f"{found.in_flight if found else 0} calls under way, {found.calls if found else 0} lately"
