"""Combos: names under which several targets stand, and the strategy that orders them."""

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.routing.plan import Route, Step
from pointsman.routing.targets import Target


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry: the id of a target, ``connection/model``."""

    target: str
    weight: float = 0.0
    id: str = ""


class Combo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A combo as it is declared. ``settings`` are its strategy's own."""

    name: str
    entries: tuple[Entry, ...]
    strategy: str = "priority"
    settings: dict[str, Any] = {}


def route_of(combo: Combo, find: Callable[[str], Target | None]) -> Route:
    """The route that a combo stands for. Entries that name nothing are left out."""
    found = [(entry, target) for entry in combo.entries if (target := find(entry.target)) is not None]
    return Route(
        name=combo.name,
        kind="combo",
        strategy=combo.strategy,
        steps=tuple(Step(target=target, weight=entry.weight, id=entry.id) for entry, target in found),
        settings=combo.settings,
    )
