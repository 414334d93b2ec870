"""Model names: what a requested id means. Immutable; rebuilt on every change.

A name is tried as these, in this order: a full id (``connection/model``), a combo, a word (``auto``), an alias,
``author/name``, ``provider/model``, ``provider:model``, a bare name, a name without its date, and what is left of it
without variants (``:free``) behind it. See docs/model-names.md.
"""

import difflib
import heapq
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from pointsman.canonical.request import LONG_CONTEXT
from pointsman.errors import GatewayError, Kind
from pointsman.routing.alias_patterns import AliasPatterns
from pointsman.routing.capabilities import capabilities, is_dated, plain_name
from pointsman.routing.combos import LAST, ComboBook, chain_routes, combo_routes
from pointsman.routing.facts import FactBook
from pointsman.routing.plan import Route, Step
from pointsman.routing.strategies import STRATEGIES
from pointsman.routing.targets import Connection, Target, target_of
from pointsman.routing.variants import split_variants, with_variants
from pointsman.routing.words import WORDS, RouteMaker

SUGGESTIONS: Final = 3
MAX_COMPARED: Final = 100
MAX_COMPARED_LENGTH: Final = 100
MAX_KEPT: Final = 10_000  # routes that were worked out; callers can make up names without end
MAX_ALIASES: Final = 8  # aliases of aliases that are followed
MAX_NAME: Final = 512  # a longer one is no model's
# The vendor's own API among connections, where it isn't called as the authors of its models are.
VENDORS: Final = {"mistralai": "mistral", "z-ai": "zai", "meta-llama": "meta"}
_WORDS: Final = re.compile(r"[^a-z0-9]+")

Ambiguous = Literal["refuse", "route"]


class Naming(NamedTuple):
    """How names are read that are no target's id.

    ``ambiguous``: whether a bare name of models that have nothing to do with each other is refused. ``words`` stand for
    ways to choose, not for models.
    """

    ambiguous: Ambiguous = "refuse"
    words: Mapping[str, RouteMaker] = WORDS


