"""What becomes of a window in Redis when Redis' clock is set, and how long a window is kept there."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from driven_clock import DrivenClock
from pointsman.accounting.leases import LeaseAnswer, LeaseQuestion
from pointsman.accounting.redis_store import PREFIX, RedisStore
from pointsman.accounting.windows import SLOTS
from pointsman.keyring import Secret

LIMIT = 10
SLOT_US = 1_000_000


class Window:
    """A minute's limit in Redis, by a clock that may be set."""

    def __init__(self, redis_url: str) -> None:
        self.clock = DrivenClock()
        self.name = uuid.uuid4().hex
        self.store = RedisStore(Secret(redis_url), self.clock.now_us)
        self.redis = Redis.from_url(redis_url)

    async def ask(self, need: int, returned: tuple[tuple[int, int], ...] = ()) -> LeaseAnswer:
        """Ask for what is needed and no more."""
        question = LeaseQuestion(limit=LIMIT, need=need, portion=0, slot_us=SLOT_US, owed=0, returned=returned)
        return await self.store.grant(self.name, question)

    async def life_ms(self) -> int:
        """How long Redis keeps it from now on."""
        return int(await self.redis.pttl(PREFIX + self.name))


def tell(redis_url: str, story: Callable[[Window], Awaitable[None]]) -> None:
    """Tell a story of a window."""

    async def run() -> None:
        window = Window(redis_url)
        try:
            await story(window)
        finally:
            await window.store.leave()
            await window.redis.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("back_seconds", [5, 59, 61, 3600])
def test_when_the_clock_is_set_back_what_was_used_counts_from_then_on_for_a_window(
    redis_url: str, back_seconds: int
) -> None:
    async def story(window: Window) -> None:
        for _ in range(2):
            assert (await window.ask(2)).granted == 2
            window.clock.advance(1)
        window.clock.jump(-back_seconds)
        assert (await window.ask(7)).granted == 0
        assert (await window.ask(6)).granted == 6
        wait_us = (await window.ask(1)).wait_us
        assert SLOTS * SLOT_US <= wait_us <= (SLOTS + 1) * SLOT_US
        window.clock.us += wait_us - 1
        assert (await window.ask(1)).granted == 0
        window.clock.us += 1
        assert (await window.ask(LIMIT)).granted == LIMIT

    tell(redis_url, story)


def test_a_clock_that_is_set_back_a_little_stands_still_until_it_has_caught_up(redis_url: str) -> None:
    async def story(window: Window) -> None:
        slot = (await window.ask(4)).slot
        window.clock.jump(-2)
        assert (await window.ask(1)).slot == slot
        assert (await window.ask(0, ((slot, 5),))).remaining == LIMIT
        window.clock.advance(3)
        assert (await window.ask(1)).slot == slot + 1

    tell(redis_url, story)


def test_a_refusal_does_not_make_redis_keep_a_window_longer(redis_url: str) -> None:
    async def story(window: Window) -> None:
        await window.ask(8)
        assert await window.life_ms() > SLOTS * 1000
        await window.redis.pexpire(PREFIX + window.name, 30_000)
        assert (await window.ask(3)).granted == 0
        assert await window.life_ms() <= 30_000
        assert (await window.ask(2)).granted == 2
        assert await window.life_ms() > SLOTS * 1000

    tell(redis_url, story)
