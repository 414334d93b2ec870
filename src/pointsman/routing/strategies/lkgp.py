"""The last known good provider first: who answered last, else another account of it; the rest in the route's order."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "lkgp"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """The target that answered last; else one of its connection, else of its vendor."""
    last = problem.memory.last_good
    if last is None:
        return steps
    found = _like(last, steps, problem)
    return steps if found is None else [found, *(step for step in steps if step is not found)]


def _like(last: str, steps: "list[Step]", problem: "Problem") -> "Step | None":
    for step in steps:
        if step.target.id == last:
            return step
    good = next((step.target.connection for step in problem.route.steps if step.target.id == last), None)
    connection = good.id if good is not None else last.partition("/")[0]
    for step in steps:
        if step.target.connection.id == connection:
            return step
    if good is not None:
        for step in steps:
            if step.target.connection.vendor == good.vendor:
                return step
    return None


def why(step: "Step", problem: "Problem") -> str:
    """Whether it answered last."""
    return "it answered last" if step.target.id == problem.memory.last_good else "its place in the route"
