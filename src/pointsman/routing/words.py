"""Words that stand for a choice of models instead of one (``auto``, ``openrouter/auto``), and what makes routes."""

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pointsman.routing.profiles.book import ProfileBook
from pointsman.routing.profiles.making import profile_words

if TYPE_CHECKING:
    from pointsman.routing.catalogue import Catalogue
    from pointsman.routing.plan import Route

RouteMaker = Callable[["Catalogue", str], "Route | None"]  # of a word; None: it means nothing here

# A full id or a combo of the same name comes first, an alias after (docs/model-names.md).
WORDS: Final[MappingProxyType[str, RouteMaker]] = MappingProxyType(dict(profile_words(ProfileBook())))
