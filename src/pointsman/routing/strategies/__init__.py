"""Strategies: how the targets of a route are put in order. One module each."""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

# name: module
STRATEGIES: Final = {
    "priority": "priority",
    "fill-first": "fill_first",
    "weighted": "weighted",
    "round-robin": "round_robin",
    "random": "random_order",
    "strict-random": "strict_random",
    "least-used": "least_used",
    "p2c": "p2c",
    "cost-optimized": "cost_optimized",
    "context-optimized": "context_optimized",
    "lkgp": "lkgp",
    "reset-aware": "reset_aware",
    "reset-window": "reset_window",
    "headroom": "by_headroom",
    "context-relay": "context_relay",
    "auto": "auto",
    "fusion": "fusion",
    "openrouter": "openrouter",
    "profile": "profile",
}


class Strategy(Protocol):
    """A module of this package.

    Beside these members it may have ``FACTS``, the members of `ModelFacts` that it looks at (without it: all), and
    ``why(step, problem)``, the figure in words that put a step where it is.
    """

    NAME: str

    def order(self, steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
        """The same steps, the first to be tried first. ``steps`` are usable, and in the route's own order."""
        ...


@cache
def strategy(name: str) -> Strategy:
    """The strategy of a name. Raises KeyError."""
    return cast(Strategy, import_module(f"{__name__}.{STRATEGIES[name]}"))


@cache
def facts_of(name: str) -> frozenset[str] | None:
    """The members of `ModelFacts` that a strategy looks at; None: it may be any. Raises KeyError."""
    found = getattr(strategy(name), "FACTS", None)
    return None if found is None else frozenset(found)


def why(step: "Step", problem: "Problem") -> str:
    """What put a step where it is, in words; empty when there is nothing to say."""
    tell = getattr(strategy(problem.route.strategy), "why", None)
    return "" if tell is None else str(tell(step, problem))
