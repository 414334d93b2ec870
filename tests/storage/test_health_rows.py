"""States of health on both databases: who is later wins, and everybody hears of it."""

import asyncio
from collections.abc import Awaitable, Callable

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.errors import GatewayError, Kind
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.resilience import ResilienceService
from pointsman.resilience import ResilienceSettings
from pointsman.routing.failures import classify
from pointsman.routing.health import HealthBook
from pointsman.routing.targets import Connection, target_of
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.database import Database
from pointsman.storage.health import HealthRepository, HealthRow

ONE = target_of(Connection(id="one", kind="openai"), "m")
LIMITED = classify(GatewayError(Kind.RATE_LIMITED, "").of(429, {}, b""))


def within(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` with an open database."""

    async def run() -> None:
        database = place.open()
        try:
            await story(database)
        finally:
            await database.aclose()

    asyncio.run(run())


def row(name: str, at: int, document: str = "{}") -> HealthRow:
    """A change."""
    return HealthRow(scope="connection", name=name, document=document, changed_at=at, writer="a")


def test_the_later_change_stays_whoever_writes_last(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        rows = HealthRepository(database)
        assert await rows.revision() == 0
        assert await rows.put([row("one", 10, "late"), row("two", 10)], 0) == 1
        await rows.put([row("one", 5, "early")], 0)
        revision, found = await rows.since(0)
        assert revision == 2
        assert {one.name: one.document for one in found} == {"one": "late", "two": "{}"}
        assert (await rows.since(revision))[1] == []
        await rows.put([row("two", 20, "")], 15)
        await rows.put([row("three", 40)], 30)
        assert {one.name for one in (await rows.since(0))[1]} == {"one", "three"}

    within(database_place, story)


def test_two_processes_hear_of_each_other(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        clock, rows = DrivenClock(), HealthRepository(database)
        books = [HealthBook(), HealthBook()]
        ends = [HealthSharing(rows, book, clock, name) for book, name in zip(books, "ab", strict=True)]
        books[0].failed(ONE, LIMITED, clock.now_us(), 60.0)
        for end in ends:
            await end.step()
        found = books[1].condition(ONE, clock.now_us())
        assert found is not None
        assert not found.usable
        clock.advance(61)
        books[1].succeeded(ONE, clock.now_us())
        for end in reversed(ends):
            await end.step()
        assert books[0].quiet
        later = HealthBook()
        await HealthSharing(rows, later, clock, "c").load()
        assert later.quiet

    within(database_place, story)


def test_settings_that_were_changed_lie_over_those_of_the_file(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        service = ResilienceService(HealthRepository(database), ResilienceSettings(longest_hint_ms=5))
        before = await ConfigurationRepository(database).revision()
        revision = await service.patch({"probes": {"enabled": False}})
        await service.patch({"probes": {"interval_ms": 600}})
        await service.protect("one", enabled=False)
        assert revision == before + 1
        found = await service.current()
        probes = found.settings.probes
        assert (probes.enabled, probes.interval_ms, found.settings.longest_hint_ms) == (False, 600, 5)
        assert found.protection == {"one": False}

    within(database_place, story)
