"""What a request leaves behind for the next one of its route: turns, decks, who answered last. Pure; see `Memory`."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pointsman.routing.draws import Draws
from pointsman.routing.plan import Memory, Problem, RoutePlan
from pointsman.routing.strategies import auto

if TYPE_CHECKING:
    from pointsman.routing.targets import Target


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
