"""Facts of models at connections, put together from several sources. A later source wins over an earlier one.

In rising precedence: price data, the shipped file (capabilities.py), the upstream's own list, the operator's words.
Each source fills in what it knows; members it doesn't know stay as the source before it has them.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from pointsman.routing.capabilities import SOURCE, Capabilities
from pointsman.routing.targets import UNKNOWN, Connection, ModelFacts, PriceTag

PRICES: Final = "price data"
LISTED: Final = "upstream's list"
OPERATOR: Final = "operator"
LOCAL: Final = "built in"
MEMBERS: Final = ModelFacts.__struct_fields__


class Layer(msgspec.Struct, frozen=True):
    """What one source says."""

    source: str
    facts: ModelFacts


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's word on one model. ``model`` is a full id, ``author/name``, or a pattern of either with ``*``."""

    model: str
    facts: ModelFacts


class ListedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in an upstream's own list, and what the list says of it."""

    name: str
    facts: ModelFacts = UNKNOWN


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection is reached, as far as it says what models can do: the host's row, and its wire format."""

    host: str = ""
    wire: str = ""


Prices = Callable[[str, str], PriceTag | None]  # by connection and model: what the price data knows by now


class FactBook:
    """All sources, and what comes of them for a model at a connection."""

    def __init__(
        self,
        *,
        known: Callable[[], Capabilities] | None = None,
        prices: Prices | None = None,
        served: Mapping[str, Served] | None = None,
        listed: Mapping[str, Iterable[ListedModel]] | None = None,
        overrides: Iterable[Override] = (),
        local: Mapping[str, ModelFacts] | None = None,
    ) -> None:
        """``known`` gives the shipped file; ``local`` are this machine's models by name, of which the others know
        nothing.
        """
        self._known = known
        self._prices = prices
        self._served = served or {}
        self._listed = {
            connection: {model.name: model.facts for model in models} for connection, models in (listed or {}).items()
        }
        self._exact = {one.model: one.facts for one in overrides if "*" not in one.model}
        self._patterns = [one for one in overrides if "*" in one.model]
        self._local = local or {}

    def listed(self, connection_id: str) -> tuple[str, ...]:
        """The names in an upstream's own list, empty when nobody has asked for it yet."""
        return tuple(self._listed.get(connection_id, ()))

    def layers(self, connection: Connection, model: str) -> list[Layer]:
        """What each source says of a model, the strongest last."""
        if connection.kind == "local":
            found = [Layer(LOCAL, self._local.get(model, UNKNOWN))]
        else:
            found = self._remote(connection, model)
        slug = next((layer.facts.slug for layer in reversed(found) if layer.facts.slug is not None), None)
        found += [Layer(OPERATOR, facts) for facts in self._words(f"{connection.id}/{model}", slug)]
        return found

    def _remote(self, connection: Connection, model: str) -> list[Layer]:
        found = []
        price = self._prices(connection.id, model) if self._prices is not None else None
        if price is not None:
            found.append(Layer(PRICES, ModelFacts(price=price)))
        if self._known is not None:
            served = self._served.get(connection.id) or Served(host=connection.kind)
            found.append(Layer(SOURCE, self._known().facts(served.host, served.wire, model)))
        listed = self._listed.get(connection.id)
        if listed is not None and (facts := listed.get(model)) is not None:
            found.append(Layer(LISTED, facts))
        return found

    def _words(self, target_id: str, slug: str | None) -> list[ModelFacts]:
        """The operator's, patterns before exact names: the more exact word wins."""
        if not self._exact and not self._patterns:
            return []
        names = [name for name in (slug, target_id) if name is not None]
        found = [one.facts for one in self._patterns if any(fnmatchcase(name, one.model) for name in names)]
        return found + [self._exact[name] for name in names if name in self._exact]

    def facts(self, connection: Connection, model: str) -> ModelFacts:
        """All that is known of a model at a connection."""
        return merged(self.layers(connection, model))

    def has_own(self, connection_id: str) -> bool:
        """Whether `own_price` may know something of a connection's models."""
        return bool(self._exact or self._patterns or connection_id in self._listed)

    def own_price(self, connection: Connection, model: str) -> PriceTag | None:
        """A price that is better than the price data's: the operator's, or the upstream's own. None: there is none."""
        layers = [one for one in self.layers(connection, model) if one.source in (LISTED, OPERATOR)]
        return merged(layers).price


def merged(layers: Iterable[Layer]) -> ModelFacts:
    """The facts of all sources together."""
    found = [layer.facts for layer in layers if layer.facts is not UNKNOWN]
    if len(found) < 2:
        return found[0] if found else UNKNOWN
    values = {}
    for facts in found:
        for member in MEMBERS:
            value = getattr(facts, member)
            if value is not None:
                values[member] = value
    return ModelFacts(**values)


def origins(layers: Iterable[Layer]) -> dict[str, str]:
    """Which source each known member comes from."""
    return {member: layer.source for layer in layers for member in MEMBERS if getattr(layer.facts, member) is not None}
