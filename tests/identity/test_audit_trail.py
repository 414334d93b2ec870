"""The audit log: one chain for all processes, which tells of every row that was changed, removed or moved."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.canonical.audit import Entry, digest_input, field_names, row_hash
from pointsman.identity.audit_check import AuditReport, check_log
from pointsman.identity.audit_trail import HEAD_FILE, STRANGERS_PER_MINUTE, AuditTrail
from pointsman.keyring import MasterKey
from pointsman.storage.audit import EVERYTHING, AuditFilter, AuditRepository
from pointsman.storage.database import Database, StorageError

MASTER = MasterKey(b"k" * 32)
Test = Callable[[AuditTrail, Database], Awaitable[None]]


def entry(number: int = 1, **fields: object) -> Entry:
    values = {"at": number, "source": "api", "action": "apikey.created", "outcome": "success", "status": 200}
    return Entry(**{**values, "object_id": f"key_{number}", **fields})  # type: ignore[arg-type]


def with_log(place: DatabasePlace, test: Test, master: MasterKey = MASTER) -> None:
    """Run a test with an open log."""

    async def run() -> None:
        database = place.open()
        try:
            await test(AuditTrail(AuditRepository(database), master, DrivenClock(), place.data_dir), database)
        finally:
            await database.aclose()

    asyncio.run(run())


async def tamper(database: Database, *statements: str) -> None:
    """What somebody does who may do everything to the database."""
    tables = ("audit", "audit_head")
    async with database.write() as connection:
        if database.kind == "sqlite":
            for name in ("audit_no_update", "audit_no_delete", "audit_head_no_update", "audit_head_no_delete"):
                await connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        else:
            for table in tables:
                await connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for statement in statements:
            await connection.exec_driver_sql(statement)


def kinds(report: AuditReport) -> set[str]:
    return {one.kind for one in report.findings}


def found_after(place: DatabasePlace, *statements: str, keep_file: bool = True) -> set[str]:
    """What the check finds after ten rows were written and the statements done."""
    found: set[str] = set()

    async def test(trail: AuditTrail, database: Database) -> None:
        for number in range(1, 11):
            await trail.record(entry(number))
        assert (await check_log(trail)).is_right
        await tamper(database, *statements)
        if not keep_file:
            (place.data_dir / HEAD_FILE).unlink()
        found.update(kinds(await check_log(trail)))

    with_log(place, test)
    return found


def test_rows_are_numbered_without_gaps_and_each_holds_the_one_before(database_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        links = [await trail.record(entry(number)) for number in range(1, 5)]
        assert [link.sequence for link in links] == [1, 2, 3, 4]
        assert [link.previous for link in links[1:]] == [link.hash for link in links[:-1]]
        rows = await trail.repository.page(EVERYTHING, 10)
        assert [row.link for row in rows] == links[::-1]
        assert rows[0].entry == entry(4)
        assert (await check_log(trail)).rows == 4

    with_log(database_place, test)


def test_the_hash_alone_can_be_checked_by_whoever_has_the_rows(sqlite_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        link = await trail.record(entry())
        assert row_hash(link.sequence, link.key_id, link.previous, entry()) == link.hash
        assert row_hash(link.sequence, link.key_id, link.previous, entry(status=201)) != link.hash

    with_log(sqlite_place, test)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET action = 'x'",
        "DELETE FROM audit",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET sequence = 0",
        "UPDATE audit_head SET hash = '' WHERE id = 1",
    ],
)
def test_the_database_refuses_to_change_the_log(database_place: DatabasePlace, statement: str) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        await trail.record(entry())
        with pytest.raises(StorageError, match="append-only"):
            async with database.write() as connection:
                await connection.exec_driver_sql(statement)
        assert (await check_log(trail)).is_right

    with_log(database_place, test)


def test_an_empty_log_is_right(database_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        assert (await check_log(trail)).is_right

    with_log(database_place, test)


def test_a_changed_row_is_found(database_place: DatabasePlace) -> None:
    assert "changed" in found_after(database_place, "UPDATE audit SET object_id = 'another' WHERE sequence = 4")


def test_a_removed_row_is_found(database_place: DatabasePlace) -> None:
    assert "removed" in found_after(database_place, "DELETE FROM audit WHERE sequence = 4")


def test_a_removed_first_row_is_found(sqlite_place: DatabasePlace) -> None:
    assert "removed" in found_after(sqlite_place, "DELETE FROM audit WHERE sequence = 1", keep_file=False)


def test_rows_that_closed_the_gap_are_found(sqlite_place: DatabasePlace) -> None:
    close = "UPDATE audit SET sequence = sequence - 1 WHERE sequence > 4"
    assert {"changed", "removed"} <= found_after(sqlite_place, "DELETE FROM audit WHERE sequence = 4", close)


def test_rows_in_another_order_are_found(database_place: DatabasePlace) -> None:
    swap = [f"UPDATE audit SET sequence = {new} WHERE sequence = {old}" for old, new in ((4, 99), (5, 4), (99, 5))]
    assert "moved" in found_after(database_place, *swap)


def test_a_removed_tail_is_found_by_the_record_of_the_end(database_place: DatabasePlace) -> None:
    assert "tail" in found_after(database_place, "DELETE FROM audit WHERE sequence > 7", keep_file=False)


def test_a_removed_tail_with_the_record_set_back_is_found_by_its_seal(sqlite_place: DatabasePlace) -> None:
    back = "UPDATE audit_head SET sequence = 7, hash = (SELECT hash FROM audit WHERE sequence = 7)"
    assert "head" in found_after(sqlite_place, "DELETE FROM audit WHERE sequence > 7", back, keep_file=False)


def test_a_whole_older_log_is_found_by_what_the_data_directory_knows(database_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        for number in range(1, 8):
            await trail.record(entry(number))
        head = await trail.repository.head()
        for number in range(8, 11):
            await trail.record(entry(number))
        back = f"UPDATE audit_head SET sequence = 7, key_id = '{head.key_id}'"
        await tamper(database, "DELETE FROM audit WHERE sequence > 7", back)
        async with database.write() as connection:
            values = {"hash": head.hash, "seal": head.seal}
            await connection.execute(text("UPDATE audit_head SET hash = :hash, seal = :seal"), values)
        assert kinds(await check_log(trail)) == {"tail"}

    with_log(database_place, test)


def test_rows_that_somebody_else_made_are_found_by_their_seal(sqlite_place: DatabasePlace) -> None:
    other = MasterKey(b"o" * 32)
    other.adopt({MASTER.id: b"o" * 32}, MASTER.id, {})  # says that it is ours

    async def test(trail: AuditTrail, database: Database) -> None:
        await trail.record(entry(1))
        forger = AuditTrail(trail.repository, other, DrivenClock(), sqlite_place.data_dir)
        await forger.record(entry(2))
        assert kinds(await check_log(trail)) == {"seal", "head"}

    with_log(sqlite_place, test)


WRITER = """
import asyncio, pathlib, sys
from pointsman.canonical.audit import Entry
from pointsman.clock import SystemClock
from pointsman.identity.audit_trail import AuditTrail
from pointsman.keyring import MasterKey
from pointsman.storage.audit import AuditRepository
from pointsman.storage.database import Database

