"""Tests that are told as coroutines."""

import asyncio
from collections.abc import Awaitable, Callable


def tell(story: Callable[[], Awaitable[None]]) -> None:
    """Tell a story in a loop of its own, a minute at most."""

    async def run() -> None:
        async with asyncio.timeout(60):
            await story()

    asyncio.run(run())
