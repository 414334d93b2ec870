"""What one account hands to the next when a conversation has to change: a summary, kept for a while.

One per combo and conversation, in memory up to a bound, and sealed in the database where other workers find it. Names
are keyed hashes over the workspace, the combo and the conversation's digest, so nothing readable is a name.
"""

from collections import OrderedDict
from hashlib import blake2s
from typing import Final

import msgspec

from pointsman.clock import Clock
from pointsman.policy.opaque_state import Store

MOST: Final = 1000  # in memory; the oldest goes first
KEEP_US: Final = 5 * 3600 * 1_000_000  # where nobody knows when the quota is whole again (OmniRoute's figure)
LONGEST_US: Final = 24 * 3600 * 1_000_000  # the store keeps nothing longer
MAKING_US: Final = 300 * 1_000_000  # a summary that has not come by then may be asked for anew
NAME_BYTES: Final = 16


class Handoff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A summary that was made at the connection ``account``; good until ``expires_at`` (us)."""

    account: str
    expires_at: int
    summary: str
    decisions: tuple[str, ...] = ()
    progress: str = ""
    entities: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """Whose conversation it is: its workspace, the combo's name, the conversation's digest."""

    workspace_id: str
    combo: str
    conversation: str


class HandoffBook:
    """The handoffs that wait for their conversation to come."""

    def __init__(self, clock: Clock, secret: bytes = b"", store: Store | None = None) -> None:
        """``secret`` (up to 32 bytes) must be the same for all that share a ``store``."""
        self._clock = clock
        self._secret = secret
        self._store = store
        self._kept: OrderedDict[bytes, Handoff | None] = OrderedDict()  # None: there was one, and it was used
        self._making: dict[bytes, int] = {}

    def __len__(self) -> int:
        return sum(one is not None for one in self._kept.values())

    def begin(self, place: Place) -> bool:
        """Whether a summary of this conversation is to be made now: there is none, and nobody is at it."""
        name, now = self._name(place), self._clock.now_us()
        if self._live(name) is not None or self._making.get(name, 0) > now:
            return False
        if len(self._making) >= MOST:
            self._making = {known: until for known, until in self._making.items() if until > now}
            if len(self._making) >= MOST:
                return False
        self._making[name] = now + MAKING_US
        return True

    def failed(self, place: Place) -> None:
        """The summary that was begun has not come: the next request may ask again."""
        self._making.pop(self._name(place), None)

    def keep(self, place: Place, handoff: Handoff) -> None:
        """Keep a summary until it is used or its time is over."""
        name = self._name(place)
        self._making.pop(name, None)
        self._put(place, name, handoff)

    async def find(self, place: Place) -> Handoff | None:
        """The handoff of a conversation; None when there is none, or the database does not tell in time."""
        name = self._name(place)
        if name in self._kept or self._store is None:
            return self._live(name)
        found = await self._store.find(place.workspace_id, [name])
        if not found or name not in found:
            return None
        try:
            handoff = msgspec.json.decode(found[name].data, type=Handoff | None)
        except msgspec.DecodeError:
            return None  # another version's
        self._remember(name, handoff)
        return self._live(name)

    def spend(self, place: Place) -> None:
        """The conversation went on at another account with it."""
        self._put(place, self._name(place), None)

    def _put(self, place: Place, name: bytes, handoff: Handoff | None) -> None:
        self._remember(name, handoff)
        if self._store is not None:
            self._store.put(place.workspace_id, name, msgspec.json.encode(handoff))

    def _remember(self, name: bytes, handoff: Handoff | None) -> None:
        self._kept[name] = handoff
        self._kept.move_to_end(name)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def _live(self, name: bytes) -> Handoff | None:
        found = self._kept.get(name)
        if found is not None and found.expires_at <= self._clock.now_us():
            del self._kept[name]
            return None
        return found

    def _name(self, place: Place) -> bytes:
        text = "\0".join(("handoff", place.workspace_id, place.combo, place.conversation))
        return blake2s(text.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=NAME_BYTES).digest()


def expiry(now: int, resets_at: int | None) -> int:
    """Until when a handoff made at ``now`` is good: until the account is whole again, else five hours (us)."""
    if resets_at is None or resets_at <= now:
        return now + KEEP_US
    return min(resets_at, now + LONGEST_US)
