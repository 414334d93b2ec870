"""Work that a process does beside requests, until it ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger("pointsman.background")


class Background:
    """Tasks whose failure is logged. Those that may hold a transaction are patient: they are asked to end by other
    means, and waited for; the others are cancelled.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._patient: set[asyncio.Task[None]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin work that may be cancelled at any place."""
        self._begin(self._tasks, name, work)

    def spawn_patient(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin work that ends by itself when it is told to."""
        self._begin(self._patient, name, work)

    async def aclose(self) -> None:
        """Wait for the patient ones, cancel the others."""
        await asyncio.gather(*self._patient)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    def _begin(tasks: set[asyncio.Task[None]], name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_told(name, work), name=name)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _told(name: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("background work ended", work=name)
