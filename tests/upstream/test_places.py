"""Places at targets: how many at a time, who waits, who is refused."""

import asyncio

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.upstream.places import Bounds, Places


def test_who_waits_longest_gets_the_place_that_comes_free() -> None:
    async def story() -> None:
        places, order = Places(), []
        bounds = Bounds(1, 2, 5.0)
        first_leaves = asyncio.Event()

        async def use(name: str, until: asyncio.Event | None = None) -> None:
            async with places.at("a/model", bounds):
                order.append(name)
                if until is not None:
                    await until.wait()

        tasks = [asyncio.create_task(use("first", first_leaves))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(use(name)) for name in ("second", "third")]
        await asyncio.sleep(0)
        with pytest.raises(GatewayError) as refused:
            await use("fourth")
        assert (refused.value.kind, refused.value.retry_after_seconds) == (Kind.OVERLOADED, 1)
        async with places.at("b/model", bounds):
            first_leaves.set()
            await asyncio.gather(*tasks)
        assert order == ["first", "second", "third"]
        assert not places._targets

    asyncio.run(story())


def test_who_waits_too_long_is_refused_and_takes_no_place() -> None:
    async def story() -> None:
        places = Places()
        async with places.at("a/model", Bounds(1, 1, 5.0)):
            with pytest.raises(GatewayError, match="came free") as refused:
                async with places.at("a/model", Bounds(1, 1, 0.01)):
                    pass
            assert (refused.value.kind, refused.value.retry_after_seconds) == (Kind.OVERLOADED, 1)
        async with places.at("a/model", Bounds(1, 0, 0.01)):
            pass
        assert not places._targets

    asyncio.run(story())
