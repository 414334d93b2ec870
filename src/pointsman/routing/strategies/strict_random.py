"""Dealt from a shuffled deck: every target has its turn before any has a second one.

The deck is in `Memory.deck`; `remember` takes the card that was dealt.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.draws import Draws
    from pointsman.routing.plan import Problem, Step

NAME: Final = "strict-random"
FACTS: Final[tuple[str, ...]] = ()


def order(steps: "list[Step]", problem: "Problem", draws: "Draws") -> "list[Step]":
    """The first card of the deck that can be used now; the others are shuffled behind it."""
    by_id = {step.target.id: step for step in steps}
    dealt = next((by_id[card] for card in problem.memory.deck if card in by_id), None)
    mixed = draws.shuffled(steps)
    if dealt is None:
        return mixed
    return [dealt, *(step for step in mixed if step is not dealt)]


def why(step: "Step", problem: "Problem") -> str:
    """Its card."""
    return "dealt from the deck" if step.target.id in problem.memory.deck else "a new deck, shuffled"
