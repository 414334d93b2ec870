"""What a server asks its database every minute leaves nothing that only the garbage collector would find."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from databases import DatabasePlace
from pointsman.storage.database import Database
from pointsman.storage.files import FileRepository
from pointsman.storage.opaque_states import StateRepository
from pointsman.storage.responses import ResponseRepository
from pointsman.storage.segments import SegmentRepository

REGULAR: dict[str, Callable[[Database], Callable[[], Awaitable[object]]]] = {
    "expired states": lambda database: partial(StateRepository(database).forget_expired, 1, 500),
    "too many states": lambda database: partial(StateRepository(database).shrink, 1, 500),
    "expired responses": lambda database: partial(ResponseRepository(database).forget_expired, 1),
    "abandoned responses": lambda database: partial(ResponseRepository(database).abandoned, 1),
    "expired files": lambda database: partial(FileRepository(database).forget_expired, 1),
    "known segments": lambda database: partial(SegmentRepository(database).load, ["one", "two"]),
    "forgotten segments": lambda database: partial(SegmentRepository(database).forget, ["one", "two"]),
}


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Nothing but reference counts frees anything."""
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("what", REGULAR)
def test_a_regular_question_leaves_no_ring(database_place: DatabasePlace, what: str) -> None:
    async def story() -> list[str]:
        database = database_place.open()
        try:
            ask = REGULAR[what](database)
            await ask()  # its statement is compiled, and kept
            gc.collect()
            gc.set_debug(gc.DEBUG_SAVEALL)
            await ask()
            gc.collect()
            return [type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("sqlalchemy.sql")]
        finally:
            await database.aclose()

    assert asyncio.run(story()) == []
