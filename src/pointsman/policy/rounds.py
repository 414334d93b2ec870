"""Work with the database that is done every so often until the process ends."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pointsman.clock import rest
from pointsman.storage.database import StorageError

log = structlog.get_logger("pointsman.rounds")


class Rounds:
    """One such work. That the database fails is told once, until it is well again."""

    def __init__(self, seconds: float, work: str) -> None:
        """``seconds`` between two rounds; ``work`` is its name in the log."""
        self._seconds = seconds
        self._work = work
        self._failing = False
        self._stopping = asyncio.Event()

    async def run(self, step: Callable[[], Awaitable[None]]) -> None:
        """Rest and work in turn, until `stop`; the last round is after it."""
        while not self._stopping.is_set():
            await rest(self._stopping, self._seconds)
            try:
                await step()
                self._failing = False
            except StorageError as error:
                if not self._failing:
                    log.warning("the database is not reached, will be tried again", work=self._work, reason=str(error))
                self._failing = True

    def stop(self) -> None:
        """Have one more round, then end."""
        self._stopping.set()
