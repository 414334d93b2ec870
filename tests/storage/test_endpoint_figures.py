"""Uptime, latency and throughput of endpoints, counted as the projector stores records, on both databases."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.accounting.journal import Journal
from pointsman.accounting.projector import Projector
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.errors import Kind
from pointsman.policy.route_sharing import RouteSharing
from pointsman.routing.measurements import Measurements, Sample
from pointsman.routing.sticky import StickyBook
from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.endpoint_figures import DAY, MINUTE, EndpointFigures
from pointsman.storage.requests import RequestRepository
from pointsman.storage.route_memory import RouteMemoryRepository

NOW = 1_800_000_000_000_000


def record(number: int, at: int = NOW, **members: Any) -> RequestRecord:
    """A request that was answered by ``a/m`` after half a second, with 50 tokens a second."""
    usual: dict[str, Any] = {
        "outcome": Outcome.SUCCESS, "target": "a/m", "stream": True, "duration_us": 3_000_000, "upstream_us": 2_500_000,
        "first_byte_us": 1_000_000, "output_tokens": 100,
    }  # fmt: skip
    return RequestRecord(
        request_id=f"r{number}",
        created_at=at - 3_000_000,
        operation="chat",
        route="/",
        dialect="d",
        **{**usual, **members},
    )


def within(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` with an open database."""

    async def run() -> None:
        database = place.open()
        try:
            await story(database)
        finally:
            await database.aclose()

    asyncio.run(run())


async def add(database: Database, records: list[RequestRecord], now: int = NOW) -> None:
    """As the projector does."""
    async with database.write() as connection:
        await RequestRepository(database).insert_many(connection, records)
        await EndpointFigures(database).add(connection, records, now)


def test_attempts_count_in_their_windows_and_speeds_for_half_an_hour(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        failed = {"outcome": Outcome.ERROR, "error_kind": Kind.UPSTREAM_ERROR}
        ages = (0, 2, 10, 25, 40, 600, 1430)
        await add(database, [record(n, NOW - age * MINUTE) for n, age in enumerate(ages)])
        await add(database, [record(10, NOW - MINUTE, **failed), record(11, NOW - 20 * MINUTE, **failed)])
        await add(database, [record(12, NOW - DAY - MINUTE), record(13, attempts='[["b/m","down",503,9]]')])
        counts = await EndpointFigures(database).of(["a/m", "b/m", "c/m"], NOW)
        one = counts["a/m"]
        assert (one.short, one.half_hour, one.day) == ((4, 3), (7, 5), (10, 8))
        assert (sum(one.first_token.values()), sum(one.throughput.values())) == (5, 5)
        assert (counts["b/m"].day, "c/m" in counts) == ((1, 0), False)

    within(database_place, story)


def test_old_figures_are_deleted(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        figures = EndpointFigures(database)
        await add(database, [record(1)])
        await figures.forget(NOW)
        assert (await figures.of(["a/m"], NOW))["a/m"].short == (1, 1)
        await figures.forget(NOW + 2 * DAY)
        async with database.read() as connection:
            assert (await connection.execute(tables.endpoint_figures.select())).all() == []

    within(database_place, story)


def test_a_record_that_two_projectors_carry_counts_once(database_place: DatabasePlace, tmp_path: Path) -> None:
    async def story(database: Database) -> None:
        clock = DrivenClock()
        journal = Journal(tmp_path, clock, segment_bytes=1 << 20)
        for number in range(30):
            journal.append(record(number, clock.now_us()))
        one, other = [Projector(database, tmp_path, clock, batch_rows=7, retention_days=7) for _ in range(2)]
        await one.step()
        await other.step()
        await one.drain()
        await other.drain()
        async with database.write() as connection:  # the next one begins again, in other batches
            await connection.execute(tables.journal_segments.delete())
        await Projector(database, tmp_path, clock, batch_rows=11, retention_days=7).drain()
        for number in range(30, 40):
            journal.append(record(number, clock.now_us()))
        async with database.write() as connection:
            await connection.execute(tables.journal_segments.delete())
        await Projector(database, tmp_path, clock, batch_rows=16, retention_days=7).drain()
        counts = await EndpointFigures(database).of(["a/m"], clock.now_us())
        assert counts["a/m"].half_hour == (40, 40)
        journal.close()

    within(database_place, story)


@pytest.mark.parametrize("targets", [40])
def test_figures_of_a_busy_day_are_read_fast(database_place: DatabasePlace, targets: int) -> None:
    """What is read does not grow with requests: a day of full slots is what there can be at most."""

    async def story(database: Database) -> None:
        rows = [
            {"target": f"t{t}", "measure": measure, "slot": slot, "place": 0, "count": 10_000}
            for t in range(targets)
            for measures, slots in (
                ((4, 5), range(NOW // (5 * MINUTE) - 288, NOW // (5 * MINUTE) + 1)),
                ((0, 1), range(NOW // MINUTE - 60, NOW // MINUTE + 1)),
            )
            for measure in measures
            for slot in slots
        ]
        async with database.write() as connection:
            await connection.execute(tables.endpoint_figures.insert(), rows)
        figures = EndpointFigures(database)
        best = 1.0
        for _ in range(5):
            begun = time.perf_counter()
            found = await figures.of([f"t{t}" for t in range(5)], NOW)
            best = min(best, time.perf_counter() - begun)
        assert found["t1"].day == (2_880_000, 2_880_000)
        assert best < 0.1

    within(database_place, story)


def test_processes_hear_of_each_others_figures_and_conversations(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        clock = DrivenClock()
        ends = []
        for name in ("one", "two"):
            end = RouteSharing(RouteMemoryRepository(database), clock, name)
            books = Measurements(), StickyBook()
            end.of(*books)
            await end.load()
            ends.append((end, *books))
        (one, figures, places), (two, told, told_places) = ends
        for _ in range(10):
            figures.add("a/m", Sample(at=clock.now_us(), ok=True, first_token=1.0))
            await one.step()
        places.keep("c", "a/m", clock.now_us())
        told.add("a/m", Sample(at=clock.now_us(), ok=False))
        await two.step()
        await one.step()
        await two.step()
        for book in (figures, told):
            found = book.figures("a/m", clock.now_us())
            assert (found.attempts, found.answered) == (11, 10)
        assert told_places.find("c", clock.now_us()) == "a/m"
        later = RouteSharing(RouteMemoryRepository(database), clock, "three")
        after = Measurements(), StickyBook()
        later.of(*after)
        await later.load()
        assert after[0].figures("a/m", clock.now_us()).attempts == 11
        assert after[1].find("c", clock.now_us()) == "a/m"

    within(database_place, story)
