"""The words `auto`, `cheap`, `medium`, `premium`, `eco` and `balanced` as routes: all models that may be chosen.

Which of them a request goes to is decided by its plan (strategies/profile.py), since that hangs on the request.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from pointsman.routing.profiles.book import ProfileBook
from pointsman.routing.profiles.budgets import AUTO, PROFILES, present_name
from pointsman.routing.profiles.grades import grades, talks
from pointsman.routing.targets import Target

if TYPE_CHECKING:
    from pointsman.routing.catalogue import Catalogue
    from pointsman.routing.plan import Route
    from pointsman.routing.words import RouteMaker

STRATEGY: Final = "profile"
PROFILE: Final = "profile"  # names of a route's settings
PINS: Final = "pins"
ONLY: Final = "only"
OPENROUTERS: Final = "openrouter/auto"  # its name for the same wish; its own upstream keeps it where there is one


def profile_words(book: ProfileBook) -> Mapping[str, "RouteMaker"]:
    """The makers of the words' routes."""
    words: dict[str, RouteMaker] = {word: partial(_route, book, present_name(word)) for word in PROFILES}
    words[OPENROUTERS] = partial(_unless_served, book)
    return words


def profile_of(route: "Route") -> str:
    """The profile that a route stands for: cheap for ``eco``."""
    return str(route.settings.get(PROFILE) or AUTO)


def _unless_served(book: ProfileBook, catalogue: "Catalogue", name: str) -> "Route | None":
    return None if name in catalogue.slugs else _route(book, AUTO, catalogue, name)


def _route(book: ProfileBook, profile: str, catalogue: "Catalogue", name: str) -> "Route | None":
    """Every model that talks and is offered, in the catalogue's order; None when there is none."""
    from pointsman.routing.plan import Route, Step

    offered: dict[str, Target] = {
        target.id: target
        for target in catalogue.targets
        if target.listed and talks(target) and not book.excluded(target)
    }
    pins = book.pinned(catalogue, offered)
    for ids in pins.values():  # at a connection that is open to any, a model is there once it is named
        for one in ids:
            if one not in offered:
                offered[one] = catalogue.resolve(one)
    if not offered:
        return None
    graded = grades(offered.values())
    steps = tuple(
        Step(target=target, weight=graded[target.id].quality, id=graded[target.id].word())
        for target in offered.values()
    )
    settings = {PROFILE: profile, PINS: pins, ONLY: book.only()}
    return Route(name=name, kind="profile", strategy=STRATEGY, steps=steps, settings=settings)
