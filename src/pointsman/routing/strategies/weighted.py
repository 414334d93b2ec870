"""One is drawn by its weight, the rest follow by descending weight.

With ``stickyWeightedLimit`` so many requests in a row go to the one that was drawn (`Memory.filling`), as long as it
can be used.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "weighted"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Without any weight all are alike; beside a weight above 0, one of 0 is never drawn."""
    weights = [step.weight for step in steps]
    limit = int(problem.route.settings.get("stickyWeightedLimit") or 0)
    index = _drawn_before(steps, problem) if limit > 1 and problem.memory.turn % limit else None
    if index is None:
        index = draws.weighted(weights)
    rest = steps[:index] + steps[index + 1 :]
    rest.sort(key=lambda step: -step.weight)
    return [steps[index], *rest]


def _drawn_before(steps: "list[Step]", problem: "Problem") -> "int | None":
    drawn = problem.memory.filling
    return next((index for index, step in enumerate(steps) if step.target.id == drawn), None)


def why(step: "Step", problem: "Problem") -> str:
    """Its weight."""
    total = sum(one.weight for one in problem.route.steps)
    return f"weight {step.weight:g} of {total:g}" if total > 0 else "all weigh the same"
