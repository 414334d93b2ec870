"""Connections to Redis for questions that must not wait long: a bounded number, opened behind the questions."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis

MOST_CONNECTIONS: Final = 32  # of a process; a question that finds all in use waits for its turn


class RedisConnections:
    """Clients of one connection each, which ``connect`` makes. It outlives a question that waits for it in vain."""

    def __init__(self, connect: Callable[[], Coroutine[None, None, Redis]]) -> None:
        self._connect = connect
        self._number = 0  # that are open, or being opened
        self._free: list[Redis] = []
        self._waiting: deque[asyncio.Future[Redis]] = deque()
        self._opening: set[asyncio.Task[Redis]] = set()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Redis]:
        """A connection for a question, the first that is free; closed if that fails. Raises what ``connect`` raises."""
        connection = self._free.pop() if self._free else await self._next()
        try:
            yield connection
        except BaseException:
            self._number -= 1
            if self._waiting:
                self._open()
            await connection.aclose()
            raise
        self._release(connection)

    async def aclose(self) -> None:
        """Close those that are free, and open no more."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        while self._free:
            await self._free.pop().aclose()

    async def _next(self) -> Redis:
        if self._number < MOST_CONNECTIONS:
            self._open()
        waiting: asyncio.Future[Redis] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._release(waiting.result())  # it came in the same moment
            raise

    def _release(self, connection: Redis) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return
        self._free.append(connection)

    def _open(self) -> None:
        self._number += 1
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[Redis]) -> None:
        self._opening.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._release(task.result())
            return
        self._number -= 1
        while self._waiting and not self._number:  # else there is another connection to wait for
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(error)
