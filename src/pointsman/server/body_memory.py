"""How much memory the request bodies may take that one process is reading: of all its connections together.

A body is read before anybody is asked for a key, and stays until its request is served. So those whose sender is not
known have a quarter of the room between them, and one that is known half of it at most: nobody keeps out the others.
"""

from collections.abc import Callable
from typing import Final

from pointsman.errors import GatewayError, Kind

# A body of no more is not counted: small requests cost nothing. Room for larger ones is taken in steps of this.
STEP_BYTES: Final = 64 * 1024
# One part in so many may be had by strangers together, and by one caller.
STRANGERS_PART: Final = 4
CALLERS_PART: Final = 2
RETRY_SECONDS: Final = 1.0


class BodyMemory:
    """The room of one process. ``held`` are the bytes that are taken, ``held_by`` tells by whom; None: by strangers."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.held = 0
        self.held_by: dict[str | None, int] = {}

    def has_room(self, more: int, own: int) -> bool:
        """Whether ``more`` bytes may be added to the ``own`` of a body. One that is alone may always go on."""
        return self.held == own or self.held + more <= self._most

    def has_room_for(self, caller: str | None, more: int, own: int) -> bool:
        """As `has_room`, within the caller's part."""
        held = self.held_by.get(caller, 0)
        return held == own or held + more <= self._most // (STRANGERS_PART if caller is None else CALLERS_PART)

    def add(self, caller: str | None, more: int) -> None:
        """So much more is taken by a caller, or given back where it is less than none."""
        self.held += more
        held = self.held_by.get(caller, 0) + more
        if held:
            self.held_by[caller] = held
        else:
            self.held_by.pop(caller, None)


class Share:
    """What one body has of the room, until it is given back. ``find_caller`` tells who sends it, as far as is known."""

    __slots__ = ("_caller", "_find_caller", "_memory", "_taken")

    def __init__(self, memory: BodyMemory, find_caller: Callable[[], str | None]) -> None:
        self._memory = memory
        self._find_caller = find_caller
        self._taken = 0
        self._caller = find_caller()

    def grow(self, size: int) -> int:
        """Take room for ``size`` bytes; gives how many fit into what was taken. Raises GatewayError(OVERLOADED)."""
        memory, own = self._memory, self._taken
        more = size - own + STEP_BYTES
        if self._caller is None and not memory.has_room_for(None, more, own):
            caller = self._find_caller()  # its key may have been looked up meanwhile
            memory.add(None, -own)
            memory.add(caller, own)
            self._caller = caller
        if not (memory.has_room_for(self._caller, more, own) and memory.has_room(more, own)):
            raise _no_room()
        self._taken += more
        memory.add(self._caller, more)
        return self._taken

    def give_back(self) -> None:
        """The body is served, or thrown away."""
        self._memory.add(self._caller, -self._taken)
        self._taken = 0


def _no_room() -> GatewayError:
    message = "too many large requests are being sent at the moment; try again soon"
    return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=RETRY_SECONDS)
