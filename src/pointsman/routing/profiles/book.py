"""What the operator says of profiles: which models stand first for a budget, and which are never chosen."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from pointsman.errors import GatewayError
from pointsman.routing.profiles.budgets import TIER_NAMES
from pointsman.routing.targets import Target

if TYPE_CHECKING:
    from pointsman.routing.catalogue import Catalogue

EVERY_TIER: Final = ""
MOST_PINNED: Final = 32  # targets that stand first for a budget and a tier


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """One budget's models: by tier (EVERY_TIER: all of them) names as a client gives them, or patterns with ``*`` for
    full ids and ``author/name``. ``only``: no others are chosen for it.
    """

    names: Mapping[str, tuple[str, ...]] = {}
    only: bool = False


class ProfileBook(msgspec.Struct, frozen=True, kw_only=True):
    """``budgets`` by name; ``exclude`` are patterns of models that no profile chooses."""

    budgets: Mapping[str, Pins] = {}
    exclude: tuple[str, ...] = ()

    def excluded(self, target: Target) -> bool:
        """Whether no profile may choose it."""
        return any(_meant(target, pattern) for pattern in self.exclude)

    def pinned(self, catalogue: "Catalogue", targets: Mapping[str, Target]) -> dict[str, list[str]]:
        """The ids of the targets that stand first, by ``budget/tier``: those of the tier, then those of all tiers.

        Names that mean nothing now are passed over. ``targets`` are those there are; it gains those that are pinned.
        """
        found: dict[str, list[str]] = {}
        for budget, pins in self.budgets.items():
            for tier in TIER_NAMES:
                names = (*pins.names.get(tier, ()), *pins.names.get(EVERY_TIER, ()))
                ids = dict.fromkeys(one.id for name in names for one in _named(name, catalogue, targets))
                if ids:
                    found[f"{budget}/{tier}"] = list(ids)[:MOST_PINNED]
        return found

    def only(self) -> list[str]:
        """The budgets for which nothing but pinned models is chosen."""
        return [budget for budget, pins in self.budgets.items() if pins.only]


def _named(name: str, catalogue: "Catalogue", targets: Mapping[str, Target]) -> Iterator[Target]:
    if "*" in name:
        yield from [target for target in targets.values() if _meant(target, name)]
        return
    try:
        route = catalogue.route(name)
    except GatewayError:
        return
    if route.kind == "model":
        yield from [step.target for step in route.steps]


def _meant(target: Target, pattern: str) -> bool:
    return fnmatchcase(target.id, pattern) or (
        target.facts.slug is not None and fnmatchcase(target.facts.slug, pattern)
    )
