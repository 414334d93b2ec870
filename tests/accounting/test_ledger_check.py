"""The check finds every kind of disagreement in the books, and nothing in books that are right."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from databases import DatabasePlace
from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger_check import CheckReport, rebuild, verify
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.accounting.projector import Projector
from pointsman.canonical.record import Exemption, RequestRecord
from pointsman.clock import SystemClock
from pointsman.storage.database import Database

CLOCK = SystemClock()
MIXED = (
    {"cost_nano_usd": 1_000, "provider": "openai"},
    {"cost_nano_usd": 0, "upstream_cost_nano_usd": 70, "exemption": Exemption.ZERO_COMPLETION},
    {"cost_nano_usd": 5, "upstream_cost_nano_usd": 100, "byok": True, "provider": "openai"},
    {"cost_nano_usd": None, "input_tokens": 5},
    {"cost_nano_usd": 30, "account_id": "acme", "connection_id": "main"},
    {"cost_nano_usd": 0},
)


def records(count: int) -> list[RequestRecord]:
    """Records of every kind."""
    return [
        RequestRecord(
            request_id=f"req_{number:05}", created_at=number, operation="chat", route="", dialect="openai", key_id="k",
            **MIXED[number % len(MIXED)],  # type: ignore[arg-type] - a row of the table
        )
        for number in range(count)
    ]  # fmt: skip


def on_books(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` on books with movements, 60 projected records and 3 that wait in the journal."""

    async def run() -> None:
        database = place.open()
        journal = Journal(place.data_dir / "journal", CLOCK, 1 << 20)
        try:
            service = LedgerService(database, CLOCK)
            await service.top_up(Movement(account_id="acme", nano_usd=9_000, key="one", source="test"))
            for record in records(63)[:60]:
                journal.append(record)
            projector = Projector(database, place.data_dir / "journal", CLOCK, batch_rows=7, retention_days=7)
            await projector.drain()
            for record in records(63)[60:]:
                journal.append(record)
            await story(database)
        finally:
            journal.close()
            await database.aclose()

    asyncio.run(run())


async def checked(database: Database, place: DatabasePlace) -> CheckReport:
    """What the check says."""
    return await verify(database, place.data_dir / "journal")


async def change(database: Database, *statements: str) -> None:
    """Do what nobody may."""
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def without_triggers(database: Database) -> None:
    """Let the ledger be falsified."""
    if database.kind == "sqlite":
        for table in ("transactions", "postings"):
            await change(database, *(f"DROP TRIGGER ledger_{table}_no_{one}" for one in ("update", "delete")))
    else:
        await change(database, "DROP FUNCTION ledger_append_only CASCADE")


def test_books_that_are_right_have_no_findings(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        seen: list[str] = []
        report = await verify(database, database_place.data_dir / "journal", lambda what, *_: seen.append(what))
        assert report.findings == ()
        assert (report.journal_records, report.waiting, report.requests, report.unpriced) == (63, 3, 60, 10)
        assert {"transactions", "postings", "requests", "usage", "journal"} <= set(seen)
        assert await rebuild(database) == 0

    on_books(database_place, story)


def test_a_wrong_balance_is_found_and_rebuilt(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        await change(
            database,
            "UPDATE ledger_balances SET balance_nano_usd = balance_nano_usd + 1 WHERE ledger_account = 'credit:acme'",
            "DELETE FROM ledger_balances WHERE ledger_account = 'usage'",
            "INSERT INTO ledger_balances VALUES ('credit:ghost', 5, 1, 1)",
        )
        found = {(one.check, one.subject) for one in (await checked(database, database_place)).findings}
        assert {name for check, name in found if check == "balance equals its postings"} == {
            "credit:acme", "usage", "credit:ghost",
        }  # fmt: skip
        assert ("all balances sum to 0", "ledger") in found
        assert await rebuild(database) == 3
        assert (await checked(database, database_place)).is_right

    on_books(database_place, story)


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        (
            "UPDATE ledger_postings SET amount_nano_usd = amount_nano_usd - 1 WHERE transaction_sequence = 2"
            " AND ledger_account = 'usage'",
            {"transaction sums to 0", "balance equals its postings", "usage equals its requests"},
        ),
        ("DELETE FROM ledger_transactions WHERE sequence = 1", {"transaction is whole"}),
        (
            "INSERT INTO ledger_transactions (idempotency_key, kind, account_id, created_at, source, note, requests)"
            " VALUES ('x', 'top_up', 'acme', 1, '', '', 0)",
            {"transaction is whole"},
        ),
        (
            "UPDATE requests SET cost_nano_usd = 31 WHERE request_id = 'req_00004'",
            {"usage equals its requests", "usage transaction equals its requests", "journal equals requests"},
        ),
        (
            "DELETE FROM requests WHERE request_id = 'req_00000'",
            {"usage equals its requests", "usage transaction equals its requests", "journal is in requests"},
        ),
        ("UPDATE requests SET account_id = 'thief' WHERE request_id = 'req_00005'", {"journal equals requests"}),
    ],
)
def test_each_kind_of_falsification_is_found(database_place: DatabasePlace, statement: str, checks: set[str]) -> None:
    async def story(database: Database) -> None:
        await without_triggers(database)
        await change(database, statement)
        report = await checked(database, database_place)
        assert {one.check for one in report.findings} == checks
        assert not report.is_right

    on_books(database_place, story)


def test_the_journal_alone_rebuilds_the_same_usage(sqlite_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        async with database.read() as connection:
            rows = (await connection.execute(text("SELECT * FROM ledger_balances"))).all()
        before = {row.ledger_account: row.balance_nano_usd for row in rows}
        await without_triggers(database)
        tables = ("ledger_postings", "ledger_transactions", "ledger_balances", "requests", "journal_segments")
        await change(database, *(f"DELETE FROM {table}" for table in tables))
        directory = sqlite_place.data_dir / "journal"
        await Projector(database, directory, CLOCK, batch_rows=60, retention_days=7).step()
        await LedgerService(database, CLOCK).top_up(
            Movement(account_id="acme", nano_usd=9_000, key="one", source="test")
        )
        async with database.read() as connection:
            rows = (await connection.execute(text("SELECT * FROM ledger_balances"))).all()
        assert {row.ledger_account: row.balance_nano_usd for row in rows} == before

    on_books(sqlite_place, story)
