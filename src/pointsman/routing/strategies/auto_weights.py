"""How much each factor of `auto` counts, and how much chance is given to the tiers. The figures are OmniRoute's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

DEFAULT: Final = MappingProxyType(
    {
        "quota": 0.15, "health": 0.20, "costInv": 0.15, "latencyInv": 0.12, "taskFit": 0.08, "stability": 0.05,
        "tierPriority": 0.05, "tierAffinity": 0.05, "specificityMatch": 0.05, "contextAffinity": 0.05,
        "connectionDensity": 0.05, "resetWindowAffinity": 0.0, "cacheAffinity": 0.0,
    }
)  # fmt: skip
# What a pack puts weight on; the other factors share the rest as they do by default.
PACKS: Final = MappingProxyType(
    {
        "ship-fast": {"latencyInv": 0.30, "health": 0.27},
        "cost-saver": {"costInv": 0.35},
        "quality-first": {"taskFit": 0.35, "stability": 0.14},
        "offline-friendly": {"quota": 0.35, "health": 0.27},
        "reliability-first": {"health": 0.35, "stability": 0.19},
    }
)
# Names that requests give packs by (X-OmniRoute-Mode, auto/...).
MODES: Final = MappingProxyType(
    {
        "fast": "ship-fast", "cheap": "cost-saver", "quality": "quality-first", "coding": "quality-first",
        "smart": "quality-first", "reliable": "reliability-first", "offline": "offline-friendly",
    }
)  # fmt: skip
TIERS: Final = (0.45, 0.35, 0.2)
TIERS_BY_VARIANT: Final = MappingProxyType(
    {
        "smart": (0.5, 0.3, 0.2), "fast": (0.3, 0.5, 0.2), "cheap": (0.2, 0.3, 0.5), "coding": (0.6, 0.25, 0.15),
    }
)  # fmt: skip


def _pack(emphasis: Mapping[str, float]) -> dict[str, float]:
    rest = sum(weight for name, weight in DEFAULT.items() if name not in emphasis)
    left = 1 - sum(emphasis.values())
    return {name: emphasis.get(name, weight / rest * left) for name, weight in DEFAULT.items()}


def _normal(weights: Mapping[str, float]) -> dict[str, float]:
    """Of sum 1, without those that count nothing."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight > 0}


NORMAL: Final = _normal(DEFAULT)
_PACKS: Final = {name: _normal(_pack(emphasis)) for name, emphasis in PACKS.items()}


def chosen_weights(settings: Mapping[str, Any], mode: str | None = None) -> dict[str, float]:
    """The weights of the request's ``mode``, else of its route: its own (``weights``), those of its ``modePack``, or
    the default ones. They sum to 1.
    """
    if mode is not None:
        return _PACKS.get(MODES.get(mode, mode), NORMAL)
    own = settings.get("weights")
    if own:
        known = {name: max(0.0, float(own.get(name) or 0.0)) for name in DEFAULT}
        if sum(known.values()) > 0:
            return _normal(known)
    pack = settings.get("modePack")
    if pack:
        return _PACKS.get(MODES.get(pack, pack), NORMAL)
    return NORMAL


def chosen_tiers(settings: Mapping[str, Any]) -> tuple[float, float, float]:
    """How likely the choice falls on the best, on those near to them, and on the rest (``variant``)."""
    return TIERS_BY_VARIANT.get(str(settings.get("variant") or ""), TIERS)
