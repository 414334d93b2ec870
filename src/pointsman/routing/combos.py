"""Combos: names under which several targets stand, and the strategy that orders them. Fallback chains of models."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from pointsman.routing.plan import Route, Step
from pointsman.routing.strategies import STRATEGIES
from pointsman.routing.targets import Target

REF: Final = "combo/"  # before a combo's name, wherever a model's could stand
ANY: Final = "/*"  # behind a provider's: all its models
MAX_DEPTH: Final = 10
MAX_STEPS: Final = 1000
LAST: Final = 1_000_000  # the group of the fallback that all combos share


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry: a model (``connection/model``, ``provider/model``, ``provider/*``), or another combo."""

    target: str
    weight: float = 0.0
    id: str = ""
    connection: str | None = None
    provider: str | None = None

    @property
    def combo(self) -> str | None:
        """The combo that it stands for."""
        return self.target.removeprefix(REF) if self.target.startswith(REF) else None


class Combo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A combo as it is declared. ``settings`` are what came down the cascade, ``overrides`` the same by provider.

    ``set_here`` names the settings that somebody gave, so that a default can be told from a wish. ``pinned``: a
    conversation stays with its model.
    """

    name: str
    entries: tuple[Entry, ...]
    strategy: str = "priority"
    settings: dict[str, Any] = {}
    overrides: dict[str, dict[str, Any]] = {}
    set_here: frozenset[str] = frozenset()
    id: str = ""
    allowed_providers: frozenset[str] | None = None
    system_message: str | None = None
    tool_filter: str | None = None
    pinned: bool = False
    context_length: int | None = None
    stored: bool = False

    def settings_at(self, target: Target) -> Mapping[str, Any]:
        """The settings for calls to one target."""
        connection = target.connection
        return self.overrides.get(connection.id) or self.overrides.get(connection.vendor) or self.settings


class ComboBook(msgspec.Struct, frozen=True, kw_only=True):
    """All combos, the providers of each model's fallback chain in their order, and the fallback of every combo."""

    combos: tuple[Combo, ...] = ()
    chains: Mapping[str, tuple[str, ...]] = {}
    fallback: str | None = None


class Models(Protocol):
    """What names of models mean (catalogue.py)."""

    def named(self, name: str) -> Target | None:
        """The target of a full id, an alias, or a name that only one connection has."""
        ...

    def offered(self, provider: str, model: str | None) -> list[Target]:
        """The targets of a model, or of all, at connections of this id or vendor; the preferred connection first."""
        ...


