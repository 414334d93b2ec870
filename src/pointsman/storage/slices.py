"""Long work on many rows in pieces, between which others get their turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

ROWS: Final = 50  # some 0.1 ms of work

Row = TypeVar("Row")


async def in_slices(rows: Sequence[Row]) -> AsyncIterator[Sequence[Row]]:
    """``rows``, `ROWS` at a time; the event loop has a turn behind each."""
    for start in range(0, len(rows), ROWS):
        yield rows[start : start + ROWS]
        await asyncio.sleep(0)
