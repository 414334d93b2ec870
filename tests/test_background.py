"""Work beside requests goes on after what nobody expected, and ends when it is told to."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pointsman import background
from pointsman.background import Background
from steady_load import until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.001)


def failing(times: int, then: Callable[[], Awaitable[object]]) -> tuple[list[int], Callable[[], Awaitable[None]]]:
    """Work that fails so often, and goes on ``then``; with the attempts that were made."""
    attempts: list[int] = []

    async def work() -> None:
        attempts.append(len(attempts))
        if len(attempts) <= times:
            raise RuntimeError("can't start new thread")
        await then()

    return attempts, work


@pytest.mark.parametrize("kind", ["spawn", "spawn_patient"])
def test_work_that_failed_begins_anew(kind: str) -> None:
    async def story() -> None:
        done = asyncio.Event()

        async def end() -> None:
            done.set()

        attempts, work = failing(3, end)
        several = Background()
        getattr(several, kind)("storing", work)
        async with asyncio.timeout(20):
            await done.wait()
        await several.aclose()
        assert len(attempts) == 4

    asyncio.run(story())


def test_work_that_pauses_does_at_the_end_what_is_left_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 1000.0)

    async def story() -> None:
        ended: list[str] = []

        async def end() -> None:
            ended.append("the rest")

        attempts, work = failing(1, end)
        several = Background()
        several.spawn_patient("storing", work)
        await until(lambda: len(attempts) == 1, "the first attempt")
        async with asyncio.timeout(20):
            await several.aclose()
        assert ended == ["the rest"]

    asyncio.run(story())


def test_work_that_fails_at_the_end_too_keeps_nobody_waiting() -> None:
    async def story() -> None:
        attempts, work = failing(10_000, asyncio.Event().wait)
        several = Background()
        several.spawn_patient("storing", work)
        await until(lambda: len(attempts) >= 2, "two attempts")
        async with asyncio.timeout(20):
            await several.aclose()

    asyncio.run(story())


def test_work_that_may_be_cancelled_ends_in_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 1000.0)

    async def story() -> None:
        attempts, work = failing(10_000, asyncio.Event().wait)
        several = Background()
        several.spawn("looking", work)
        await until(lambda: len(attempts) == 1, "the first attempt")
        async with asyncio.timeout(20):
            await several.aclose()

    asyncio.run(story())
