"""SQLite connections that leave no transaction behind when whoever works with them is cancelled.

SQLAlchemy closes the connection of a cancelled caller. But a statement runs in the connection's thread, can't be taken
back, and may still be under way; and SQLite keeps a closed connection, with its transaction and the lock that shuts
every other writer out, until each of its statements is gone: here until the garbage collector finds their cursors.
"""

import asyncio
import sqlite3
from collections.abc import Generator
from typing import Any

import aiosqlite


class FinishingConnection(aiosqlite.Connection):
    """Hands a cancellation on when the statement under way has ended, and ends its transaction before it closes."""

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        work = asyncio.ensure_future(super()._execute(fn, *args, **kwargs))  # type: ignore[no-untyped-call]
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            work.exception()  # seen: nobody is there to be told
            raise cancelled
        return work.result()

    async def close(self) -> None:
        """Roll back what is open, and close."""
        if self._connection is not None and self._connection.in_transaction:
            await self.rollback()
        await super().close()


class InlineConnection(aiosqlite.Connection):
    """Works in its caller's thread, so no statement costs two handings-over and nobody else gets a turn meanwhile.

    For a process that has nothing else to do.
    """

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        return self._connect().__await__()

    async def _connect(self) -> aiosqlite.Connection:
        self._connection = self._connector()
        return self

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    async def close(self) -> None:
        """Close, and roll back what is open."""
        self.stop()

    def stop(self) -> None:
        """Close, and roll back what is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(database: str, *, inline: bool = False, **options: Any) -> aiosqlite.Connection:
    """A connection that is not open yet, for SQLAlchemy's ``async_creator_fn``. ``options`` are sqlite3's."""
    kind = InlineConnection if inline else FinishingConnection
    connection = kind(lambda: sqlite3.connect(database, **options), 64)
    connection._thread.daemon = True  # as SQLAlchemy has it: a thread at work does not keep the process alive
    return connection
