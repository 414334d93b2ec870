"""How much memory the request bodies may take that one process is reading: of all its connections together.

A body is read before anybody is asked for a key, and stays until its request is served. So those whose sender is not
known have a quarter of the room between them, and can't keep out the others.
"""

from collections.abc import Callable
from typing import Final

from pointsman.errors import GatewayError, Kind

# A body of no more is not counted: small requests cost nothing. Room for larger ones is taken in steps of this.
STEP_BYTES: Final = 64 * 1024
STRANGERS_PART: Final = 4  # strangers together may have one part in so many
RETRY_SECONDS: Final = 1.0


class BodyMemory:
    """The room of one process. ``held`` and ``strangers`` are the bytes that are taken, by all and by strangers."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.held = 0
        self.strangers = 0

    def has_room(self, more: int, own: int) -> bool:
        """Whether ``more`` bytes may be added to the ``own`` of a body. One that is alone may always go on."""
        return self.held == own or self.held + more <= self._most

    def has_room_for_stranger(self, more: int, own: int) -> bool:
        """As `has_room`, within the strangers' part."""
        return self.strangers == own or self.strangers + more <= self._most // STRANGERS_PART


class Share:
    """What one body has of the room, until it is given back. ``is_known`` tells whether its sender is known now."""

    __slots__ = ("_is_known", "_memory", "_stranger", "_taken")

    def __init__(self, memory: BodyMemory, is_known: Callable[[], bool]) -> None:
        self._memory = memory
        self._is_known = is_known
        self._taken = 0
        self._stranger = not is_known()

    def grow(self, size: int) -> int:
        """Take room for ``size`` bytes; gives how many fit into what was taken. Raises GatewayError(OVERLOADED)."""
        memory, own = self._memory, self._taken
        more = size - own + STEP_BYTES
        if self._stranger and not memory.has_room_for_stranger(more, own):
            if not self._is_known():
                raise _no_room()
            self._stranger = False  # its key was looked up meanwhile
            memory.strangers -= own
        if not memory.has_room(more, own):
            raise _no_room()
        self._taken += more
        memory.held += more
        memory.strangers += more if self._stranger else 0
        return self._taken

    def give_back(self) -> None:
        """The body is served, or thrown away."""
        self._memory.held -= self._taken
        if self._stranger:
            self._memory.strangers -= self._taken
        self._taken = 0


def _no_room() -> GatewayError:
    message = "too many large requests are being sent at the moment; try again soon"
    return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=RETRY_SECONDS)
