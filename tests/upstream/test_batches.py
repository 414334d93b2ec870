"""The embedder's queue: order, fairness, bounds and cancellation, with a model that adds numbers."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.upstream.batches import BATCH_TEXTS, BATCH_TOKENS, Batches, QueueFull


class Model:
    """Gives the sum of each text's tokens. Holds every batch back while ``gate`` is closed."""

    def __init__(self) -> None:
        self.batches: list[list[Sequence[int]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def work(self, texts: Sequence[Sequence[int]]) -> list[int]:
        self.batches.append(list(texts))
        assert self.gate.wait(5)
        return [sum(text) for text in texts]


async def until(found: Any) -> None:
    async with asyncio.timeout(5):
        while not found():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0)


@given(st.lists(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=20), min_size=1, max_size=40), max_size=6))
def test_every_caller_gets_its_own_rows_in_order(requests: list[list[list[int]]]) -> None:
    model = Model()

    async def run() -> list[list[Any]]:
        batches = Batches(model.work)
        try:
            return await asyncio.gather(*(batches.embed(texts) for texts in requests))
        finally:
            await batches.aclose()

    assert asyncio.run(run()) == [[sum(text) for text in texts] for texts in requests]
    for batch in model.batches:
        assert len(batch) <= BATCH_TEXTS
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= BATCH_TOKENS


def test_one_text_does_not_wait_for_a_thousand_of_another_caller() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> int:
        batches = Batches(model.work)
        many = asyncio.create_task(batches.embed([[1]] * 1000))
        await until(lambda: model.batches)
        one = asyncio.create_task(batches.embed([[7]]))
        await until(lambda: batches.waiting > 1000 - BATCH_TEXTS)
        model.gate.set()
        assert await one == [7]
        done = len(model.batches)
        assert len(await many) == 1000
        await batches.aclose()
        return done

    assert asyncio.run(run()) <= 3


def test_too_many_waiting_texts_are_refused_but_a_first_large_request_is_taken() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> None:
        batches = Batches(model.work, most_waiting=50)
        large = asyncio.create_task(batches.embed([[1]] * 100))
        await until(lambda: model.batches)
        with pytest.raises(QueueFull):
            await batches.embed([[2]])
        model.gate.set()
        assert len(await large) == 100
        assert await batches.embed([[2]]) == [2]
        await batches.aclose()

    asyncio.run(run())


def test_a_cancelled_caller_leaves_no_work_behind() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> None:
        batches = Batches(model.work)
        many = asyncio.create_task(batches.embed([[1]] * 1000))
        await until(lambda: model.batches)
        many.cancel()
        await asyncio.wait({many})
        assert batches.waiting == 0
        model.gate.set()
        assert await batches.embed([[3]]) == [3]
        await batches.aclose()

    asyncio.run(run())
    assert sum(map(len, model.batches)) <= BATCH_TEXTS + 1


def test_a_failing_batch_is_told_to_its_callers_and_the_next_goes_on() -> None:
    calls: list[int] = []

    def work(texts: Sequence[Sequence[int]]) -> list[int]:
        calls.append(len(texts))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return [0] * len(texts)

    async def run() -> None:
        batches = Batches(work)
        with pytest.raises(RuntimeError, match="out of memory"):
            await batches.embed([[1]])
        assert await batches.embed([[1]]) == [0]
        await batches.aclose()

    asyncio.run(run())


def test_no_texts_are_no_work() -> None:
    async def run() -> list[Any]:
        return await Batches(Model().work).embed([])

    assert asyncio.run(run()) == []
