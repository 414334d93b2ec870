"""What is added up as requests are stored equals what the requests themselves add up to."""

import asyncio
import runpy

from sqlalchemy import Table, select, text

from databases import DatabasePlace
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.windows import DAY_US
from pointsman.storage.activity import ActivityFilter, ActivityRepository, Span
from pointsman.storage.combo_days import ComboDays, combo_days
from pointsman.storage.combo_figures import ComboFigureRepository
from pointsman.storage.database import Database
from pointsman.storage.migration import SCRIPTS
from pointsman.storage.model_usage import ModelUsageRepository
from pointsman.storage.requests import RequestRepository
from pointsman.storage.usage_sums import UsageSums, key_usage_days, model_totals, usage_days, workspace_days

TABLES = (usage_days, key_usage_days, model_totals, workspace_days, combo_days)
RECORDS = [
    RequestRecord(
        request_id=f"r{number:03d}", created_at=DAY_US * (number % 5) + number, operation="chat",
        route="shadow" if number == 9 else "/v1/chat/completions", dialect="d", workspace_id="w" if number % 3 else "v",
        account_id="a", key_id=f"k{number % 2}", connection_id=None if number % 7 == 3 else "c", provider="p",
        request_model=f"m{number % 4}", response_model="long " * 100 if number == 8 else f"m{number % 4}",
        target=None if number % 4 else f"c/m{number % 4}", input_tokens=number, output_tokens=2,
        cost_nano_usd=None if number == 5 else 100 + number, byok=number % 6 == 0, upstream_cost_nano_usd=number,
        outcome=Outcome.SUCCESS if number % 10 else Outcome.ERROR, status=200 if number % 10 else 502,
        combo=f"combo {number % 2}" if number % 4 else None, duration_us=number * 10,
        attempts='[["c/m7","upstream",503,70],["c/m1","timeout",null,9]]' if number % 6 == 1 else None,
    )
    for number in range(60)
]  # fmt: skip


async def stored(database: Database) -> None:
    """All records, in two batches, the second of which repeats some of the first."""
    requests, sums, combos = RequestRepository(database), UsageSums(database), ComboDays(database)
    for batch in (RECORDS[:40], RECORDS[30:]):
        async with database.write() as connection:
            new = await requests.insert_many(connection, batch)
            await sums.add(connection, new.records)
            await combos.add(connection, new.records)


async def rows(database: Database, table: Table) -> set[tuple[object, ...]]:
    """All of a table."""
    async with database.read() as connection:
        return {tuple(row) for row in await connection.execute(select(table))}


def test_what_is_added_up_is_what_the_upgrade_finds(database_place: DatabasePlace) -> None:
    script = runpy.run_path(str(SCRIPTS / "versions" / "0029_scale.py"))

    async def run() -> None:
        database = database_place.open()
        try:
            await stored(database)
            added = [await rows(database, table) for table in TABLES]
            assert all(added)
            async with database.write() as connection:
                for table, statement in zip(TABLES, script["sums"](), strict=True):
                    await connection.execute(table.delete())
                    await connection.execute(text(statement))
                await connection.run_sync(script["add_failed_attempts"])
            assert [await rows(database, table) for table in TABLES] == added
            assert sum(row[-1] for row in added[3]) == len(RECORDS)  # type: ignore[misc]
        finally:
            await database.aclose()

    asyncio.run(run())


def test_activity_of_the_account_is_that_of_its_keys_together(database_place: DatabasePlace) -> None:
    async def run() -> None:
        database = database_place.open()
        try:
            await stored(database)
            activity, span = ActivityRepository(database), Span(DAY_US, DAY_US * 4)
            whole = await activity.sums(ActivityFilter(account_id="a"), span)
            parts = [
                await activity.sums(ActivityFilter(account_id="a", key_id=f"k{number}"), span) for number in (0, 1)
            ]
            for name in ("requests", "charged", "byok", "input_tokens"):
                assert sum(getattr(row, name) for row in whole) == sum(
                    getattr(row, name) for part in parts for row in part
                )
            assert {row.day for row in whole} == {DAY_US, DAY_US * 2, DAY_US * 3}
            assert len(await ModelUsageRepository(database).by_model("a")) == 5
        finally:
            await database.aclose()

    asyncio.run(run())


def test_a_page_far_behind_holds_what_counting_every_row_would_give(
    database_place: DatabasePlace,
) -> None:
    async def run() -> None:
        from pointsman.storage import requests as module

        database = database_place.open()
        try:
            await stored(database)
            requests = RequestRepository(database)
            expected = sorted(
                (record.created_at, record.request_id) for record in RECORDS if record.workspace_id == "w"
            )[::-1]
            for read_over in (0, 10_000):
                module._READ_OVER = read_over  # type: ignore[misc]
                for offset in (0, 1, 7, 12, 25, 39, 40, 100):
                    page = await requests.list_page("w", 5, offset)
                    found = [(record.created_at, record.request_id) for record in page]
                    assert found == expected[offset : offset + 5]
        finally:
            module._READ_OVER = 500  # type: ignore[misc]
            await database.aclose()

    asyncio.run(run())


def test_figures_of_combos_are_those_of_their_requests_since_the_last_reset(database_place: DatabasePlace) -> None:
    async def run() -> None:
        database = database_place.open()
        try:
            await stored(database)
            figures = ComboFigureRepository(database)
            since = DAY_US * 3
            wanted = [record for record in RECORDS if record.combo is not None and record.created_at >= since]
            found = await figures.sums(None, since)
            assert sum(one.requests for one in found) == len(wanted)
            assert sum(one.duration for one in found) == sum(record.duration_us for record in wanted)
            assert sum(one.successes for one in found) == sum(record.status == 200 for record in wanted)
            tried = sum(record.attempts is not None for record in wanted)
            (broken,) = [one for one in found if one.target == "c/m7" and one.combo == "combo 1"]
            assert (broken.failures, broken.failed_duration, broken.failed_status) == (tried, 70 * tried, 503)
            only = await figures.sums("combo 1", since)
            assert set(only) == {one for one in found if one.combo == "combo 1"}
            await figures.reset("combo 1", DAY_US * 6)
            assert {one.combo for one in await figures.sums(None, 0)} == {"combo 0"}
            late = [counted("late", DAY_US * 6), counted("new", DAY_US * 6 + 1)]  # the first is from before
            async with database.write() as connection:
                await ComboDays(database).add(connection, late)
            assert [one.last_at for one in await figures.sums("combo 1", 0)] == [DAY_US * 6 + 1]
            await figures.reset(None, DAY_US * 7)
            assert await figures.sums(None, 0) == ()
        finally:
            await database.aclose()

    asyncio.run(run())


def counted(name: str, at: int) -> RequestRecord:
    """A request of a combo."""
    return RequestRecord(request_id=name, created_at=at, operation="chat", route="", dialect="d", combo="combo 1")


def test_days_of_combos_that_nobody_asks_for_are_forgotten(database_place: DatabasePlace) -> None:
    async def run() -> None:
        database = database_place.open()
        try:
            combos = ComboDays(database)
            async with database.write() as connection:
                await combos.add(connection, [counted("old", 1), counted("new", DAY_US + 1)])
            await combos.forget(DAY_US * 31 + 5)
            assert [row[1] for row in await rows(database, combo_days)] == [DAY_US]
        finally:
            await database.aclose()

    asyncio.run(run())
