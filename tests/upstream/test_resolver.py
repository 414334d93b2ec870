"""Names: looked up once for many, used while they are refreshed, bounded, and forgotten when they mislead."""

import asyncio

import pytest

from pointsman.clock import SystemClock
from pointsman.errors import GatewayError
from pointsman.settings import UpstreamSettings
from pointsman.ticker import Ticker
from pointsman.upstream import resolver as resolver_module
from pointsman.upstream.resolver import STALE_SECONDS, Resolver
from upstream_peers import Names, run, until


class Place:
    """A resolver with a clock that the test moves."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        loop = asyncio.get_running_loop()
        self.names = Names(table)
        loop.getaddrinfo = self.names.getaddrinfo  # type: ignore[method-assign, assignment]
        self.ticker = Ticker(loop, SystemClock())  # never started
        self.resolver = Resolver(loop, UpstreamSettings(dns_ttl_seconds=30, dns_negative_ttl_seconds=2), self.ticker)

    async def ask(self, host: str = "a.example") -> list[object]:
        """The addresses of a name; none when it can't be resolved."""
        try:
            resolved = await self.resolver.resolve(host, 80)
        except GatewayError:
            return []
        return [one.address[0] for one in resolved.addresses]


def test_a_name_is_looked_up_once_for_everyone_who_asks_meanwhile_and_later() -> None:
    async def main() -> None:
        place = Place({"a.example": ["1.1.1.1", "2606:4700::1"]})
        assert await asyncio.gather(*(place.ask() for _ in range(20))) == [["1.1.1.1", "2606:4700::1"]] * 20
        assert await place.ask() == ["1.1.1.1", "2606:4700::1"]
        assert place.names.lookups == 1

    run(main())


def test_nobody_waits_for_the_refreshing_of_a_known_name() -> None:
    async def main() -> None:
        place = Place({"a.example": ["1.1.1.1"]})
        await place.ask()
        place.names.table["a.example"] = ["1.1.1.2"]
        place.names.free.clear()
        place.ticker.now += 31
        for _ in range(5):
            assert await place.ask() == ["1.1.1.1"]
        await until(lambda: place.names.lookups == 2, "one look-up in the background")
        place.names.free.set()
        await until(lambda: not place.resolver._lookups, "end of it")
        assert await place.ask() == ["1.1.1.2"]
        assert place.names.lookups == 2

    run(main())


def test_a_resolver_that_fails_takes_nothing_away_until_the_answer_is_too_old() -> None:
    async def main() -> None:
        place = Place({"a.example": ["1.1.1.1"]})
        await place.ask()
        place.names.table.clear()
        for _ in range(3):
            place.ticker.now += 31
            assert await place.ask() == ["1.1.1.1"]
            await until(lambda: not place.resolver._lookups, "end of the look-up")
        place.ticker.now += STALE_SECONDS
        assert await place.ask() == []
        place.names.table["a.example"] = ["1.1.1.3"]
        place.ticker.now += 3
        assert await place.ask() == ["1.1.1.3"]

    run(main())


def test_a_name_that_does_not_exist_is_not_asked_for_again_at_once() -> None:
    async def main() -> None:
        place = Place({})
        assert [await place.ask() for _ in range(5)] == [[]] * 5
        assert place.names.lookups == 1
        place.names.table["a.example"] = ["1.1.1.1"]
        place.ticker.now += 2.1
        assert await place.ask() == ["1.1.1.1"]

    run(main())


def test_a_forgotten_name_is_looked_up_anew() -> None:
    async def main() -> None:
        place = Place({"a.example": ["1.1.1.1"]})
        await place.ask()
        place.resolver.forget("a.example", 80)
        await place.ask()
        assert place.names.lookups == 2

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2606:4700::1"])
def test_an_address_needs_no_lookup(host: str) -> None:
    async def main() -> None:
        place = Place({})
        assert await place.ask(host) == [host]
        assert place.names.lookups == 0

    run(main())


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "MAX_NAMES", 3)

    async def main() -> None:
        place = Place({f"{n}.example": ["1.1.1.1"] for n in range(9)})
        for n in range(9):
            await place.ask(f"{n}.example")
        assert len(place.resolver._known) == 3
        await place.ask("8.example")
        assert place.names.lookups == 9

    run(main())


def test_a_name_that_was_looked_up_anew_outlives_older_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "MAX_NAMES", 2)

    async def main() -> None:
        place = Place({f"{n}.example": ["1.1.1.1"] for n in range(3)})
        await place.ask("0.example")
        await place.ask("1.example")
        place.ticker.now += 31
        await place.ask("0.example")
        await until(lambda: not place.resolver._lookups, "end of the look-up")
        await place.ask("2.example")
        assert [host for host, _ in place.resolver._known] == ["0.example", "2.example"]

    run(main())


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..example", "a\0b", "\ud800"])
def test_a_name_that_cannot_be_written_is_one_that_does_not_exist(host: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolver = Resolver(loop, UpstreamSettings(), Ticker(loop, SystemClock()))
        with pytest.raises(GatewayError, match="can't be resolved"):
            await resolver.resolve(host, 80)

    run(main())


def test_one_who_gives_up_does_not_end_the_lookup_of_others() -> None:
    async def main() -> None:
        place = Place({"a.example": ["1.1.1.1"]})
        place.names.free.clear()
        first = asyncio.create_task(place.ask())
        second = asyncio.create_task(place.ask())
        await until(lambda: place.names.lookups, "look-up")
        first.cancel()
        await asyncio.wait([first])
        place.names.free.set()
        assert await second == ["1.1.1.1"]
        assert place.names.lookups == 1

    run(main())
