"""What stays of a plan once it is made: the memory for the next one, the kept decision, the words for who asked."""

from typing import Final, Protocol

from pointsman.canonical.record import RequestRecord
from pointsman.routing.explain import header, unavailable
from pointsman.routing.memory import MemoryBook, answered, planned
from pointsman.routing.plan import Memory, Problem, Route, RoutePlan
from pointsman.routing.replay import dump
from pointsman.routing.targets import Target

EXPLAIN_HEADER: Final = b"x-pointsman-explain"


class Told(Protocol):
    """The request, as far as it is asked for its wishes and given header lines."""

    headers: dict[bytes, bytes]
    plan_head: bytes


class Decisions:
    """The decisions of one process. ``keeps``: they are kept with their requests when there was a choice.

    Turns, decks and who answered last are in ``memories``; without it they are this process's own.
    """

    def __init__(self, keeps: bool = True, memories: MemoryBook | None = None) -> None:
        self._memories = MemoryBook() if memories is None else memories
        self._keeps = keeps

    def memory(self, route: Route) -> Memory:
        """What earlier requests of the route have left behind, for its next `Problem`."""
        return self._memories.of(route)

    def keep(self, problem: Problem, made: RoutePlan, record: RequestRecord, exchange: Told) -> None:
        """Remember a plan, keep it in the request's record, and tell it in a header when that was asked for.

        Raises GatewayError that says what excluded what when the plan has no target.
        """
        route = problem.route
        if route.only is None:
            self._memories.keep(route, planned(problem, made))
            if self._keeps:
                record.plan = dump(problem, made)
        if EXPLAIN_HEADER in exchange.headers:
            exchange.plan_head += header(problem, made)
        if not made.order:
            raise unavailable(problem, made)

    def answered(self, route: Route, target: Target) -> None:
        """A target of the route has answered."""
        if route.only is None:
            self._memories.keep(route, answered(self._memories.of(route), target))
