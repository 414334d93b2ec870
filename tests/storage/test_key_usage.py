"""What keys have spent, by day, week and month: counted as records are stored, on both databases."""

import asyncio
import datetime
import runpy
from typing import Any

from sqlalchemy import text

from databases import DatabasePlace
from pointsman.canonical.record import RequestRecord
from pointsman.storage.database import Database
from pointsman.storage.key_usage import KeyUsage, KeyUsageRepository, Spent
from pointsman.storage.migration import SCRIPTS
from pointsman.storage.requests import RequestRepository

DAY = 86_400_000_000
# A Wednesday, the 18th of a month.
NOW = int(datetime.datetime(2026, 11, 18, 12, tzinfo=datetime.UTC).timestamp()) * 1_000_000


def record(number: int, days: float, **more: Any) -> RequestRecord:
    """A request of so many days ago that cost 10."""
    usual: dict[str, Any] = {"key_id": "key_1", "cost_nano_usd": 10}
    return RequestRecord(
        request_id=f"r{number}", created_at=NOW - int(days * DAY), operation="chat", route="/", dialect="d",
        **{**usual, **more},
    )  # fmt: skip


RECORDS = [
    record(1, 0), record(2, 0.4), record(3, 1), record(4, 2), record(5, 3), record(6, 17), record(7, 18),
    record(8, 400), record(9, 0, byok=True, cost_nano_usd=5, upstream_cost_nano_usd=100),
    record(10, 0, cost_nano_usd=None), record(11, 0, key_id=None),
    record(12, 0, key_id="key_2", cost_nano_usd=0, upstream_cost_nano_usd=7),
]  # fmt: skip
EXPECTED = {
    "key_1": KeyUsage(
        charged=Spent(total=85, daily=25, weekly=45, monthly=65),
        byok=Spent(total=100, daily=100, weekly=100, monthly=100),
    ),
    "key_2": KeyUsage(),
}


async def stored(database: Database) -> None:
    usage, requests = KeyUsageRepository(database), RequestRepository(database)
    for some in (RECORDS[:5], RECORDS[5:], RECORDS[:3]):
        async with database.write() as connection:
            new = await requests.insert_many(connection, some)
            await usage.add(connection, new.records)


def test_sums_are_those_of_the_windows_and_a_record_counts_once(database_place: DatabasePlace) -> None:
    async def run() -> None:
        database = database_place.open()
        try:
            await stored(database)
            assert await KeyUsageRepository(database).of(["key_1", "key_2", "key_3"], NOW) == EXPECTED
        finally:
            await database.aclose()

    asyncio.run(run())


def test_the_upgrade_counts_what_was_there_before(database_place: DatabasePlace) -> None:
    script = runpy.run_path(str(SCRIPTS / "versions" / "0022_openrouter_keys.py"))

    async def run() -> None:
        database = database_place.open()
        try:
            await stored(database)
            async with database.write() as connection:
                await connection.execute(text("DELETE FROM key_days"))
                await connection.execute(text(script["_FILL"]))
            assert await KeyUsageRepository(database).of(["key_1", "key_2", "key_3"], NOW) == EXPECTED
        finally:
            await database.aclose()

    asyncio.run(run())
