"""What combos remember from request to request, shared loosely: every process writes and reads it now and then."""

from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from pointsman.storage import combo_tables
from pointsman.storage.database import Database

_MEMORIES: Final = combo_tables.combo_memories
_CONVERSATIONS: Final = combo_tables.combo_conversations
_GONE: Final = delete(_CONVERSATIONS).where(
    _CONVERSATIONS.c.combo == bindparam("of"), _CONVERSATIONS.c.conversation == bindparam("named")
)


class MemoryRow(NamedTuple):
    """A combo's memory. ``turns`` is how far it went since it was read last, when it is written."""

    combo: str
    turns: int
    state: dict[str, Any]


class ConversationRow(NamedTuple):
    """Where a conversation goes. ``used_at`` in us."""

    combo: str
    conversation: str
    target: str
    used_at: int


class ComboMemoryRepository:
    """Asks and changes the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def memories(self, since: int) -> tuple[tuple[MemoryRow, int], ...]:
        """The memories written at ``since`` (us) or later, with the instant of each."""
        query = select(_MEMORIES).where(_MEMORIES.c.updated_at >= since)
        async with self._database.read() as connection:
            return tuple(
                (MemoryRow(row.combo, row.turn, msgspec.json.decode(row.state)), row.updated_at)
                for row in await connection.execute(query)
            )

    async def conversations(self, since: int, limit: int) -> tuple[ConversationRow, ...]:
        """The newest conversations used at ``since`` (us) or later, oldest first."""
        query = select(_CONVERSATIONS).where(_CONVERSATIONS.c.used_at >= since)
        query = query.order_by(_CONVERSATIONS.c.used_at.desc()).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(ConversationRow(row.combo, row.conversation, row.target, row.used_at) for row in reversed(rows))

    async def write(
        self, memories: list[MemoryRow], conversations: list[ConversationRow], now: int, *, forget_before: int
    ) -> None:
        """Store what has changed; turns are added to those there are. Conversations older than that go."""
        async with self._database.write() as connection:
            for memory in memories:
                state = msgspec.json.encode(memory.state).decode()
                changed = await connection.execute(
                    update(_MEMORIES)
                    .where(_MEMORIES.c.combo == memory.combo)
                    .values(turn=_MEMORIES.c.turn + memory.turns, state=state, updated_at=now)
                )
                if not changed.rowcount:
                    values = {"combo": memory.combo, "turn": memory.turns, "state": state, "updated_at": now}
                    await connection.execute(insert(_MEMORIES), values)
            if conversations:
                keys = [{"of": one.combo, "named": one.conversation} for one in conversations]
                await connection.execute(_GONE, keys)
                await connection.execute(insert(_CONVERSATIONS), [one._asdict() for one in conversations])
            await connection.execute(delete(_CONVERSATIONS).where(_CONVERSATIONS.c.used_at < forget_before))
