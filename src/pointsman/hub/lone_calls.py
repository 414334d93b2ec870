"""Calls that go on without a client's connection, and yet get their grace and their record when the process ends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class LoneCalls:
    """The calls that are under way, each with what asks it to end."""

    def __init__(self) -> None:
        self._stops: dict[asyncio.Task[None], Callable[[], object]] = {}

    def __len__(self) -> int:
        return len(self._stops)

    def begin(self, work: Coroutine[Any, Any, None], stop: Callable[[], object] | None = None) -> asyncio.Task[None]:
        """Do ``work`` in a task. At the end of the process ``stop`` has to make it end; by default it is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._stops[task] = task.cancel if stop is None else stop
        task.add_done_callback(self._stops.__delitem__)
        return task

    async def aclose(self) -> None:
        """Stop what is under way, and wait until it has settled its records."""
        for stop in list(self._stops.values()):
            stop()
        await asyncio.gather(*self._stops, return_exceptions=True)
