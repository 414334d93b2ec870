"""How capable a model a request asks for, judged from its words in some tens of microseconds: a tier, a score and the
reasons. Pure: the caller keeps the memory of a conversation.
"""

from pointsman.routing.complexity.facts import TIERS, Tier
from pointsman.routing.complexity.scoring import Complexity, ConversationMemory, Signal, remember, score, tier_of

__all__ = [
    "TIERS",
    "Complexity",
    "ConversationMemory",
    "Signal",
    "Tier",
    "remember",
    "score",
    "tier_of",
]