class Catalogue:
    """Resolves model ids."""

    def __init__(
        self,
        connections: Iterable[Connection],
        aliases: Mapping[str, str],
        book: ComboBook | None = None,
        facts: FactBook | None = None,
        naming: Naming = Naming(),  # noqa: B008 - immutable
    ) -> None:
        self.connections = {connection.id: connection for connection in connections}
        self.aliases = {name: meaning for name, meaning in aliases.items() if "*" not in name}
        self.patterns = AliasPatterns({name: meaning for name, meaning in aliases.items() if "*" in name})
        self.facts = facts or FactBook()
        self._ambiguous = naming.ambiguous
        self._words = naming.words
        self._prefixes: dict[str, Connection] = {}
        for connection in sorted(self.connections.values(), key=lambda one: -one.priority):
            if connection.prefix is not None:
                self._prefixes.setdefault(connection.prefix, connection)
        self._targets: dict[str, Target] = {}
        self._bare: dict[str, list[Target]] = {}
        self._slugs: dict[str, list[Target]] = {}
        for connection in self.connections.values():
            for model in dict.fromkeys(connection.models or self.facts.listed(connection.id)):
                if connection.offers(model):
                    self._add(target_of(connection, model, self.facts.facts(connection, model)))
        book = book or ComboBook()
        self.combos = {combo.name: combo for combo in book.combos}
        self._combos: dict[str, Route] = {}
        self._routes: dict[str, Route] = {name: route_to(name, target) for name, target in self._targets.items()}
        self._steps: tuple[Callable[[str], Route | None], ...] = (
            self._open, self._combos.get, self._word, self._alias, self._of_slug, self._at_provider, self._of_bare,
            self._undated, self._at_vendor, self._variant,
        )  # fmt: skip
        self._combos |= combo_routes(self.combos, self, book.fallback)
        chains = chain_routes(book.chains, self)
        self._routes |= {name: route for name, route in chains.items() if name not in self._combos}

    def _add(self, target: Target) -> None:
        self._targets[target.id] = target
        self._bare.setdefault(target.model, []).append(target)
        if target.facts.slug is not None:
            self._slugs.setdefault(target.facts.slug, []).append(target)

    def offered(self, provider: str, model: str | None) -> list[Target]:
        """The targets of a model (None: of all) at connections of this id or vendor, in the connections' order."""
        found: list[Target] = []
        for connection in self.connections.values():
            if provider not in (connection.id, connection.vendor):
                continue
            if model is None:
                names = dict.fromkeys(connection.models or self.facts.listed(connection.id))
                found += [
                    target for name in names if (target := self._targets.get(f"{connection.id}/{name}")) is not None
                ]
            else:
                name = f"{connection.id}/{model}"
                target = self._targets.get(name) or self._find(name)
                found += [target] if target is not None else []
        return [target for target in found if target.listed]

    def combo_steps(self, name: str) -> list[Step]:
        """The steps of a combo, without the fallback that all share; none when nothing in it is known."""
        route = self._combos.get(name)
        return [step for step in route.steps if step.group != LAST] if route is not None else []

    @property
    def targets(self) -> list[Target]:
        """Every known model, by full id."""
        return list(self._targets.values())

    @property
    def slugs(self) -> dict[str, list[Target]]:
        """Every known model that has a name of the kind ``author/name``, with its targets."""
        return {slug: list(targets) for slug, targets in self._slugs.items()}

    def route(self, name: str) -> Route:
        """Where requests for a model id may go. Raises GatewayError(MODEL_NOT_FOUND) as `resolve` does."""
        return self._routes.get(name) or self._kept(name)

    def route_of_any(self, name: str) -> Route:
        """As `route`; a bare name that several connections have means all of them."""
        try:
            return self.route(name)
        except GatewayError:
            targets = self._bare.get(name)
            if not targets:
                raise
        return self._among(name, targets)

    def shows(self, target: Target) -> bool:
        """Whether lists of models show the target."""
        return target.id in self._targets and target.listed

    def _kept(self, name: str) -> Route:
        route = self._look_up(name)
        if len(self._routes) - len(self._targets) < MAX_KEPT:
            self._routes[name] = route
        return route

    def _look_up(self, name: str) -> Route:
        if len(name) <= MAX_NAME:
            for step in self._steps:
                route = step(name)
                if route is not None:
                    return route
        raise self._missing(name)

    def route_at(self, name: str, connection_ids: Collection[str]) -> Route:
        """As `route`; of a name that several connections have, to that of one of ``connection_ids``."""
        for target in self._bare.get(name, ()) if name not in self._routes else ():
            if target.connection.id in connection_ids:
                return route_to(name, target)
        route = self.route(name)
        if route.kind == "model" and len(route.steps) > 1:
            kept = tuple(step for step in route.steps if step.target.connection.id in connection_ids)
            return replace(route, steps=kept) if kept else route
        return route

    def kind_of(self, name: str) -> str | None:
        """What a name is: model, combo, profile; None when it means nothing."""
        try:
            return self.route(name).kind
        except GatewayError:
            return None

    def resolve(self, name: str) -> Target:
        """The one target of a requested model id; of several the first.

        Raises GatewayError(MODEL_NOT_FOUND) with the nearest names, or the candidates of an ambiguous bare name.
        """
        return self.route(name).steps[0].target

    def named(self, name: str) -> Target | None:
        """The target of a full id, an alias, or a name that only one connection has; never a combo's."""
        target = self._targets.get(name) or self._find(name)
        if target is not None:
            return target
        for step in (self._alias, self._of_slug, self._at_provider, self._of_bare):
            try:
                route = step(name)
            except GatewayError:
                return None
            if route is not None:
                return route.steps[0].target
        return None

    # the kinds of names, in their order

    def _open(self, name: str) -> Route | None:
        """A full id: any model at a connection that is open to all."""
        target = self._find(name)
        return route_to(name, target) if target is not None else None

    def _find(self, name: str) -> Target | None:
        if name.endswith(LONG_CONTEXT) and "claude" in name:
            return None  # that is no part of its name
        prefix, slash, model = name.partition("/")
        connection = self.connections.get(prefix) or self._prefixes.get(prefix)
        if slash and model and connection is not None and not connection.models and len(name) <= MAX_NAME:
            if not connection.offers(model):
                return None
            known = self._targets.get(f"{connection.id}/{model}")
            return known or target_of(connection, model, self.facts.facts(connection, model))
        return None

    def _word(self, name: str) -> Route | None:
        make = self._words.get(name)
        return make(self, name) if make is not None else None

    def _alias(self, name: str) -> Route | None:
        """What the alias stands for; a real name there is meant before another alias of that name."""
        steps = (self._open, self._combos.get, self._word, self._of_slug, self._at_provider, self._of_bare)
        meaning = self.aliases.get(name) or self.patterns.meaning(name)
        for _ in range(MAX_ALIASES):
            if meaning is None:
                return None
            found = self._routes[meaning] if meaning in self._targets else None
            found = found or next((route for step in steps if (route := step(meaning)) is not None), None)
            if found is not None:
                return replace(found, name=name)
            meaning = self.aliases.get(meaning)
        return None

    def _of_slug(self, name: str) -> Route | None:
        """``author/name``, wherever it is served."""
        targets = self._slugs.get(name) or self._slugs.get(name.lower())
        return self._among(name, _one_each(targets, name)) if targets else None

    def _at_provider(self, name: str) -> Route | None:
        """``provider/model`` or ``provider:model``: at all accounts of a vendor, or at one connection."""
        for mark in "/:":
            provider, found, model = name.partition(mark)
            if found and model:
                at = [target for target in self._bare.get(model, ()) if provider in _names_of(target.connection)]
                if at:
                    return self._among(name, at)
                if mark == ":" and (target := self._find(f"{provider}/{model}")) is not None:
                    return route_to(name, target)
        return None

    def _of_bare(self, name: str) -> Route | None:
        """A model's name alone: one connection has it, or several that serve the same model."""
        targets = self._bare.get(name)
        if not targets or (len(targets) > 1 and self._ambiguous == "refuse" and not _same(targets)):
            return None
        return self._among(name, targets)

    def _undated(self, name: str) -> Route | None:
        """A name without its date, or with ``-latest``: the newest release that is offered under it.

        A name with a date means this release alone.
        """
        if name.endswith(LONG_CONTEXT):
            head = name.removesuffix(LONG_CONTEXT)
            return self._head(head) if "claude" in head else None
        if "@" in name or ":" in name or is_dated(name) or not self._slugs or name in self._bare:
            return None
        slug = _known(name)
        return self._of_slug(slug) if slug is not None else None

    def _at_vendor(self, name: str) -> Route | None:
        """A known model that is in nobody's list: at its own vendor's connections that are open to any."""
        if name in self._bare or not any(not one.models for one in self.connections.values()):
            return None
        slug = _known(name)
        if slug is None:
            return None
        author, _, model = slug.partition("/")
        vendor = VENDORS.get(author, author)
        model = model if "/" in name else name
        found = [
            target_of(connection, model, self.facts.facts(connection, model))
            for connection in self.connections.values()
            if not connection.models
            and connection.provider == vendor
            and not self.facts.listed(connection.id)
            and connection.offers(model)
        ]
        return self._among(name, found) if found else None

    def _variant(self, name: str) -> Route | None:
        """A known name with variants behind it; ``openai:gpt-4`` is none, since nothing is called ``openai``."""
        head, variants = split_variants(name)
        route = self._head(head) if variants else None
        if route is None:
            return None
        varied = with_variants(route, name, variants)
        return varied if varied.strategy in STRATEGIES else replace(varied, strategy=route.strategy)

    def _head(self, head: str) -> Route | None:
        try:
            return self._routes.get(head) or self._look_up(head)
        except GatewayError:
            return None

    def _among(self, name: str, targets: list[Target]) -> Route:
        if len(targets) == 1:
            return route_to(name, targets[0])
        ordered = sorted(targets, key=lambda target: -target.connection.priority)
        strategy = "openrouter" if "openrouter" in STRATEGIES else "priority"
        return Route(name=name, strategy=strategy, steps=tuple(Step(target=target) for target in ordered))

    # what is said when a name means nothing

    def _missing(self, name: str) -> GatewayError:
        shown = _shown(name)
        same = self._bare.get(name, [])
        if len(same) > 1:
            choices = ", ".join(target.id for target in same[:5])
            message = f"the model '{shown}' is offered by several connections; ask for one of: {choices}"
        elif name in self.aliases:
            message = f"the alias '{shown}' points to '{_shown(self.aliases[name])}', which does not exist"
        else:
            near = self._nearest(name)
            hint = f"did you mean {' or '.join(near)}?" if near else "GET /v1/models lists what there is"
            message = f"the model '{shown}' does not exist; {hint}"
        return GatewayError(Kind.MODEL_NOT_FOUND, message, param="model")

    def _nearest(self, name: str) -> list[str]:
        """The names most like ``name``. Similarity is costly, so only those with most words in common are compared."""
        name = name[:MAX_COMPARED_LENGTH]
        words = [word for word in _WORDS.split(name.lower()) if word][:8]

        def in_common(candidate: str) -> tuple[int, int]:
            lower = candidate.lower()
            return sum(word in lower for word in words), -abs(len(candidate) - len(name))

        candidates = dict.fromkeys([*self.combos, *self.aliases, *self._targets, *self._slugs, *self._bare])
        closest = heapq.nlargest(MAX_COMPARED, candidates, in_common) if len(candidates) > MAX_COMPARED else candidates
        short = [candidate for candidate in closest if len(candidate) <= 2 * MAX_COMPARED_LENGTH]
        return [f"'{near}'" for near in difflib.get_close_matches(name, short, SUGGESTIONS, 0.5)]


