"""SQLite connections that leave no transaction behind when whoever works with them is cancelled.

SQLAlchemy closes the connection of a cancelled caller. But a statement runs in the connection's thread, can't be taken
back, and may still be under way; and SQLite keeps a closed connection, with its transaction and the lock that shuts
every other writer out, until each of its statements is gone: here until the garbage collector finds their cursors.
"""

import asyncio
import sqlite3
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


def connect(database: str, **options: Any) -> FinishingConnection:
    """A connection that is not open yet, for SQLAlchemy's ``async_creator_fn``. ``options`` are sqlite3's."""
    connection = FinishingConnection(lambda: sqlite3.connect(database, **options), 64)
    connection._thread.daemon = True  # as SQLAlchemy has it: a thread at work does not keep the process alive
    return connection
