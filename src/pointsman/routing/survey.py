"""What all steps of a route have in common: looked up once for a route, used by every plan of it. Pure."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.routing.plan import Step

# The members of `ModelFacts` that filters skip where nobody knows them.
SKIPPED: Final = (
    "outputs", "deprecated_at", "context_tokens", "max_output_tokens", "inputs", "parameters", "service_tier",
)  # fmt: skip
MOST: Final = 256  # routes in memory; plans of one route come in a row


class Survey:
    """Of the steps of one route: which facts are ``known`` of any, whether all are of ``one_group``, and whether there
    are ``shared_vendors``, with several accounts.
    """

    __slots__ = ("_places", "known", "one_group", "shared_vendors", "steps")

    def __init__(self, steps: "tuple[Step, ...]") -> None:
        self.steps = steps
        facts = [step.target.facts for step in steps]
        self.known = frozenset([name for name in SKIPPED if any(getattr(one, name) is not None for one in facts)])
        self.one_group = len({step.group for step in steps}) < 2
        vendors = {step.target.connection.id: step.target.connection.vendor for step in steps}
        self.shared_vendors = len(set(vendors.values())) < len(vendors)
        self._places: dict[str, set[str]] | None = None

    def accounts(self, slugs: tuple[str, ...]) -> set[str] | None:
        """The ids of the connections that these slugs of providers mean; None when they don't tell by themselves."""
        if "service_tier" in self.known or any(["/" in slug for slug in slugs]):
            return None
        places = self._places
        if places is None:
            places = self._places = _places(self.steps)
        found: set[str] = set()
        for slug in slugs:
            found.update(places.get(slug.lower(), ()))
        return found


def _places(steps: "tuple[Step, ...]") -> dict[str, set[str]]:
    places: dict[str, set[str]] = {}
    for one in {id(step.target.connection): step.target.connection for step in steps}.values():
        for name in (one.vendor.lower(), one.id.lower()):
            places.setdefault(name, set()).add(one.id)
    return places


# By identity: the survey holds the steps, so their id can't be another's.
_surveys: Final[OrderedDict[int, Survey]] = OrderedDict()


def survey_of(steps: "tuple[Step, ...]") -> Survey:
    """The survey of a route's steps, kept for as long as the route is asked for."""
    found = _surveys.get(id(steps))
    if found is not None:
        return found
    found = _surveys[id(steps)] = Survey(steps)
    if len(_surveys) > MOST:
        _surveys.popitem(last=False)
    return found
