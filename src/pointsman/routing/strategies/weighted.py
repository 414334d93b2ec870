"""One is drawn by its weight, the rest follow by descending weight."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "weighted"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Without any weight all are alike; beside a weight above 0, one of 0 is never drawn."""
    weights = [step.weight for step in steps]
    index = draws.weighted(weights)
    rest = steps[:index] + steps[index + 1 :]
    rest.sort(key=lambda step: -step.weight)
    return [steps[index], *rest]


def why(step: "Step", problem: "Problem") -> str:
    """Its weight."""
    total = sum(one.weight for one in problem.route.steps)
    return f"weight {step.weight:g} of {total:g}" if total > 0 else "all weigh the same"
