"""One account is used up before the next one is begun.

Other than `priority` it is not drawn back to an earlier account as soon as that one has some quota again: the account
in use (`Memory.filling`) stays until its own quota is gone. A failure moves nothing: that is health's business.
"""

from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import headroom, rotated

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "fill-first"
FACTS: Final[tuple[str, ...]] = ()
SPENT: Final = 0.02  # so little left counts as nothing (OmniRoute's quotaPreflight)


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """Those with quota first, begun with the one in use; then those without, the fullest first."""
    get = problem.conditions.get
    spent: list[Step] = []
    left: list[Step] = []
    for step in steps:
        (left if headroom(get(step.target.id)) > SPENT else spent).append(step)
    filling = problem.memory.filling
    if filling is not None:
        place = next((index for index, step in enumerate(left) if step.target.id == filling), None)
        if place is None:  # it is used up, or away for a while
            place = _after(filling, left, problem) if any(step.target.id == filling for step in spent) else 0
        left = rotated(left, place)
    spent.sort(key=lambda step: -headroom(get(step.target.id)))
    return left + spent


def _after(filling: str, left: "list[Step]", problem: "Problem") -> int:
    """The place of the first that stands behind the one that is used up."""
    names = [step.target.id for step in problem.route.steps]
    behind = set(names[names.index(filling) + 1 :])
    return next((index for index, step in enumerate(left) if step.target.id in behind), 0)


def why(step: "Step", problem: "Problem") -> str:
    """Its quota, and whether it is the one in use."""
    using = ", the account in use" if step.target.id == problem.memory.filling else ""
    return f"{headroom(problem.conditions.get(step.target.id)):.0%} of its quota left{using}"
