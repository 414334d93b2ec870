"""Profiles: the names under which a client asks for a budget instead of a model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from pointsman.routing.complexity.facts import Tier

Budget = Literal["cheap", "medium", "premium"]
BUDGETS: Final[tuple[Budget, ...]] = get_args(Budget)  # the least first
AUTO: Final = "auto"
LOCAL: Final = "local"  # the engine that needs nobody else: the order of strategies/profile.py
VERSION: Final = "1"  # of the rules by which profiles choose; told to clients, and raised when the rules change
# CrossCompute's profiles and their old names (eco, balanced); None: the tier decides.
PROFILES: Final[Mapping[str, Budget | None]] = MappingProxyType(
    {AUTO: None, "cheap": "cheap", "medium": "medium", "premium": "premium", "eco": "cheap", "balanced": "medium"}
)
_BY_TIER: Final[Mapping[str, Budget]] = MappingProxyType(
    {"SIMPLE": "cheap", "MEDIUM": "medium", "COMPLEX": "premium", "REASONING": "premium"}
)
TIER_NAMES: Final = tuple(_BY_TIER)  # complexity.TIERS, which need more than their names


def present_name(profile: str) -> str:
    """What a profile is called now: cheap for ``eco``. Raises KeyError when it is none."""
    return PROFILES[profile] or AUTO


def budget_of(profile: str, tier: "Tier") -> Budget:
    """The budget that ``profile`` means for a request of this tier. Raises KeyError when it is no profile."""
    return PROFILES[profile] or _BY_TIER[tier]
