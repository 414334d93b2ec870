"""Work that a process does beside requests, until it ends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from pointsman.clock import rest

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
log = structlog.get_logger("pointsman.background")

Work = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """Tasks that outlive what they don't expect: whatever fails is logged, and begins anew after a growing pause.

    Those that may hold a transaction are patient: they are asked to end by other means, and waited for; the others are
    cancelled.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._patient: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    def spawn(self, name: str, work: Work) -> None:
        """Begin work that may be cancelled at any place; it is over when it returns."""
        self._begin(self._tasks, name, work)

    def spawn_patient(self, name: str, work: Work) -> None:
        """Begin work that ends by itself when it is told to."""
        self._begin(self._patient, name, work)

    async def aclose(self) -> None:
        """Wait for the patient ones, cancel the others."""
        self._closing.set()
        await asyncio.gather(*self._patient)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, tasks: set[asyncio.Task[None]], name: str, work: Work) -> None:
        task = asyncio.get_running_loop().create_task(self._keep_up(name, work), name=name)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _keep_up(self, name: str, work: Work) -> None:
        pause, now = FIRST_PAUSE_SECONDS, asyncio.get_running_loop().time
        while True:
            begun = now()
            closing = self._closing.is_set()  # then this is the last time, for what is left to be done at the end
            try:
                return await work()
            except Exception:
                log.exception("background work failed", work=name)
            if closing:
                return
            if now() - begun > LONGEST_PAUSE_SECONDS:  # it went well for a while
                pause = FIRST_PAUSE_SECONDS
            await rest(self._closing, pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
