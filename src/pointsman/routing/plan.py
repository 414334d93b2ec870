"""The plan of a request: which targets are tried, in which order, and why the others are not.

Pure: everything that decides stands in the `Problem`, chance included (a seed). The same problem gives the same plan,
so a stored problem can be replayed, and reasons need to be put into words only when someone asks for them (explain.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from pointsman.routing import filters
from pointsman.routing.draws import Draws
from pointsman.routing.measures import headroom
from pointsman.routing.strategies import fusion, strategy
from pointsman.routing.survey import survey_of
from pointsman.routing.targets import Target
from pointsman.routing.wants import Wants

Kind = Literal["model", "combo", "profile", "auto"]
HEALTH: Final = "health"
STICKY_HEADROOM: Final = 0.15  # below it a conversation leaves its account (OmniRoute's figure)


class QuotaWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One quota of an account: the part of it that is left (0 to 1), and when it is whole again (us; None: unknown)."""

    kind: Literal["session", "weekly", "monthly", "daily"]
    remaining: float
    resets_at: int | None = None


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
    windows: tuple[QuotaWindow, ...] = ()
    quota_spent: bool = False  # the upstream has said that a quota is used up
    breaker: Literal["closed", "half_open", "open"] = "closed"
    latency: float | None = None  # seconds of a whole answer: mean, 95th percentile, standard deviation
    latency_p95: float | None = None
    latency_deviation: float | None = None


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
    combo: str | None = None  # whose it is, by whatever name it was asked for

    @property
    def only(self) -> Target | None:
        """The target, when there is no choice and nothing to be done to the call."""
        return self.steps[0].target if len(self.steps) == 1 and self.kind == "model" else None


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What earlier requests of a route have left behind. ``turn`` counts them, ``last_good`` answered last,
    ``sticky`` answered this conversation, ``deck`` is what is still to be dealt, ``filling`` the account that is used
    up first, or was drawn last (all target ids). ``resting``: target ids that did badly, until when (us) and how often
    in a row.
    """

    turn: int = 0
    last_good: str | None = None
    sticky: str | None = None
    deck: tuple[str, ...] = ()
    filling: str | None = None
    resting: dict[str, tuple[int, int]] = {}


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
    recover first is tried all the same. ``panel``: so many of the first are asked at the same time (0: one by one).
    ``reserve``: left out for their health, the one that is to recover first in front. Some are tried before the request
    fails: a target that failed a moment ago may be well again by now.
    """

    order: tuple[Target, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    emptied_by: str | None = None
    last_resort: bool = False
    panel: int = 0
    reserve: tuple[Target, ...] = ()


def plan(problem: Problem) -> RoutePlan:
    """The plan of a request."""
    excluded: list[tuple[str, str]] = []
    steps: Sequence[Step] = problem.route.steps
    for name, sieve in filters.active(problem):
        kept = sieve(steps)
        if len(kept) != len(steps):
            _note(excluded, steps, kept, name)
            steps = kept
            if not kept:
                return RoutePlan(order=(), excluded=tuple(excluded), emptied_by=name)
    usable, left = _in_health(steps, problem.conditions)
    excluded += [(step.target.id, HEALTH) for step in left]
    ordered = _ordered(usable, problem)
    return RoutePlan(
        order=tuple([step.target for step in ordered]),
        excluded=tuple(excluded),
        last_resort=len(usable) == 1 and not problem.conditions.get(usable[0].target.id, FINE).usable,
        panel=_panel(ordered, problem) if problem.route.strategy == "fusion" else 0,
        reserve=_reserve(left, problem) if left else (),
    )


def _reserve(left: Sequence[Step], problem: Problem) -> tuple[Target, ...]:
    """The targets left out for their health, by when they recover."""
    until = {step.target.id: problem.conditions[step.target.id].until for step in left}
    each = {step.target.id: step.target for step in left}
    return tuple(sorted(each.values(), key=lambda target: until[target.id]))


def _note(excluded: list[tuple[str, str]], steps: Sequence[Step], kept: Sequence[Step], name: str) -> None:
    """Note which steps are missing in ``kept``, which has the others in their order."""
    left = iter(kept)
    expected = next(left, None)
    for step in steps:
        if step is expected:
            expected = next(left, None)
        else:
            excluded.append((step.target.id, name))


def _in_health(steps: Sequence[Step], conditions: Mapping[str, Condition]) -> tuple[Sequence[Step], Sequence[Step]]:
    """The steps that may be used, and the others; when none may be, the one that recovers first is used."""
    if not conditions:
        return steps, ()
    get = conditions.get
    left = [step for step in steps if (found := get(step.target.id)) is not None and not found.usable]
    if not left:
        return steps, ()
    if len(left) < len(steps):
        return [step for step in steps if (found := get(step.target.id)) is None or found.usable], left
    first = min(steps, key=lambda step: conditions[step.target.id].until)
    return [first], [step for step in left if step is not first]


def _ordered(steps: Sequence[Step], problem: Problem) -> Sequence[Step]:
    if len(steps) < 2:
        return steps
    order = strategy(problem.route.strategy).order
    draws = Draws(problem.seed)
    if survey_of(problem.route.steps).one_group:
        ordered = _preferred(order(list(steps), problem, draws), problem)
    else:
        groups: dict[int, list[Step]] = {}
        for step in steps:
            groups.setdefault(step.group, []).append(step)
        ordered = [
            step for group in sorted(groups) for step in _preferred(order(groups[group], problem, draws), problem)
        ]
    if problem.conditions and problem.route.settings.get("predictiveTtftMs"):
        ordered = _quick_first(ordered, problem)
    if problem.memory.sticky is not None and problem.route.kind == "combo":
        return _stuck(ordered, problem)
    return ordered


def _preferred(ordered: list[Step], problem: Problem) -> list[Step]:
    """The connections that the caller's key prefers before the others."""
    preferred = problem.wants.preferred
    return sorted(ordered, key=lambda step: step.target.connection.id not in preferred) if preferred else ordered


def _quick_first(ordered: list[Step], problem: Problem) -> list[Step]:
    """Targets whose first token usually comes later than ``predictiveTtftMs`` behind the others
    (``zeroLatencyOptimizationsEnabled``)."""
    settings, get = problem.route.settings, problem.conditions.get
    if not settings.get("zeroLatencyOptimizationsEnabled"):
        return ordered
    most = settings["predictiveTtftMs"] / 1000
    slow = {
        step.target.id
        for step in ordered
        if (found := get(step.target.id)) is not None and found.first_token.get("p50", 0.0) > most
    }
    return sorted(ordered, key=lambda step: step.target.id in slow)


def _stuck(ordered: list[Step], problem: Problem) -> list[Step]:
    """The target that answered this conversation comes first, while enough of its quota is left."""
    sticky = problem.memory.sticky
    if problem.route.settings.get("disableSessionStickiness"):
        return ordered
    for index, step in enumerate(ordered):
        if step.target.id == sticky:
            condition = problem.conditions.get(step.target.id)
            if condition is None or headroom(condition) > STICKY_HEADROOM:
                return [step, *ordered[:index], *ordered[index + 1 :]]
    return ordered


def _panel(ordered: Sequence[Step], problem: Problem) -> int:
    """How many of a fusion's targets are asked at the same time; tools can't be called by several."""
    if len(ordered) < 2 or problem.wants.tools:
        return 0
    return fusion.panel_size(len(ordered), problem)
