"""Reasoning effort as words and as token budgets: the one table that every format maps with.

Shares of the answer's limit are OpenRouter's published ones (max and xhigh 0.95, high 0.8, medium 0.5, low 0.2,
minimal 0.1). Without a limit the budgets below hold, which all thinking models accept.
"""

from types import MappingProxyType
from typing import Final

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SHARES: Final = MappingProxyType(
    {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}
)  # fmt: skip
BUDGETS: Final = MappingProxyType(
    {"minimal": 1024, "low": 4096, "medium": 10_240, "high": 24_576, "xhigh": 32_768, "max": 65_536}
)
MIN_BUDGET: Final = 1024  # Anthropic takes no less


def budget_of(effort: str, max_output_tokens: int | None) -> int:
    """Tokens to think with at an effort (not ``none``): a share of the answer's limit, or else a fixed figure."""
    if max_output_tokens is None:
        return BUDGETS[effort]
    return max(MIN_BUDGET, int(max_output_tokens * SHARES[effort]))


def effort_of(budget: int, known: tuple[str, ...] = ("low", "medium", "high")) -> str:
    """The effort, of those that are ``known``, whose fixed budget is nearest to ``budget`` tokens."""
    return min(known, key=lambda effort: abs(BUDGETS[effort] - budget))
