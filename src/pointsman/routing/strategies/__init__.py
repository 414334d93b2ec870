"""Strategies: how the targets of a route are put in order. One module each, with `NAME` and `order`."""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

# name: module
STRATEGIES: Final = {"priority": "priority"}


class Strategy(Protocol):
    """A module of this package."""

    NAME: str

    def order(self, steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
        """The same steps, the first to be tried first. ``steps`` are usable, and in the route's own order."""
        ...


@cache
def strategy(name: str) -> Strategy:
    """The strategy of a name. Raises KeyError."""
    return cast(Strategy, import_module(f"{__name__}.{STRATEGIES[name]}"))