def route_to(name: str, target: Target) -> Route:
    """The route to one target."""
    return Route(name=name, steps=(Step(target=target),))


def _known(name: str) -> str | None:
    """``author/model`` of a name of a known model; an author in the name must be the model's own."""
    slug = capabilities().slug(name)
    author, slash, _ = name.lower().partition("/")
    return None if slug is not None and slash and author != slug.partition("/")[0] else slug


def _names_of(connection: Connection) -> set[str | None]:
    return {connection.id, connection.vendor, connection.kind, connection.prefix}


def _same(targets: list[Target]) -> bool:
    """Whether a bare name means one thing at all of them: accounts of one vendor, or the same author's model."""
    providers = {target.connection.provider for target in targets}
    slugs = {target.facts.slug for target in targets}
    return (len(providers) == 1 and None not in providers) or (len(slugs) == 1 and None not in slugs)


def _one_each(targets: list[Target], slug: str) -> list[Target]:
    """One target of each connection: that with the model's own name, else the newest release."""
    wanted = plain_name(slug, dated=True)
    best: dict[str, tuple[tuple[bool, bool, str], Target]] = {}
    for target in targets:
        plain = plain_name(target.model, dated=True)
        rank = (plain == wanted and target.model == target.model.partition(":")[0], plain.endswith("-latest"), plain)
        known = best.get(target.connection.id)
        if known is None or rank > known[0]:
            best[target.connection.id] = (rank, target)
    return [target for _, target in best.values()]


def _shown(name: str) -> str:
    """A caller's text, made safe to repeat: short and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in name[:100])
