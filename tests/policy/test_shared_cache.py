"""The response cache's bounds, and several processes over one database."""

import asyncio
from collections.abc import Awaitable, Callable

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.cache_settings import MAX_TTL_SECONDS, CacheSettings
from pointsman.canonical.parts import ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.clock import SystemClock
from pointsman.keyring import MasterKey
from pointsman.policy.cache_names import CacheName
from pointsman.policy.response_cache import PURPOSE, CachedAnswer, ResponseCache, cached_answer
from pointsman.policy.state_store import StateBounds, StateStore
from pointsman.storage.cache_clearings import ALL, CacheClearings
from pointsman.storage.database import Database
from pointsman.storage.opaque_states import StateRepository

MASTER = MasterKey(b"k" * 32)
PARTS = [ReasoningPart(text="hm", summary=["s"]), TextPart(text="yes")]


def name(number: int = 1, space: str = "cache/ws") -> CacheName:
    return CacheName(space=space, key=number.to_bytes(32, "big"), model="m")


def answered(text: str = "yes", made_at: int = 1, seconds: int = 60) -> CachedAnswer:
    choice = Choice(parts=[TextPart(text=text)], finish_reason=FinishReason.STOP)
    found = cached_answer(Response(wire="openai.chat", choices=[choice]), made_at, "req_1", "sim", seconds)
    assert found is not None
    return found


def said(cache: ResponseCache, number: int = 1, space: str = "cache/ws") -> str | None:
    """The text of an answer in memory."""
    return asyncio.run(text_of(cache, number, space))


async def text_of(cache: ResponseCache, number: int = 1, space: str = "cache/ws") -> str | None:
    found = await cache.find(name(number, space))
    if found is None:
        return None
    [part] = found.answer.response().choices[0].parts
    assert isinstance(part, TextPart)
    return part.text


def test_only_a_whole_answer_of_text_is_kept() -> None:
    def fits(finish: FinishReason | None, *parts: object) -> bool:
        choice = Choice(parts=list(parts), finish_reason=finish)  # type: ignore[arg-type]
        return cached_answer(Response(wire="openai.chat", choices=[choice]), 1, "r", None, 60) is not None

    assert fits(FinishReason.STOP, *PARTS)
    assert fits(FinishReason.STOP_SEQUENCE, *PARTS)
    for reason in set(FinishReason) - {FinishReason.STOP, FinishReason.STOP_SEQUENCE}:
        assert not fits(reason, *PARTS)
    assert not fits(None, *PARTS)
    assert not fits(FinishReason.STOP)
    assert not fits(FinishReason.STOP, TextPart(text=""))
    assert not fits(FinishReason.STOP, *PARTS, ToolCallPart(id="c", name="look"))
    assert cached_answer(Response(wire="openai.chat"), 1, "r", None, 60) is None


def test_an_answer_comes_back_with_all_its_parts() -> None:
    choice = Choice(parts=list(PARTS), finish_reason=FinishReason.STOP, native_finish_reason="end_turn")
    response = Response(wire="anthropic", model="m", choices=[choice], extra={"a": [1, None]})
    kept = cached_answer(response, 1, "r", None, 60)
    assert kept is not None
    assert kept.response() == response


def test_memory_is_bounded_in_bytes_and_in_time() -> None:
    clock = DrivenClock()
    cache = ResponseCache(CacheSettings(memory_bytes=4000, max_entry_bytes=2000), clock, b"s", None)
    for number in range(20):
        assert cache.keep(name(number), answered())
        assert cache.bytes <= 4000
    assert said(cache, 19) == "yes"
    assert said(cache, 0) is None
    assert cache.counts["evicted"] == 20 - len(cache) > 0
    assert not cache.keep(name(30), answered("y" * 3000))
    clock.advance(61)
    assert said(cache, 19) is None


def test_a_space_has_its_own_answers_under_the_same_key() -> None:
    cache = ResponseCache(CacheSettings(), DrivenClock(), b"s", None)
    cache.keep(name(1, "cache/one"), answered("of one"))
    assert said(cache, 1, "cache/two") is None
    assert said(cache, 1, "cache/one") == "of one"


class Process:
    """One process's cache over the shared database."""

    def __init__(self, database: Database, memory_seconds: float = 1000.0) -> None:
        bounds = StateBounds(lifetime_seconds=MAX_TTL_SECONDS, read_seconds=5.0)
        self.clock = SystemClock()
        self.store = StateStore(StateRepository(database), MASTER, self.clock, bounds, PURPOSE)
        settings = CacheSettings(memory_seconds=memory_seconds)
        self.cache = ResponseCache(settings, self.clock, self.store.names_secret, self.store)

    async def keep(self, answer: CachedAnswer) -> None:
        """Keep an answer, and have it written."""
        self.cache.keep(name(), answer)
        self.store.stop()
        await self.store.run()


def run(place: DatabasePlace, work: Callable[[Database], Awaitable[None]]) -> None:
    async def opened() -> None:
        database = Database.open(place.url, place.data_dir)
        try:
            await work(database)
        finally:
            await database.aclose()

    asyncio.run(opened())


def test_other_processes_find_an_answer_and_what_replaced_it(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        one, two, slow = Process(database), Process(database, 1e-6), Process(database)
        await one.keep(answered("first"))
        assert [await text_of(process.cache) for process in (two, slow)] == ["first", "first"]
        await Process(database).keep(answered("second"))
        assert await text_of(two.cache) == "second"
        assert await text_of(slow.cache) == "first"  # until `memory_seconds` have passed
        assert await text_of(two.cache, 1, "cache/another") is None

    run(database_place, work)


def test_an_answer_lives_as_long_as_it_was_kept_for(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        one, two = Process(database), Process(database)
        await one.keep(answered(seconds=60))
        found = await two.cache.find(name())
        assert found is not None
        assert 50 < found.seconds <= 60

    run(database_place, work)


def test_what_is_cleared_is_in_nobodys_memory(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        clearings, one, two = CacheClearings(database), Process(database), Process(database)
        await one.keep(answered(made_at=1000))
        await two.cache.find(name())
        for scope, at, gone in (("model:other", 2000, False), (ALL, 999, False), ("model:m", 1000, True)):
            await clearings.clear(scope, at, 0)
            for process in (one, two):
                process.cache.cleared = await clearings.table()
                assert (await process.cache.find(name()) is None) is gone
        await clearings.clear(ALL, 3000, 0)
        assert await clearings.table() == {ALL: 3000}
        await clearings.clear("model:m", 5000, 4000)
        assert await clearings.table() == {"model:m": 5000}
        assert await clearings.delete_answers("cache/", 10) == 1

    run(database_place, work)
