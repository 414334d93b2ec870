"""Words that stand for a choice of models instead of one (``auto``, ``openrouter/auto``), and what makes routes."""

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.catalogue import Catalogue
    from pointsman.routing.plan import Route

RouteMaker = Callable[["Catalogue", str], "Route | None"]  # of a word; None: it means nothing here

# A full id, a combo or an operator's word of the same name comes first only where the catalogue's order says so.
WORDS: Final[MappingProxyType[str, RouteMaker]] = MappingProxyType({})
