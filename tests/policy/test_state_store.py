"""The vault's entries in both databases: shared, sealed, bounded, and never in a request's way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from databases import DatabasePlace
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.parts import AnyPart, Opaque, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, ReasoningOptions, Request
from pointsman.clock import SystemClock
from pointsman.keyring import MasterKey
from pointsman.policy.opaque_state import UNREAD, Vault
from pointsman.policy.opaque_turns import make_answerer
from pointsman.policy.state_store import QUEUE_ENTRIES, StateBounds, StateStore
from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.opaque_states import StateRepository
from steady_load import until

SIGNATURE = "c2lnbmF0dXJlIG9mIGEgdGhvdWdodA=="
THOUGHT = "nobody may read this thought"
ANSWERER = make_answerer("anthropic", "models.example", 443, "one")
MASTER = MasterKey(b"k" * 32)


class MovedClock(SystemClock):
    """The machine's clock, moved on by a test."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0.0

    def now_us(self) -> int:
        return super().now_us() + int(self.moved * 1e6)


class Worker:
    """One process's vault over the shared database."""

    def __init__(self, database: Database, bounds: StateBounds | None = None, master: MasterKey = MASTER) -> None:
        self.clock = MovedClock()
        bounds = bounds or StateBounds(read_seconds=5.0)
        self.store = StateStore(StateRepository(database), master, self.clock, bounds)
        self.vault = Vault(secret=self.store.names_secret, store=self.store)

    def keep(self, workspace: str = "ws_1", call: str = "call_1") -> None:
        self.vault.keep(workspace, asking(), ANSWERER, answer(call), 0.0)

    async def write(self) -> None:
        """Write all that is queued, as at the end of a process."""
        self.store.stop()
        await self.store.run()

    async def ask(self, workspace: str = "ws_1", call: str = "call_1", now: float = 1.0) -> tuple[str | None, Fidelity]:
        """The signature that a stripped turn gets back."""
        request, fidelity = asking(stripped(call)), Fidelity()
        wanted = self.vault.restore(workspace, request, ANSWERER, now, fidelity)
        if wanted:
            await self.vault.recall(workspace, wanted, ANSWERER, now, fidelity)
        opaque = next((part.opaque for part in request.messages[1].parts if part.opaque), None)
        return opaque.data if opaque else None, fidelity


def answer(call: str) -> list[AnyPart]:
    opaque = Opaque(origin="anthropic", kind="signature", data=SIGNATURE)
    return [ReasoningPart(text=THOUGHT, opaque=opaque), *stripped(call)]


def stripped(call: str) -> list[AnyPart]:
    return [ToolCallPart(id=call, name="look", arguments="{}")]


def asking(parts: list[AnyPart] | None = None) -> Request:
    messages = [Message(role="user", parts=[TextPart(text="Look.")])]
    if parts is not None:
        result = ToolResultPart(call_id=str(getattr(parts[-1], "id", "")), content=[TextPart(text="Seen.")])
        messages += [Message(role="assistant", parts=parts), Message(role="user", parts=[result])]
    return Request(wire="openai.chat", model="m", messages=messages, reasoning=ReasoningOptions(effort="low"))


