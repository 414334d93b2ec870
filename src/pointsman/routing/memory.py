"""What a request leaves behind for the next one of its route: turns, decks, who answered last. Pure; see `Memory`."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pointsman.routing.draws import Draws
from pointsman.routing.plan import NO_MEMORY, Memory, Problem, Route, RoutePlan
from pointsman.routing.strategies import auto

if TYPE_CHECKING:
    from pointsman.routing.targets import Target

MOST_ROUTES: Final = 10_000


class MemoryBook:
    """The memories of routes by name, those used longest ago forgotten first."""

    def __init__(self) -> None:
        self._memories: OrderedDict[str, Memory] = OrderedDict()

    def of(self, route: Route) -> Memory:
        """What requests of this route have left behind."""
        return self._memories.get(route.name, NO_MEMORY)

    def keep(self, route: Route, memory: Memory) -> None:
        """Remember this for the next request of the route."""
        memories = self._memories
        memories[route.name] = memory
        memories.move_to_end(route.name)
        if len(memories) > MOST_ROUTES:
            memories.popitem(last=False)


def planned(problem: Problem, plan: RoutePlan) -> Memory:
    """The memory after a plan was made; the next request of the route begins with it, whatever becomes of this one."""
    memory = problem.memory
    turn = memory.turn + 1
    if not plan.order:
        return replace(memory, turn=turn)
    match problem.route.strategy:
        case "strict-random":
            return replace(memory, turn=turn, deck=_dealt(problem, plan))
        case "fill-first":
            return replace(memory, turn=turn, filling=plan.order[0].id)
        case "weighted" if problem.route.settings.get("stickyWeightedLimit"):
            return replace(memory, turn=turn, filling=plan.order[0].id)
        case "auto" if problem.conditions or memory.resting:
            return replace(memory, turn=turn, resting=auto.resting(problem))
    return replace(memory, turn=turn)


def answered(memory: Memory, target: "Target") -> Memory:
    """The memory after a target answered."""
    return memory if memory.last_good == target.id else replace(memory, last_good=target.id)


def _dealt(problem: Problem, plan: RoutePlan) -> tuple[str, ...]:
    """The deck without the card that was dealt. A new one is shuffled when it holds none that can be used."""
    first, deck = plan.order[0].id, problem.memory.deck
    if first in deck:
        place = deck.index(first)
        return deck[:place] + deck[place + 1 :]
    cards = dict.fromkeys(step.target.id for step in problem.route.steps)
    return tuple(card for card in Draws(~problem.seed).shuffled(list(cards)) if card != first)
