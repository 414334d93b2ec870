"""Calls that the gateway makes beside its clients' requests: few at a time, and none outlives the process' end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

MOST: Final = 16  # at a time; more are left out, since they wait for nobody


class SideCalls:
    """The side calls that are under way. ``counts``: how many were begun, and how many left out."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.counts: Final = {"begun": 0, "left_out": 0}

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """Begin what ``make`` gives, unless too many are under way. It has to bound its own time."""
        if self._closed or len(self._tasks) >= self._most:
            self.counts["left_out"] += 1
            return False
        task = asyncio.get_running_loop().create_task(make())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.counts["begun"] += 1
        return True

    async def aclose(self) -> None:
        """Cancel what is under way, and begin nothing more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
