"""Whose quota is whole again soonest comes first; unknown resets last. Those within a minute take turns."""

from math import inf
from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import rotated_ties, seconds_left

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "reset-window"
FACTS: Final[tuple[str, ...]] = ()
TIE_MS: Final = 60_000


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """By the time to the next reset of the windows that the route names (``resetWindowWindows``)."""
    kinds = _kinds(problem)
    ranked = [(_seconds(step, problem, kinds), step) for step in steps]
    ranked.sort(key=lambda pair: pair[0])
    tie = problem.route.settings.get("resetWindowTieBandMs")
    return rotated_ties(ranked, (TIE_MS if tie is None else tie) / 1000, problem.memory.turn)


def _kinds(problem: "Problem") -> tuple[str, ...]:
    settings = problem.route.settings
    kinds = tuple(settings.get("resetWindowWindows") or ("weekly",))
    return (*kinds, "session") if settings.get("resetWindowIncludeSession") else kinds


def _seconds(step: "Step", problem: "Problem", kinds: tuple[str, ...]) -> float:
    found = problem.conditions.get(step.target.id)
    windows = () if found is None else found.windows
    return min([seconds_left(window, problem.now) for window in windows if window.kind in kinds], default=inf)


def why(step: "Step", problem: "Problem") -> str:
    """Its reset."""
    seconds = _seconds(step, problem, _kinds(problem))
    return "no known reset" if seconds == inf else f"its quota is whole again in {seconds:.0f} s"
