"""The candidates of one request among all models of a profile: as many as are worth looking at and keeping."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from pointsman.routing import filters
from pointsman.routing.draws import Draws
from pointsman.routing.plan import Problem, Route, Step
from pointsman.routing.profiles.making import ONLY, PINS
from pointsman.routing.strategies import profile

CANDIDATES: Final = 48  # a plan over so many takes about 0.1 ms, and what is kept of it has its place
KEPT: Final = 64  # orders and narrowed routes that are remembered
# Both by identity: the value holds the route, so its id can't be another's.
_orders: OrderedDict[tuple[int, str, str], tuple[Route, list[Step]]] = OrderedDict()
_routes: OrderedDict[tuple[int, tuple[str, ...]], tuple[Route, Route]] = OrderedDict()


def narrowed(problem: Problem) -> Problem:
    """The problem with at most CANDIDATES steps: the first in the profile's order that the filters leave.

    Where the operator wants nothing but pinned models for the budget, only these. When the filters leave nothing, the
    first ones all the same: the plan says what took them out.
    """
    route = problem.route
    steps: Sequence[Step] = _pinned_only(problem)
    if len(steps) > CANDIDATES:
        steps = _first(steps if len(steps) < len(route.steps) else _ordered(problem), problem)
    if len(steps) == len(route.steps):
        return problem
    smaller = _with_steps(route, steps)
    conditions = {name: one for step in steps if (one := problem.conditions.get(name := step.target.id)) is not None}
    return msgspec.structs.replace(problem, route=smaller, conditions=conditions)


def _pinned_only(problem: Problem) -> Sequence[Step]:
    """All steps, or the pinned ones where nothing else is wanted and there are some."""
    route, judged = problem.route, problem.wants.judged
    if judged is None or judged.budget not in route.settings.get(ONLY, ()):
        return route.steps
    pinned = set(route.settings.get(PINS, {}).get(f"{judged.budget}/{judged.tier}", ()))
    return [step for step in route.steps if step.target.id in pinned] or route.steps


def _ordered(problem: Problem) -> list[Step]:
    """All steps in the profile's order, whatever is known of how they do now; remembered, since it takes a while."""
    route, judged = problem.route, problem.wants.judged or profile.NOBODY
    key = (id(route), judged.budget, judged.tier)
    found = _orders.get(key)
    if found is None:
        plain = msgspec.structs.replace(judged, picks=())
        bare = Problem(route=route, wants=msgspec.structs.replace(problem.wants, judged=plain))
        found = _orders[key] = (route, profile.order(list(route.steps), bare, Draws(0)))
        if len(_orders) > KEPT:
            _orders.popitem(last=False)
    return found[1]


def _first(ordered: Sequence[Step], problem: Problem) -> list[Step]:
    sieves = [sieve for _, sieve in filters.active(problem)]
    found = [step for step in ordered if step.target.id == problem.memory.sticky]
    for start in range(0, len(ordered), CANDIDATES):
        kept: Sequence[Step] = ordered[start : start + CANDIDATES]
        for sieve in sieves:
            kept = sieve(kept) if kept else kept
        found += [step for step in kept if step.target.id != problem.memory.sticky]
        if len(found) >= CANDIDATES:
            break
    return (found or list(ordered))[:CANDIDATES]


def _with_steps(route: Route, steps: Sequence[Step]) -> Route:
    """The route with these steps: the same object for the same ones, since what is kept of it is made once."""
    key = (id(route), tuple([step.target.id for step in steps]))
    found = _routes.get(key)
    if found is None:
        found = _routes[key] = (route, msgspec.structs.replace(route, steps=tuple(steps)))
        if len(_routes) > KEPT:
            _routes.popitem(last=False)
    return found[1]