def within(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` over an open database."""

    async def run() -> None:
        async with opened(place) as database:
            await story(database)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def opened(place: DatabasePlace) -> AsyncIterator[Database]:
    database = place.open()
    try:
        yield database
    finally:
        await database.aclose()


async def stored(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(tables.opaque_states))).scalar_one())


def test_what_one_worker_kept_another_puts_back(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        one, two = Worker(database), Worker(database)
        one.keep()
        await one.write()
        signature, fidelity = await two.ask()
        assert signature == SIGNATURE
        assert fidelity.counts == {Action.SYNTHESISED: 1}
        assert two.store.reads == {"found": 1, "missing": 0, "unread": 0}
        assert (await two.ask())[0] == SIGNATURE  # from memory now
        assert two.store.reads["found"] == 1

    within(database_place, story)


def test_a_write_that_is_still_under_way_is_waited_for(
    database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman.policy.opaque_state.PAUSES", (0.01,) * 500)

    async def story(database: Database) -> None:
        one, two = Worker(database), Worker(database)
        one.keep()
        asked = asyncio.create_task(two.ask())
        await until(lambda: two.store.reads["missing"], "first look")
        await one.write()
        signature, _ = await asked
        assert signature == SIGNATURE

    within(database_place, story)


def test_another_tenant_reads_nothing_even_of_a_row_that_was_moved_to_it(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        one = Worker(database)
        one.keep()
        await one.write()
        assert (await Worker(database).ask("ws_2"))[0] is None
        async with database.write() as connection:
            [(key, sealed)] = (
                await connection.execute(select(tables.opaque_states.c.key, tables.opaque_states.c.sealed))
            ).all()
            await connection.execute(text("UPDATE opaque_states SET workspace_id = 'ws_2'"))
        assert await Worker(database).store.find("ws_2", [key]) == {}
        assert SIGNATURE.encode() not in sealed

    within(database_place, story)


def test_another_master_key_opens_and_names_nothing(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        one, other = Worker(database), Worker(database, master=MasterKey(b"o" * 32))
        one.keep()
        await one.write()
        assert (await other.ask())[0] is None
        async with database.read() as connection:
            key = (await connection.execute(select(tables.opaque_states.c.key))).scalar_one()
        assert await other.store.find("ws_1", [key]) == {}

    within(database_place, story)


def test_neither_signature_nor_thought_is_readable_in_the_file(tmp_path: Path, migrated_sqlite: Path) -> None:
    (tmp_path / migrated_sqlite.name).write_bytes(migrated_sqlite.read_bytes())

    async def story(database: Database) -> None:
        one = Worker(database)
        one.keep()
        await one.write()
        assert await stored(database) == 1

    within(DatabasePlace(url=None, data_dir=tmp_path), story)
    written = b"".join(path.read_bytes() for path in tmp_path.glob("pointsman.db*"))
    assert b"ws_1" in written
    assert SIGNATURE.encode() not in written
    assert THOUGHT.encode() not in written
    assert b"call_1" not in written


def test_a_workspace_keeps_its_newest_entries_only_and_takes_none_of_another(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        bounds = StateBounds(read_seconds=5.0, max_per_workspace=3)
        neighbour, one = Worker(database, bounds), Worker(database, bounds)
        neighbour.keep("ws_2")
        await neighbour.write()
        for number in range(5):
            one.keep(call=f"call_{number}")
        await one.write()
        two = Worker(database, bounds)
        kept = [(await two.ask(call=f"call_{number}"))[0] is not None for number in range(5)]
        assert kept == [False, False, True, True, True]
        assert (await two.ask("ws_2"))[0] == SIGNATURE

    within(database_place, story)


def test_what_is_too_old_is_not_given_and_is_deleted_by_the_sweep(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        one, two = Worker(database), Worker(database)
        one.keep()
        await one.write()
        assert await one.store.sweep() == 0
        two.clock.moved = StateBounds().lifetime_seconds + 1.0
        assert (await two.ask())[0] is None
        assert await two.store.sweep() == 1
        assert await stored(database) == 0

    within(database_place, story)


def test_beyond_the_total_the_oldest_of_all_go(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        one = Worker(database)
        for number in range(12):
            one.keep(f"ws_{number % 2}", f"call_{number}")
        await one.write()
        async with database.read() as connection:
            size = (await connection.execute(select(func.max(tables.opaque_states.c.size)))).scalar_one()
        small = Worker(database, StateBounds(read_seconds=5.0, max_bytes=4 * size))
        assert await small.store.sweep() == 8
        asked = [(await small.ask(f"ws_{number % 2}", f"call_{number}"))[0] is not None for number in range(12)]
        assert asked == [False] * 8 + [True] * 4

    within(database_place, story)


def test_many_entries_are_swept_in_batches(database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.policy.state_store.SWEEP_ROWS", 2)

    async def story(database: Database) -> None:
        one = Worker(database)
        for number in range(5):
            one.keep(call=f"call_{number}")
        await one.write()
        one.clock.moved = StateBounds().lifetime_seconds + 1.0
        assert await one.store.sweep() == 5

    within(database_place, story)


def test_an_answer_without_state_is_looked_for_by_nobody_who_saw_it(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        one, two = Worker(database), Worker(database)
        one.vault.keep("ws_1", asking(), ANSWERER, stripped("call_1"), 0.0)
        assert (await one.ask())[0] is None
        assert one.store.reads == {"found": 0, "missing": 0, "unread": 0}
        await two.ask(now=1.0)
        asked = two.store.reads["missing"]
        assert asked > 0
        await two.ask(now=1.5)
        assert two.store.reads["missing"] == asked

    within(database_place, story)


def test_a_database_that_fails_costs_the_state_and_not_the_call(tmp_path: Path) -> None:
    async def story(database: Database) -> None:
        one = Worker(database)  # never migrated: no table
        one.keep()
        assert (await one.ask())[0] == SIGNATURE  # memory has it
        signature, fidelity = await one.ask(call="call_2")
        assert signature is None
        [note] = fidelity.notes
        assert (note.path, note.action, note.detail) == ("messages[1]", Action.APPROXIMATED, UNREAD)
        await one.write()
        assert one.store.writes == {"written": 0, "failed": 1, "lost": 1}
        assert one.store.queued == 0

    within(DatabasePlace(url=None, data_dir=tmp_path), story)


def test_a_database_that_does_not_answer_is_waited_for_shortly_and_then_left_alone(
    database_place: DatabasePlace,
) -> None:
    async def story(database: Database) -> None:
        bounds = StateBounds(read_seconds=0.02)
        two = Worker(database, bounds)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(16 if database.kind == "postgresql" else 8):  # the whole pool is taken
                await stack.enter_async_context(database.read())
            signature, fidelity = await two.ask()
            assert signature is None
            assert fidelity.counts == {Action.APPROXIMATED: 1}
            assert two.store.reads["unread"] == 1
            await two.ask(call="call_2")
            assert two.store.reads["unread"] == 2
            assert len(two.store._reads) == 1  # the second was not even tried
        await two.write()

    within(database_place, story)


def test_a_queue_that_is_full_loses_its_oldest_and_counts_them(tmp_path: Path) -> None:
    async def story(database: Database) -> None:
        one = Worker(database)
        for number in range(QUEUE_ENTRIES + 10):
            one.store.put("ws_1", number.to_bytes(8, "big"), b"x")
        assert one.store.queued == QUEUE_ENTRIES
        assert one.store.writes["lost"] == 10

    within(DatabasePlace(url=None, data_dir=tmp_path), story)


def test_what_comes_while_the_store_runs_is_written_at_once_and_a_failure_is_tried_again(
    database_place: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman.policy.state_store.REST_SECONDS", 0.01)

    async def story(database: Database) -> None:
        one = Worker(database)
        running = asyncio.create_task(one.store.run())
        async with database.write() as connection:
            await connection.execute(text("ALTER TABLE opaque_states RENAME TO away"))
        one.keep()
        await until(lambda: one.store.writes["failed"], "failure")
        assert one.store.queued == 1
        async with database.write() as connection:
            await connection.execute(text("ALTER TABLE away RENAME TO opaque_states"))
        await until(lambda: one.store.writes["written"] == 1, "second attempt")
        assert one.store.queued == 0
        one.store.stop()
        await running

    within(database_place, story)
