"""Whose turn it is, who answered last, and where conversations went: kept over a restart, and shared by all processes.

Shared loosely: each process goes on from what it knows, and hands on and takes over what is new about once a second.
"""

from collections import OrderedDict
from typing import Any, Final

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.policy.conversations import Conversation
from pointsman.policy.rounds import Rounds
from pointsman.routing.memory import MemoryBook
from pointsman.routing.plan import Memory, Route
from pointsman.storage.combo_memories import ComboMemoryRepository, ConversationRow, MemoryRow
from pointsman.storage.database import AlreadyExistsError, StorageError

SHARE_SECONDS: Final = 1.0
IDLE_US: Final = 15 * 60 * 1_000_000  # a conversation is forgotten so long after its last answer (OmniRoute's figure)
PINNED_IDLE_US: Final = 24 * 3600 * 1_000_000  # one that is to stay with its model
OVERLAP_US: Final = 2_000_000  # rows this much older are read again: others' clocks and commits may be late
MOST_CONVERSATIONS: Final = 50_000
MOST_WRITTEN: Final = 1000  # conversations in one transaction
MOST_UNWRITTEN: Final = 10_000  # more are known to this process only
log = structlog.get_logger("pointsman.combos")


class ComboMemory(MemoryBook):
    """The memories of combos and of words like `auto`, and those of models as long as the process lives."""

    def __init__(self, repository: ComboMemoryRepository, clock: Clock) -> None:
        super().__init__()
        self._repository = repository
        self._clock = clock
        self._turns: dict[str, int] = {}  # of combos, since they were written
        self._places: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()
        self._unwritten: dict[tuple[str, str], ConversationRow] = {}
        self._read_at = 0
        self._conversations_read_at = 0
        self._rounds = Rounds(SHARE_SECONDS, "what combos remember")

    def keep(self, route: Route, memory: Memory) -> None:
        """Remember this for the next request of the route."""
        before = self.of(route)
        if memory is before:
            return
        if route.kind != "model":
            self._turns[route.name] = self._turns.get(route.name, 0) + memory.turn - before.turn
        if memory.sticky is not None:
            memory = msgspec.structs.replace(memory, sticky=None)  # that was one conversation's own
        super().keep(route, memory)

    def place(self, route: Route, conversation: Conversation, *, pinned: bool) -> str | None:
        """The id of the target that answered the conversation last; None when nobody remembers."""
        oldest = self._clock.now_us() - (PINNED_IDLE_US if pinned else IDLE_US)
        for name in conversation.known:
            found = self._places.get((route.name, name))
            if found is not None and found[1] >= oldest:
                return found[0]
        return None

    def answered(self, route: Route, conversation: Conversation, target_id: str) -> None:
        """A target has answered the conversation."""
        now = self._clock.now_us()
        self._put(route.name, conversation.kept, target_id, now)
        key = (route.name, conversation.kept)
        if len(self._unwritten) < MOST_UNWRITTEN:
            self._unwritten[key] = ConversationRow(*key, target_id, now)

    def _put(self, combo: str, conversation: str, target_id: str, at: int) -> None:
        self._places[combo, conversation] = (target_id, at)
        self._places.move_to_end((combo, conversation))
        if len(self._places) > MOST_CONVERSATIONS:
            self._places.popitem(last=False)

    async def run(self) -> None:
        """Hand on and take over, until `stop`; then once more."""
        await self._rounds.run(self.share)

    def stop(self) -> None:
        """End `run`."""
        self._rounds.stop()

    async def share(self) -> None:
        """Write what is new here, and read what is new elsewhere. Raises StorageError."""
        await self._write()
        await self._read()

    async def _write(self) -> None:
        if not self._turns and not self._unwritten:
            return
        turns, self._turns = self._turns, {}
        keys = list(self._unwritten)[:MOST_WRITTEN]
        conversations = [self._unwritten.pop(key) for key in keys]
        rows = [MemoryRow(name, count, _state(self._memories[name])) for name, count in turns.items()
                if name in self._memories]  # fmt: skip
        now = self._clock.now_us()
        try:
            await self._repository.write(rows, conversations, now, forget_before=now - PINNED_IDLE_US)
        except (StorageError, AlreadyExistsError) as error:  # somebody else was faster by a moment: then next time
            for name, count in turns.items():
                self._turns[name] = self._turns.get(name, 0) + count
            for row in conversations:
                self._unwritten.setdefault((row.combo, row.conversation), row)
            if isinstance(error, StorageError):
                raise

    async def _read(self) -> None:
        since = max(0, self._read_at - OVERLAP_US)
        for row, at in await self._repository.memories(since):
            self._read_at = max(self._read_at, at)
            self._adopt(row)
        since = max(self._clock.now_us() - PINNED_IDLE_US, self._conversations_read_at - OVERLAP_US)
        for one in await self._repository.conversations(since, MOST_CONVERSATIONS):
            self._conversations_read_at = max(self._conversations_read_at, one.used_at)
            known = self._places.get((one.combo, one.conversation))
            if known is None or known[1] < one.used_at:
                self._put(one.combo, one.conversation, one.target, one.used_at)

    def _adopt(self, row: MemoryRow) -> None:
        """Take over another process' memory; what was done here since the last writing stays."""
        pending = self._turns.get(row.combo, 0)
        if row.combo in self._turns:
            memory = self._memories[row.combo]
        else:
            try:
                memory = msgspec.convert(row.state, Memory)
            except msgspec.ValidationError:
                memory = Memory()  # another version's
        self._memories[row.combo] = msgspec.structs.replace(memory, turn=row.turns + pending, sticky=None)


def _state(memory: Memory) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(memory, turn=0, sticky=None))
    return found