def nesting_problem(combos: Iterable[Combo]) -> str | None:
    """What is wrong with how combos stand within each other: too deep, or in a circle. None: nothing."""
    refs = {combo.name: [entry.combo for entry in combo.entries if entry.combo is not None] for combo in combos}
    limits = {combo.name: int(combo.settings.get("maxComboDepth", 3)) for combo in combos}

    def depth(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise _CircleError(" -> ".join([*above[above.index(name) :], name]))
        return 1 + max((depth(ref, (*above, name)) for ref in refs.get(name, ()) if ref in refs), default=0)

    for name, limit in limits.items():
        try:
            found = depth(name, ())
        except _CircleError as circle:
            return f"combos would stand within each other in a circle: {circle}"
        if found > min(limit, MAX_DEPTH):
            return f"combo '{name}' would be nested {found} deep, and {min(limit, MAX_DEPTH)} is allowed"
    return None


class _CircleError(Exception):
    pass


def combo_routes(combos: Mapping[str, Combo], models: Models, fallback: str | None = None) -> dict[str, Route]:
    """The route of every combo that has a target, by its name and by ``combo/`` and its name."""
    found: dict[str, Route] = {}
    for combo in combos.values():
        steps = _merged(_tiered(_steps_of(combo, combos, models, ()), combo.settings))
        if not steps:
            continue
        last = named_targets(fallback, models) if fallback is not None else []
        known = {step.target.id for step in steps}
        steps += [Step(target=target, group=LAST, id="fallback") for target in last if target.id not in known]
        route = Route(
            name=combo.name,
            kind="combo",
            strategy=combo.strategy if combo.strategy in STRATEGIES else "priority",
            steps=tuple(steps),
            settings=combo.settings,
            combo=combo.name,
        )
        found[combo.name] = found[REF + combo.name] = route
    return found


def _steps_of(combo: Combo, combos: Mapping[str, Combo], models: Models, above: tuple[str, ...]) -> list[Step]:
    """A combo's steps in order, those of combos within it in their place with their share of its weight."""
    steps: list[Step] = []
    for entry in combo.entries:
        if entry.combo is None:
            found = [Step(target=target, weight=1.0, id=entry.id) for target in _targets_of(entry, models)]
        else:
            within = combos.get(entry.combo)
            if within is None or within.name in (*above, combo.name) or len(above) >= MAX_DEPTH:
                continue
            found = _steps_of(within, combos, models, (*above, combo.name))
        steps += _shared(found, entry)
    if combo.allowed_providers is not None:
        allowed = combo.allowed_providers
        steps = [step for step in steps if allowed & {step.target.connection.id, step.target.connection.vendor}]
    return _pooled(steps, combo)[:MAX_STEPS]


def _tiered(steps: list[Step], settings: Mapping[str, Any]) -> list[Step]:
    """The steps with those of the default tier first, then those of the tiers that it falls back to, then the others
    (``compositeTiers``)."""
    found = settings.get("compositeTiers")
    if not found or not found.get("tiers"):
        return steps
    tiers, name = found["tiers"], found.get("defaultTier")
    groups: dict[str, int] = {}
    while name in tiers and tiers[name]["stepId"] not in groups:
        groups[tiers[name]["stepId"]] = len(groups)
        name = tiers[name].get("fallbackTier")
    last = len(groups)
    placed = [
        msgspec.structs.replace(step, group=groups.get(step.id, groups.get(step.id.partition("/")[0], last)))
        for step in steps
    ]
    return sorted(placed, key=lambda step: step.group)


def _pooled(steps: list[Step], combo: Combo) -> list[Step]:
    """The steps among which `auto` chooses (``candidatePool``: connections, vendors, targets); all, if it has none."""
    pool = frozenset(combo.settings.get("candidatePool") or ()) if combo.strategy == "auto" else frozenset()
    kept = [
        step
        for step in steps
        if pool & {(target := step.target).id, target.connection.id, target.connection.vendor, target.model}
    ]
    return kept or steps


def _shared(steps: list[Step], entry: Entry) -> list[Step]:
    """An entry's weight, spread over its steps by their own."""
    total = sum(step.weight for step in steps)
    return [
        msgspec.structs.replace(
            step,
            weight=entry.weight * (step.weight / total if total else 1 / len(steps)),
            id=step.id if entry.combo is None else f"{entry.id}/{step.id}",
        )
        for step in steps
    ]


def _merged(steps: Sequence[Step]) -> list[Step]:
    """Each target once, where it stands first, with the weight of all its places."""
    found: dict[str, Step] = {}
    for step in steps:
        known = found.get(step.target.id)
        found[step.target.id] = (
            step if known is None else msgspec.structs.replace(known, weight=known.weight + step.weight)
        )
    return list(found.values())


def _targets_of(entry: Entry, models: Models) -> list[Target]:
    """What an entry means now. Models that aren't offered are left out."""
    name = entry.target
    if entry.connection is not None:
        found = _at_connection(name, entry.connection, entry.provider, models)
    elif entry.provider is not None and not name.startswith(f"{entry.provider}/"):
        found = models.offered(entry.provider, name)
    else:
        found = named_targets(name, models)
    return [target for target in found if target.listed]


def _at_connection(name: str, connection: str, provider: str | None, models: Models) -> list[Target]:
    """A model at one connection; before its name may stand the connection's, or its vendor's."""
    prefix, _, rest = name.partition("/")
    for model in (name, rest):
        found = [target for target in models.offered(connection, model) if target.connection.id == connection]
        if found and not (model is name and rest and prefix in (connection, provider, found[0].connection.vendor)):
            return found
    return []


def named_targets(name: str, models: Models) -> list[Target]:
    """What a model's name means as an entry of a combo: ``connection/model``, ``provider/model``, ``provider/*``."""
    if name.endswith(ANY):
        return models.offered(name.removesuffix(ANY), None)
    target = models.named(name)
    if target is not None and target.id == name:
        return [target]
    provider, _, model = name.partition("/")
    found = models.offered(provider, model) if model else []
    return found or ([target] if target is not None else [])


def chain_routes(chains: Mapping[str, tuple[str, ...]], models: Models) -> dict[str, Route]:
    """The routes of models that have a fallback chain: their own target first, unless the chain names its place."""
    found: dict[str, Route] = {}
    for name, providers in chains.items():
        own = models.named(name)
        bare = own.model if own is not None else name.partition("/")[2] or name
        targets = [target for provider in providers for target in models.offered(provider, bare)]
        if own is not None and own.id not in {target.id for target in targets}:
            targets.insert(0, own)
        steps = _merged([Step(target=target, id=f"chain-{place}") for place, target in enumerate(targets)])
        if steps:
            found[name] = Route(name=name, steps=tuple(steps))
    return found
