"""The largest context window first; unknown ones last."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "context-optimized"
FACTS: Final[tuple[str, ...]] = ("context_tokens",)


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """By descending window."""
    return sorted(steps, key=lambda step: -(step.target.facts.context_tokens or 0))


def why(step: "Step", problem: "Problem") -> str:
    """Its window."""
    window = step.target.facts.context_tokens
    return "an unknown window" if window is None else f"a window of {window:,} tokens"
