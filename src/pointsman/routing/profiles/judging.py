"""A request that names a profile: how demanding it is, and the budget that this means."""

from typing import Final

import msgspec

from pointsman.canonical.request import Request
from pointsman.routing.complexity import ConversationMemory, remember, score, tier_of
from pointsman.routing.profiles.budgets import BUDGETS, budget_of
from pointsman.routing.wants import Judged

PLACES: Final = 4  # digits of figures that are kept


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``judged`` is for the plan, ``memory`` for the conversation's next turn."""

    judged: Judged
    memory: ConversationMemory


def judge(request: Request, profile: str, memory: ConversationMemory | None = None) -> Verdict:
    """Judges a request for a profile. Raises KeyError when there is no profile of that name.

    A conversation's budget rises at once and falls slowly: ``holds`` is what its level, which falls turn by turn, still
    stands for.
    """
    found = score(request, memory)
    kept = remember(found, memory)
    budget = budget_of(profile, found.tier)
    holds = budget_of(profile, tier_of(kept.level))
    judged = Judged(
        profile=profile,
        budget=budget,
        tier=found.tier,
        score=round(found.score, PLACES),
        confidence=round(found.confidence, PLACES),
        signals={signal.name: round(signal.contribution, PLACES) for signal in found.signals},
        rules=found.rules,
        holds=max(budget, holds, key=BUDGETS.index),
        tool_loop=found.tool_loop,
    )
    return Verdict(judged=judged, memory=kept)