async def run(url, folder, name):
    database = Database.open(url or None, pathlib.Path(folder))
    trail = AuditTrail(AuditRepository(database), MasterKey(b"k" * 32), SystemClock(), pathlib.Path(folder))
    print("ready", flush=True)
    sys.stdin.readline()
    async def one(number):
        await trail.record(Entry(at=number, source="cli", action=name, outcome="success", status=0))
    for _ in range(5):
        await asyncio.gather(*(one(number) for number in range(8)))
    await database.aclose()

asyncio.run(run(*sys.argv[1:]))
"""


def test_two_processes_append_to_one_chain_at_the_same_time(database_place: DatabasePlace) -> None:
    place = (database_place.url or "", str(database_place.data_dir))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, *place, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0

    async def test(trail: AuditTrail, database: Database) -> None:
        report = await check_log(trail)
        assert (report.rows, report.findings) == (80, ())
        assert (await trail.repository.head()).sequence == 80
        known = trail.known_end()
        assert known is not None
        assert known.sequence == 80

    with_log(database_place, test)


def test_rows_are_found_by_what_is_asked_for_and_paged(database_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        await trail.record(entry(1, user_id="usr_1"))
        await trail.record(entry(2, action="combo.created", outcome="refused"))
        await trail.record(entry(3, credential_id="usr_1", action="apikey.revoked", object_id="key_1"))

        async def numbers(limit: int = 10, before: int | None = None, **wanted: object) -> list[int]:
            asked = AuditFilter(**wanted)  # type: ignore[arg-type]
            return [row.link.sequence for row in await trail.repository.page(asked, limit, before)]

        assert await numbers() == [3, 2, 1]
        assert await numbers(limit=1, before=3) == [2]
        assert await numbers(action="apikey.*") == [3, 1]
        assert await numbers(action="apikey.%") == []
        assert await numbers(actor="usr_1") == [3, 1]
        assert await numbers(objects=("key_1",)) == [3, 1]
        assert await numbers(outcome="refused") == [2]
        assert await numbers(since=2, until=3) == [2]
        assert await numbers(beginnings=("combo.", "apikey.r")) == [3, 2]
        assert await trail.repository.count(AuditFilter(action="apikey.*")) == 2

    with_log(database_place, test)


def test_of_strangers_in_a_crowd_the_number_is_kept(sqlite_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        for number in range(STRANGERS_PER_MINUTE + 40):
            await trail.note_unchanged(entry(number, outcome="refused", status=401))
        await trail.note_unchanged(entry(1, outcome="refused", status=403, credential_id="key_1"))
        await trail.aclose()
        rows = await trail.repository.page(EVERYTHING, 1000)
        assert len(rows) == STRANGERS_PER_MINUTE + 2
        assert rows[1].entry.credential_id == "key_1"
        assert (rows[0].entry.action, rows[0].entry.count) == ("audit.suppressed", 40)
        assert (await check_log(trail)).is_right

    with_log(sqlite_place, test)


def test_a_row_that_can_not_be_written_is_counted_and_harms_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database.open(None, tmp_path)  # without tables
        trail = AuditTrail(AuditRepository(database), MASTER, DrivenClock(), tmp_path)
        await trail.note(entry())
        assert trail.rows == {"written": 0, "failed": 1}
        await database.aclose()

    asyncio.run(run())


def test_what_may_be_secret_is_in_no_digest_and_no_list_of_fields() -> None:
    body = {"label": "a", "apiKey": "sk-1", "nested": {"password": "p", "limit": 3}, "sk-or-v1-0123": 1, "x9": 2}
    other = msgspec.convert({**body, "apiKey": "sk-2", "nested": {"password": "q", "limit": 3}}, dict)
    assert digest_input(body) == digest_input(other)
    assert digest_input(body) != digest_input({**body, "nested": {"password": "p", "limit": 4}})
    assert b"sk-1" not in digest_input(body)
    assert field_names(body) == ("apiKey", "label", "nested")


def test_a_callers_word_that_named_nothing_stands_as_a_mark(sqlite_place: DatabasePlace) -> None:
    async def test(trail: AuditTrail, database: Database) -> None:
        assert trail.object_name("main", known=True) == "main"
        marked = trail.object_name("canary", known=False)
        assert (marked[0], "canary" in marked) == ("~", False)
        assert marked in trail.object_names("canary")
        assert trail.object_name("sk-pm-abcdefgh", known=True).startswith("~")
        assert trail.object_name("with blanks", known=True).startswith("~")

    with_log(sqlite_place, test)
