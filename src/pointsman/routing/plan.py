"""The plan of a request: which targets are tried, in which order, and why the others are not.

Pure: everything that decides stands in the `Problem`, chance included (a seed). The same problem gives the same plan,
so a stored problem can be replayed, and reasons need to be put into words only when someone asks for them (explain.py).
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from pointsman.routing import filters
from pointsman.routing.draws import Draws
from pointsman.routing.strategies import strategy
from pointsman.routing.targets import Target
from pointsman.routing.wants import Wants

Kind = Literal["model", "combo", "profile", "auto"]
HEALTH: Final = "health"


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a target does now. One that nothing is known of has none: it is taken to be fine.

    ``until`` (us) is when it may be used again, ``reason`` why not now. ``probing``: it may be tried by one call at a
    time. ``unstable``: many of its calls failed in the last half minute. Measurements: seconds and tokens a second over
    the last minutes, None without calls.
    """

    usable: bool = True
    until: int = 0
    reason: str = ""
    probing: bool = False
    unstable: bool = False
    calls: int = 0
    in_flight: int = 0
    success_rate: float | None = None
    first_token: dict[str, float] = {}  # by percentile: p50, p75, p90, p99
    throughput: dict[str, float] = {}
    headroom: float | None = None  # the part of its quota that is left


FINE: Final = Condition()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A target as one entry of a route. Steps of a smaller ``group`` all come before those of a larger one."""

    target: Target
    weight: float = 0.0
    group: int = 0
    id: str = ""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's name means: steps, and the strategy that orders them. ``settings`` are the strategy's own."""

    name: str
    kind: Kind = "model"
    strategy: str = "priority"
    steps: tuple[Step, ...]
    settings: dict[str, Any] = {}

    @property
    def only(self) -> Target | None:
        """The target, when there is no choice and nothing to be done to the call."""
        return self.steps[0].target if len(self.steps) == 1 and self.kind == "model" else None


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What earlier requests of a route have left behind. ``turn`` counts them, ``last_good`` answered last,
    ``sticky`` answered this conversation, ``deck`` is what is still to be dealt (target ids).
    """

    turn: int = 0
    last_good: str | None = None
    sticky: str | None = None
    deck: tuple[str, ...] = ()


NO_MEMORY: Final = Memory()


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides a plan. ``conditions`` by target id, ``now`` in us."""

    route: Route
    wants: Wants
    conditions: Mapping[str, Condition] = {}
    memory: Memory = NO_MEMORY
    now: int = 0
    seed: int = 0


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The targets in the order in which they are tried, and those that are not, each with the filter that took it out.

    ``emptied_by`` names the filter that left nothing. ``last_resort``: none is in good health, so the one that is to
    recover first is tried all the same.
    """

    order: tuple[Target, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    emptied_by: str | None = None
    last_resort: bool = False


def plan(problem: Problem) -> RoutePlan:
    """The plan of a request."""
    excluded: list[tuple[str, str]] = []
    steps: list[Step] = list(problem.route.steps)
    for name, keep in filters.active(problem.wants, problem.now):
        kept = [step for step in steps if keep(step.target)]
        if len(kept) != len(steps):
            excluded += [(step.target.id, name) for step in steps if not keep(step.target)]
            if not kept:
                return RoutePlan(order=(), excluded=tuple(excluded), emptied_by=name)
            steps = kept
    usable, last_resort = _in_health(steps, problem.conditions)
    if len(usable) != len(steps):
        left = set(map(id, usable))
        excluded += [(step.target.id, HEALTH) for step in steps if id(step) not in left]
    order = tuple([step.target for step in _ordered(usable, problem)])
    return RoutePlan(order=order, excluded=tuple(excluded), last_resort=last_resort)


def _in_health(steps: list[Step], conditions: Mapping[str, Condition]) -> tuple[list[Step], bool]:
    """The steps that may be used; when there is none, the one that recovers first."""
    if not conditions:
        return steps, False
    usable = [step for step in steps if conditions.get(step.target.id, FINE).usable]
    if usable or not steps:
        return usable, False
    return [min(steps, key=lambda step: conditions[step.target.id].until)], True


def _ordered(steps: list[Step], problem: Problem) -> list[Step]:
    if len(steps) < 2:
        return steps
    order = strategy(problem.route.strategy).order
    draws = Draws(problem.seed)
    groups: dict[int, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.group, []).append(step)
    if len(groups) == 1:
        return order(steps, problem, draws)
    return [step for group in sorted(groups) for step in order(groups[group], problem, draws)]
