"""Model names: which connection and upstream model a requested id means. Immutable; rebuilt on every change."""

import difflib
import heapq
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind

SUGGESTIONS: Final = 3
MAX_COMPARED: Final = 100
MAX_COMPARED_LENGTH: Final = 100
_WORDS: Final = re.compile(r"[^a-z0-9]+")


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One account at an upstream, as routing sees it: no credential, no address. No ``models`` means any.

    ``hidden`` names models that can be asked for but should not be offered (a local model not yet installed), ``apart``
    those that are reached in a way of their own.
    """

    id: str
    kind: str
    provider: str | None = None
    models: tuple[str, ...] = ()
    priority: int = 0
    created_at: int = 0
    hidden: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes: a connection and the model's name there. ``encoded`` is that name as JSON, ``endpoint`` the
    key of the way there.
    """

    connection: Connection
    model: str
    encoded: msgspec.Raw
    endpoint: str

    @property
    def listed(self) -> bool:
        """Whether it is offered in lists."""
        return self.model not in self.connection.hidden

    @property
    def id(self) -> str:
        """The full id, ``connection/model``."""
        return f"{self.connection.id}/{self.model}"


class Catalogue:
    """Resolves model ids: an alias, then ``connection/model``, then a bare name that only one connection has."""

    def __init__(self, connections: Iterable[Connection], aliases: Mapping[str, str]) -> None:
        self.connections = {connection.id: connection for connection in connections}
        self.aliases = dict(aliases)
        self._targets: dict[str, Target] = {}
        self._bare: dict[str, list[Target]] = {}
        for connection in self.connections.values():
            for model in dict.fromkeys(connection.models):
                target = _target(connection, model)
                self._targets[target.id] = target
                self._bare.setdefault(model, []).append(target)
        unique = {name: found[0] for name, found in self._bare.items() if len(found) == 1 and self._find(name) is None}
        self._names: dict[str, Target] = unique | self._targets
        for name, meaning in self.aliases.items():
            found = self._names.get(meaning) or self._find(meaning)
            if found is not None:
                self._names[name] = found

    @property
    def targets(self) -> list[Target]:
        """Every known model, by full id."""
        return list(self._targets.values())

    def resolve(self, name: str) -> Target:
        """The target of a requested model id.

        Raises GatewayError(MODEL_NOT_FOUND) with the nearest names, or the candidates of an ambiguous bare name.
        """
        return self._names.get(name) or self._find(name) or self._missing(name)

    def resolve_at(self, name: str, connection_ids: Collection[str]) -> Target:
        """As `resolve`; of a bare name that several connections have, that of one of ``connection_ids``."""
        if name not in self._names:
            for target in self._bare.get(name, ()):
                if target.connection.id in connection_ids:
                    return target
        return self.resolve(name)

    def _find(self, name: str) -> Target | None:
        prefix, slash, model = name.partition("/")
        connection = self.connections.get(prefix)
        if slash and model and connection is not None and not connection.models:
            return _target(connection, model)
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

        candidates = dict.fromkeys([*self.aliases, *self._targets, *self._bare])
        closest = heapq.nlargest(MAX_COMPARED, candidates, in_common) if len(candidates) > MAX_COMPARED else candidates
        short = [candidate for candidate in closest if len(candidate) <= 2 * MAX_COMPARED_LENGTH]
        return [f"'{near}'" for near in difflib.get_close_matches(name, short, SUGGESTIONS, 0.5)]


def _target(connection: Connection, model: str) -> Target:
    return Target(
        connection=connection,
        model=model,
        encoded=msgspec.Raw(msgspec.json.encode(model)),
        endpoint=f"{connection.id}/{model}" if model in connection.apart else connection.id,
    )


def _shown(name: str) -> str:
    """A caller's text, made safe to repeat: short and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in name[:100])
