"""Where conversations went last, so that they stay where their prompt is cached. Pure: time is passed in.

A place is kept by account, model and conversation for ten minutes, each answer anew; the oldest is forgotten when there
are too many. It is one process' memory: another worker, or a restart, chooses afresh.
"""

from collections import OrderedDict
from typing import Final

IDLE: Final = 600 * 1_000_000  # us (OpenRouter's figure)
MAX_CONVERSATIONS: Final = 50_000

Conversation = tuple[str, str, str]  # account, model, conversation


class StickyBook:
    """The target of each conversation."""

    def __init__(self, most: int = MAX_CONVERSATIONS, idle: int = IDLE) -> None:
        self._most = most
        self._idle = idle
        self._places: OrderedDict[Conversation, tuple[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def find(self, conversation: Conversation, now: int) -> str | None:
        """The id of the target that answered last; None when that is too long ago, or nothing is known."""
        found = self._places.get(conversation)
        if found is None:
            return None
        if found[1] <= now:
            del self._places[conversation]
            return None
        return found[0]

    def keep(self, conversation: Conversation, target_id: str, now: int) -> None:
        """The conversation was answered there."""
        self._places[conversation] = (target_id, now + self._idle)
        self._places.move_to_end(conversation)
        if len(self._places) > self._most:
            self._places.popitem(last=False)
