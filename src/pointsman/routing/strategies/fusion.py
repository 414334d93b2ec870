"""A panel of models answers, a judge makes one answer of it. This is the order of the panel.

Who does badly now stands at the end, so that a panel of limited size is made of healthy ones. A request with tools goes
to one model alone, the judge when it is one of the targets.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "fusion"
FACTS: Final[tuple[str, ...]] = ()
MIN_PANEL: Final = 2


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """The route's own order, the unstable ones last; with tools the judge first."""
    get = problem.conditions.get
    shaky = [(found := get(step.target.id)) is not None and (found.unstable or found.probing) for step in steps]
    ordered = [step for step, bad in zip(steps, shaky, strict=True) if not bad]
    ordered += [step for step, bad in zip(steps, shaky, strict=True) if bad]
    judge = problem.route.settings.get("judgeModel")
    if judge and problem.wants.tools:
        ordered.sort(key=lambda step: judge not in (step.target.id, step.target.model))
    return ordered


def panel_size(count: int, problem: "Problem") -> int:
    """How many of ``count`` targets are asked: ``fusionTuning.maxPanel``, at least two, at most all."""
    tuning = problem.route.settings.get("fusionTuning") or {}
    most = tuning.get("maxPanel")
    return count if most is None else min(count, max(MIN_PANEL, int(most)))


def why(step: "Step", problem: "Problem") -> str:
    """Its place in the panel."""
    return "one model alone, as the request has tools" if problem.wants.tools else "a member of the panel"
