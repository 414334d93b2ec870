"""Profiles: the names under which a client asks for a budget instead of a model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from pointsman.routing.complexity.facts import Tier
from pointsman.routing.complexity.scoring import Complexity

Budget = Literal["cheap", "medium", "premium"]

# CrossCompute's profiles and their old names (eco, balanced); None: the tier decides.
PROFILES: Final[Mapping[str, Budget | None]] = MappingProxyType(
    {"auto": None, "cheap": "cheap", "medium": "medium", "premium": "premium", "eco": "cheap", "balanced": "medium"}
)
_BY_TIER: Final[dict[Tier, Budget]] = {
    "SIMPLE": "cheap",
    "MEDIUM": "medium",
    "COMPLEX": "premium",
    "REASONING": "premium",
}


def budget_of(tier: Tier) -> Budget:
    """The budget that `auto` gives a tier."""
    return _BY_TIER[tier]


def profile_budget(profile: str, complexity: Complexity) -> Budget:
    """The budget that ``profile`` means for a request of this complexity. Raises KeyError when it is no profile."""
    return PROFILES[profile] or _BY_TIER[complexity.tier]
