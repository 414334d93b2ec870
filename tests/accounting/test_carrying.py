"""Work goes on though whoever asked for it went away."""

import asyncio
import gc

import pytest

from pointsman.accounting.carrying import Carrier
from pointsman.storage.database import StorageError


class Held:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()
        self.done = False

    async def run(self, error: Exception | None = None) -> str:
        self.begun.set()
        await self.opened.wait()
        self.done = True
        if error is not None:
            raise error
        return "outcome"


async def left_alone(carrier: Carrier, held: Held, error: Exception | None = None) -> None:
    """Its caller is cancelled while it waits."""
    caller = asyncio.ensure_future(carrier.whole(held.run(error)))
    await held.begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_the_outcome_reaches_a_caller_who_stays() -> None:
    async def run() -> None:
        held = Held()
        held.opened.set()
        assert await Carrier().whole(held.run()) == "outcome"
        with pytest.raises(StorageError, match="full"):
            await Carrier().whole(held.run(StorageError("full")))

    asyncio.run(run())


def test_work_is_finished_though_its_caller_is_cancelled_and_closing_waits_for_it() -> None:
    async def run() -> None:
        carrier, held = Carrier(), Held()
        await left_alone(carrier, held)
        closing = asyncio.ensure_future(carrier.aclose())
        await asyncio.sleep(0)
        assert not held.done
        assert not closing.done()
        held.opened.set()
        await closing
        assert held.done

    asyncio.run(run())


def test_an_error_that_nobody_waits_for_is_not_complained_of() -> None:
    async def run() -> list[str]:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told["message"]))
        carrier, held = Carrier(), Held()
        await left_alone(carrier, held, StorageError("full"))
        held.opened.set()
        await carrier.aclose()
        gc.collect()  # an exception that nobody has seen is told of when its task is gone
        return complaints

    assert asyncio.run(run()) == []


def test_closing_does_not_raise_what_the_work_raised() -> None:
    async def run() -> None:
        carrier, held = Carrier(), Held()
        caller = asyncio.ensure_future(carrier.whole(held.run(StorageError("full"))))
        await held.begun.wait()
        held.opened.set()
        await carrier.aclose()
        with pytest.raises(StorageError, match="full"):
            await caller

    asyncio.run(run())
