"""Where conversations went last, so that they stay where their prompt is cached. Pure: time is passed in.

A place is kept by a digest of account, model and conversation for ten minutes, each answer anew; the oldest is
forgotten when there are too many. What is new is noted for other processes (policy/route_sharing.py).
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

IDLE: Final = 600 * 1_000_000  # us (OpenRouter's figure)
MAX_CONVERSATIONS: Final = 50_000
MAX_CHANGED: Final = 10_000  # more are known to this process only
TOLD_ANEW: Final = 60 * 1_000_000  # us; a place that is still the same is told again so much later

Conversation = str  # a digest of account, model and conversation


class Place(NamedTuple):
    """The target that answered a conversation last, and when (us)."""

    conversation: Conversation
    target_id: str
    used_at: int


class StickyBook:
    """The target of each conversation."""

    def __init__(self, most: int = MAX_CONVERSATIONS, idle: int = IDLE) -> None:
        self._most = most
        self._idle = idle
        self._places: OrderedDict[Conversation, Place] = OrderedDict()
        self._told: dict[Conversation, tuple[str, int]] = {}  # of those that were told: the target, and when
        self._changed: dict[Conversation, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def find(self, conversation: Conversation, now: int) -> str | None:
        """The id of the target that answered last; None when that is too long ago, or nothing is known."""
        found = self._places.get(conversation)
        if found is None:
            return None
        if found.used_at + self._idle <= now:
            del self._places[conversation]
            self._told.pop(conversation, None)
            return None
        return found.target_id

    def keep(self, conversation: Conversation, target_id: str, now: int) -> None:
        """The conversation was answered there."""
        place = self._put(Place(conversation, target_id, now))
        told = self._told.get(conversation)
        if told is not None and told[0] == target_id and now - told[1] < TOLD_ANEW:
            self._changed.pop(conversation, None)
        elif len(self._changed) < MAX_CHANGED:
            self._changed[conversation] = place

    def _put(self, place: Place) -> Place:
        self._places[place.conversation] = place
        self._places.move_to_end(place.conversation)
        if len(self._places) > self._most:
            gone, _ = self._places.popitem(last=False)
            self._told.pop(gone, None)
        return place

    def take_changes(self, most: int) -> list[Place]:
        """Places that others have not been told of, at most ``most``; then the next."""
        taken = [self._changed.pop(name) for name in list(self._changed)[:most]]
        for place in taken:
            if place.conversation in self._places:
                self._told[place.conversation] = (place.target_id, place.used_at)
        return taken

    def put_back(self, places: Iterable[Place]) -> None:
        """Changes that could not be told; newer ones stay."""
        for place in places:
            self._told.pop(place.conversation, None)
            self._changed.setdefault(place.conversation, place)

    def adopt(self, place: Place) -> None:
        """What another process has told. A later answer here stays, and is told again if it was at another target: what
        was told of it before is overwritten.
        """
        name = place.conversation
        known = self._places.get(name)
        if known is None or (known.used_at, known.target_id) < (place.used_at, place.target_id):
            self._put(place)
            self._changed.pop(name, None)
            self._told[name] = (place.target_id, place.used_at)
        elif known.target_id != place.target_id and len(self._changed) < MAX_CHANGED:
            self._told.pop(name, None)
            self._changed[name] = known
