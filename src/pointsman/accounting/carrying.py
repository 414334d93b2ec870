"""Work that is carried to its end though its caller goes away: a transaction left open would lock out all others."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Carrier:
    """Runs such work, and can be waited for."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of ``work``, or what it raises. A caller that is cancelled meanwhile goes, the work goes on.

        What it raises then is dropped: such a caller comes again with the same key, and hears of it.
        """
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait((task,))
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, or the loop would complain of it when nobody waits any more

    async def aclose(self) -> None:
        """Wait for what runs, however it ends."""
        if self._running:
            await asyncio.wait(self._running)
