"""Quota that would be lost at its reset is used first, and none is run dry. The figures are OmniRoute's.

An account is worth more the more it has left, and the sooner what it has used comes back.
"""

from math import inf
from typing import TYPE_CHECKING, Final

from pointsman.routing.measures import LENGTHS, rotated

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, QuotaWindow, Step

NAME: Final = "reset-aware"
FACTS: Final[tuple[str, ...]] = ()
# What is left, and how soon the rest comes back: their shares of a quota's worth.
SHARES: Final = {"session": (0.45, 0.55), "weekly": (0.25, 0.75), "monthly": (0.25, 0.75), "daily": (0.45, 0.55)}
SESSION_WEIGHT: Final = 0.35
WEEKLY_WEIGHT: Final = 0.65
MONTHLY_SHARE: Final = 0.25
TIE_PERCENT: Final = 5
GUARD_PERCENT: Final = 10
UNKNOWN: Final = 0.5
LEAST_FACTOR: Final = 0.05


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """By descending worth; those within the tie band of the best take turns."""
    band = _setting(problem, "resetAwareTieBandPercent", TIE_PERCENT) / 100
    ranked = [(score(step, problem), step) for step in steps]
    ranked.sort(key=lambda pair: -pair[0])
    best = ranked[0][0]
    alike = [step for worth, step in ranked if best - worth <= band or worth == best]
    return [*rotated(alike, problem.memory.turn), *(step for _, step in ranked[len(alike) :])]


def score(step: "Step", problem: "Problem") -> float:
    """What it is worth to use this account now; 0.5 when no quota of it is known."""
    found = problem.conditions.get(step.target.id)
    if found is None or (not found.windows and found.headroom is None and not found.quota_spent):
        return UNKNOWN
    if found.quota_spent:
        return -inf
    overall = UNKNOWN if found.headroom is None else found.headroom
    windows = {window.kind: window for window in found.windows}
    session = windows.get("session") or windows.get("daily")
    in_session = overall if session is None else session.remaining
    session_weight = _setting(problem, "resetAwareSessionWeight", SESSION_WEIGHT)
    weekly_weight = _setting(problem, "resetAwareWeeklyWeight", WEEKLY_WEIGHT)
    total = session_weight + weekly_weight
    share = session_weight / total if total > 0 else 0.5
    worth = share * _worth(session, overall, problem.now, "session")
    worth += (1 - share) * _worth(windows.get("weekly"), overall, problem.now, "weekly")
    monthly = windows.get("monthly")
    if monthly is not None:
        worth = (1 - MONTHLY_SHARE) * worth + MONTHLY_SHARE * _worth(monthly, overall, problem.now, "monthly")
    guard = _setting(problem, "resetAwareExhaustionGuardPercent", GUARD_PERCENT) / 100
    return worth * max(LEAST_FACTOR, in_session / guard) if in_session < guard else worth


def _worth(window: "QuotaWindow | None", overall: float, now: int, kind: str) -> float:
    left, back = SHARES[kind]
    if window is None:
        return left * overall + back * UNKNOWN * (1 - overall)
    urgency = UNKNOWN
    if window.resets_at is not None:
        urgency = min(1.0, max(0.0, 1 - (window.resets_at - now) / LENGTHS[window.kind]))
    return left * window.remaining + back * urgency * (1 - window.remaining)


def _setting(problem: "Problem", name: str, default: float) -> float:
    value = problem.route.settings.get(name)
    return default if value is None else float(value)


def why(step: "Step", problem: "Problem") -> str:
    """Its worth."""
    return f"worth {score(step, problem):.3f} by quota left and its resets"
