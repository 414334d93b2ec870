"""The route's own order; what makes it special is the summary that is handed over when an account's quota runs out.

`handoff_due` says when such a summary is to be written.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pointsman.routing.measures import headroom

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Condition, Problem, Step

NAME: Final = "context-relay"
FACTS: Final[tuple[str, ...]] = ()
THRESHOLD: Final = 0.85  # of the quota used: from here on a summary is prepared
TOO_LATE: Final = 0.95


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """As they stand in the route."""
    return steps


def handoff_due(condition: "Condition | None", settings: Mapping[str, Any]) -> bool:
    """Whether an account is near the end of its quota, but still good for one more call."""
    used = 1 - headroom(condition)
    return float(settings.get("handoffThreshold") or THRESHOLD) <= used < TOO_LATE


def why(step: "Step", problem: "Problem") -> str:
    """Its place."""
    return f"its place in the route; {headroom(problem.conditions.get(step.target.id)):.0%} of its quota left"
