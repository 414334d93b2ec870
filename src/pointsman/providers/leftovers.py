"""What an API has no place for, told to the fidelity ledger under the client's own names."""

from collections.abc import Collection, Iterable

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import CacheMark, Extra, Opaque, Part, ReasoningPart, TextPart
from pointsman.canonical.request import Message, Request, Tool


class Leftovers:
    """Notes what can't be carried from ``request`` to the API called ``api`` whose wire is ``wire``.

    What the client said in the words of the same API is given back instead, to be sent as it came.
    """

    __slots__ = ("_api", "_fidelity", "_request", "_same")

    def __init__(self, request: Request, fidelity: Fidelity, api: str, wire: str) -> None:
        self._request = request
        self._fidelity = fidelity
        self._api = api
        self._same = request.wire == wire

    def options(self, *names: str) -> None:
        """Those options that the client set and the API doesn't have."""
        for name in names:
            value = getattr(self._request, name)
            if value is not None and value != () and not _says_nothing(name, value):
                self._fidelity.dropped(self._request.path(name), f"{self._api} has no such option")

    def extra(self, path: str, extra: Extra | None) -> Extra:
        """Members beyond our words at ``path`` ("" for the request itself): the API's own, or none and a note each."""
        if extra and not self._same:
            for key in extra:
                self._fidelity.dropped(f"{path}.{key}" if path else key, f"{self._api} has no such member")
            return {}
        return extra or {}

    def cache(self, path: str, mark: CacheMark | None) -> None:
        """A cache mark where the API has none."""
        if mark is not None:
            self._fidelity.dropped(
                f"{path}.cache_control" if path else "cache_control", f"{self._api} has no cache marks"
            )

    def opaque(self, path: str, opaque: Opaque | None) -> None:
        """Opaque state of another API."""
        if opaque is not None:
            self._fidelity.dropped(f"{path}.{opaque.kind}", f"only {opaque.origin} can read it, not {self._api}")

    def part(self, part: Part, *, cached: bool = False, cited: bool = False, opaque: bool = False) -> Extra:
        """What a part has beyond its content, but for what the caller carries: cache mark, citations, opaque state."""
        if not cached:
            self.cache(part.path, part.cache)
        if not opaque:
            self.opaque(part.path, part.opaque)
        if isinstance(part, TextPart) and part.citations and not cited:
            self._fidelity.dropped(f"{part.path}.citations", f"{self._api} takes no citations back")
        if isinstance(part, ReasoningPart) and part.summary and part.text:
            self._fidelity.dropped(f"{part.path}.summary", "the reasoning itself is sent")
        return self.extra(part.path, part.extra)

    def whole(self, part: Part, reason: str) -> None:
        """A part that goes nowhere."""
        self._fidelity.dropped(part.path, reason)

    def message(self, message: Message) -> Extra:
        """A message's name and members."""
        if message.name is not None:
            self._fidelity.dropped(f"{message.path}.name", f"{self._api} has no names for speakers")
        return self.extra(message.path, message.extra)

    def tool(self, tool: Tool, *, cached: bool = False) -> Extra:
        """A function's members; ``cached``: the caller carries its cache mark."""
        if not cached:
            self.cache(tool.path, tool.cache)
        if tool.namespace is not None:
            self._fidelity.mapped(f"{tool.path}.namespace", "it stands before the name")
        return self.extra(tool.path, tool.extra)


def note_left_out(tools: Iterable[Tool], offered: Collection[str], fidelity: Fidelity) -> None:
    """The tools that aren't offered because the client's choice keeps the model from calling them."""
    for tool in tools:
        if tool.name not in offered:
            for path in tool.places:
                fidelity.mapped(path, "left out: it may not be called")


def _says_nothing(name: str, value: object) -> bool:
    """What says no more than leaving the option out."""
    return (name == "choices" and value == 1) or (name == "modalities" and value == ["text"])
