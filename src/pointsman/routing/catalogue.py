"""Model names: which connection and upstream model a requested id means. Immutable; rebuilt on every change."""

import difflib
import heapq
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from pointsman.errors import GatewayError, Kind
from pointsman.routing.combos import Combo, route_of
from pointsman.routing.plan import Route, Step
from pointsman.routing.targets import Connection, Target, target_of

SUGGESTIONS: Final = 3
MAX_COMPARED: Final = 100
MAX_COMPARED_LENGTH: Final = 100
_WORDS: Final = re.compile(r"[^a-z0-9]+")


class Catalogue:
    """Resolves model ids: a combo, an alias, ``connection/model``, then a bare name that only one connection has."""

    def __init__(
        self, connections: Iterable[Connection], aliases: Mapping[str, str], combos: Iterable[Combo] = ()
    ) -> None:
        self.connections = {connection.id: connection for connection in connections}
        self.aliases = dict(aliases)
        self._targets: dict[str, Target] = {}
        self._bare: dict[str, list[Target]] = {}
        for connection in self.connections.values():
            for model in dict.fromkeys(connection.models):
                target = target_of(connection, model)
                self._targets[target.id] = target
                self._bare.setdefault(model, []).append(target)
        unique = {name: found[0] for name, found in self._bare.items() if len(found) == 1 and self._find(name) is None}
        self._names: dict[str, Target] = unique | self._targets
        for name, meaning in self.aliases.items():
            found = self._names.get(meaning) or self._find(meaning)
            if found is not None:
                self._names[name] = found
        self.combos = {combo.name: combo for combo in combos}
        self._routes: dict[str, Route] = {name: route_to(name, target) for name, target in self._names.items()}
        for combo in self.combos.values():
            route = route_of(combo, lambda name: self._names.get(name) or self._find(name))
            if route.steps:
                self._routes[combo.name] = route

    @property
    def targets(self) -> list[Target]:
        """Every known model, by full id."""
        return list(self._targets.values())

    def route(self, name: str) -> Route:
        """Where requests for a model id may go. Raises GatewayError(MODEL_NOT_FOUND) as `resolve` does."""
        return self._routes.get(name) or route_to(name, self.resolve(name))

    def route_at(self, name: str, connection_ids: Collection[str]) -> Route:
        """As `route`; of a bare name that several connections have, to that of one of ``connection_ids``."""
        if name not in self._routes:
            for target in self._bare.get(name, ()):
                if target.connection.id in connection_ids:
                    return route_to(name, target)
        return self.route(name)

    def resolve(self, name: str) -> Target:
        """The one target of a requested model id; of a combo the first.

        Raises GatewayError(MODEL_NOT_FOUND) with the nearest names, or the candidates of an ambiguous bare name.
        """
        route = self._routes.get(name)
        return route.steps[0].target if route is not None else self._find(name) or self._missing(name)

    def _find(self, name: str) -> Target | None:
        prefix, slash, model = name.partition("/")
        connection = self.connections.get(prefix)
        if slash and model and connection is not None and not connection.models:
            return target_of(connection, model)
        return None

    def _missing(self, name: str) -> Target:
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
        raise GatewayError(Kind.MODEL_NOT_FOUND, message, param="model")

    def _nearest(self, name: str) -> list[str]:
        """The names most like ``name``. Similarity is costly, so only those with most words in common are compared."""
        name = name[:MAX_COMPARED_LENGTH]
        words = [word for word in _WORDS.split(name.lower()) if word][:8]

        def in_common(candidate: str) -> tuple[int, int]:
            lower = candidate.lower()
            return sum(word in lower for word in words), -abs(len(candidate) - len(name))

        candidates = dict.fromkeys([*self.combos, *self.aliases, *self._targets, *self._bare])
        closest = heapq.nlargest(MAX_COMPARED, candidates, in_common) if len(candidates) > MAX_COMPARED else candidates
        short = [candidate for candidate in closest if len(candidate) <= 2 * MAX_COMPARED_LENGTH]
        return [f"'{near}'" for near in difflib.get_close_matches(name, short, SUGGESTIONS, 0.5)]


def route_to(name: str, target: Target) -> Route:
    """The route to one target."""
    return Route(name=name, steps=(Step(target=target),))


def _shown(name: str) -> str:
    """A caller's text, made safe to repeat: short and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in name[:100])
