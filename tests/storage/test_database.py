"""Opening, migrating and sharing a database."""

import asyncio
import contextlib
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from databases import DatabasePlace, give_migrated_file, postgres_database
from pointsman.canonical.record import RequestRecord
from pointsman.errors import ConfigError
from pointsman.storage import tables
from pointsman.storage.aliases import AliasRepository, AliasRow
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.database import FILE_NAME, AlreadyExistsError, Database, StorageError
from pointsman.storage.keys import KeyRepository, KeyRow
from pointsman.storage.migration import HEAD, SCRIPTS
from pointsman.storage.requests import RequestRepository
from pointsman.storage.schema import metadata
from pointsman.storage.tables import requests


@contextlib.asynccontextmanager
async def opened(url: str | None, data_dir: Path) -> AsyncIterator[Database]:
    """An open database."""
    database = Database.open(url, data_dir)
    try:
        yield database
    finally:
        await database.aclose()


def refusal(url: str | None, data_dir: Path) -> str:
    """What a start with this database says."""

    async def start() -> None:
        async with opened(url, data_dir) as database:
            await database.migrate()

    with pytest.raises(ConfigError) as caught:
        asyncio.run(start())
    return str(caught.value)


def test_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_columns_of_requests_are_the_fields_of_a_record() -> None:
    assert tuple(requests.columns.keys())[1:] == tuple(
        name for name in RequestRecord.__struct_fields__ if name != "plan"
    )


def test_the_scripts_make_the_tables_of_the_program(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database, database.read() as connection:

            def differences(sync: object) -> list[object]:
                options = {"compare_type": True, "compare_server_default": True}
                return list(compare_metadata(MigrationContext.configure(sync, opts=options), metadata))

            assert await connection.run_sync(differences) == []

    asyncio.run(story())


def test_a_fresh_database_is_migrated_once_and_then_left_alone(empty_database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(empty_database_place.url, empty_database_place.data_dir) as database:
            await database.migrate()
            await AliasRepository(database).add(AliasRow(name="a", target="b", created_at=1))
        async with opened(empty_database_place.url, empty_database_place.data_dir) as database:
            await database.migrate()
            await database.migrate()
            assert await ConfigurationRepository(database).revision() == 1

    asyncio.run(story())


def test_keys_of_the_first_version_get_no_limit_and_the_usual_priority(empty_database_place: DatabasePlace) -> None:
    def to_the_first_version(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(SCRIPTS))
        command.upgrade(config, "0001")
        connection.execute(
            text("INSERT INTO keys (id, digest, name, hint, role, created_at) VALUES ('k', :d, 'n', 'h', 'admin', 1)"),
            {"d": b"d"},
        )

    async def work() -> None:
        async with opened(empty_database_place.url, empty_database_place.data_dir) as database:
            async with database.write() as connection:
                await connection.run_sync(to_the_first_version)
            await database.migrate()
            [row] = await KeyRepository(database).load_newest(100)
            assert row == KeyRow(id="k", digest=b"d", name="n", hint="h", role="admin", created_at=1)

    asyncio.run(work())


def test_a_start_on_a_current_database_does_not_import_alembic(database_place: DatabasePlace) -> None:
    done = run_start(database_place, "import sys; assert not [m for m in sys.modules if m.startswith('alembic')]")
    assert done.communicate(timeout=30) == ("", "")


def test_processes_that_start_at_once_do_not_both_migrate(empty_database_place: DatabasePlace) -> None:
    starts = [run_start(empty_database_place, "") for _ in range(3)]
    assert [start.communicate(timeout=50) for start in starts] == [("", "")] * 3

    async def story() -> None:
        async with opened(empty_database_place.url, empty_database_place.data_dir) as database:
            assert await ConfigurationRepository(database).revision() == 0

    asyncio.run(story())


def run_start(place: DatabasePlace, then: str) -> "subprocess.Popen[str]":
    """A process that opens and migrates the database and then runs ``then``."""
    script = f"""
import asyncio
from pathlib import Path
from pointsman.storage.database import Database
async def start():
    database = Database.open({place.url!r}, Path({str(place.data_dir)!r}))
    await database.migrate()
    await database.aclose()
asyncio.run(start())
{then}
"""
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(database_place: DatabasePlace) -> None:
    async def set_revision(revision: str) -> None:
        async with opened(database_place.url, database_place.data_dir) as database, database.write() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})

    asyncio.run(set_revision("9999"))
    said = refusal(database_place.url, database_place.data_dir)
    assert "newer version" in said
    assert "9999" in said
    assert "backup" in said
    asyncio.run(set_revision(HEAD))


def test_tables_of_another_program_are_not_overwritten(empty_database_place: DatabasePlace) -> None:
    async def prepare() -> None:
        async with (
            opened(empty_database_place.url, empty_database_place.data_dir) as database,
            database.write() as connection,
        ):
            await connection.execute(text("CREATE TABLE nodes (mine TEXT)"))

    asyncio.run(prepare())
    assert "already exists" in refusal(empty_database_place.url, empty_database_place.data_dir)

    async def check() -> None:
        async with (
            opened(empty_database_place.url, empty_database_place.data_dir) as database,
            database.write() as connection,
        ):
            await connection.execute(text("INSERT INTO nodes (mine) VALUES ('x')"))
            await connection.execute(text("CREATE TABLE keys (mine TEXT)"))  # nothing was left half made

    asyncio.run(check())


def test_an_error_rolls_the_whole_transaction_back(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database:
            with pytest.raises(LookupError):
                await change_and_fail(database)
            assert await ConfigurationRepository(database).revision() == 0

    asyncio.run(story())


async def change_and_fail(database: Database) -> None:
    """Change a row and fail in the same transaction."""
    async with database.write() as connection:
        await connection.execute(text("UPDATE configuration SET revision = 7"))
        raise LookupError


def test_a_reader_changes_nothing(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database:
            async with database.read() as connection:
                await connection.execute(text("UPDATE configuration SET revision = 7"))
            assert await ConfigurationRepository(database).revision() == 0

    asyncio.run(story())


def test_writers_of_several_processes_wait_for_each_other(database_place: DatabasePlace) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from pointsman.storage.aliases import AliasRepository, AliasRow
from pointsman.storage.database import Database
async def work():
    database = Database.open({database_place.url!r}, Path({str(database_place.data_dir)!r}))
    aliases = AliasRepository(database)
    for number in range(50):
        assert await aliases.find("nobody") is None
        await aliases.add(AliasRow(name=f"{{sys.argv[1]}}-{{number}}", target="m", created_at=1))
    await database.aclose()
asyncio.run(work())
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", script, name], stderr=subprocess.PIPE, text=True) for name in "abc"
    ]
    assert [worker.communicate(timeout=50)[1] for worker in workers] == ["", "", ""]

    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database:
            assert await ConfigurationRepository(database).revision() == 150

    asyncio.run(story())


def test_calls_in_turn_use_one_connection_however_many_are_open(tmp_path: Path) -> None:
    async def used(database: Database, others: int = 0) -> int:
        async with database.read() as connection:
            if others:
                await used(database, others - 1)
            return id((await connection.get_raw_connection()).driver_connection)

    async def story() -> None:
        async with opened(None, tmp_path) as database:
            await used(database, others=3)
            assert len({await used(database) for _ in range(8)}) == 1

    give_migrated_file(tmp_path)
    asyncio.run(story())


def test_the_file_works_in_wal_mode_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(None, tmp_path / "new" / "data") as database:
            await database.migrate()
            async with database.read() as connection:
                pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                found = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in pragmas]
            assert found == ["wal", 1, 1, 5000]

    asyncio.run(story())
    assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "data" / FILE_NAME).stat().st_mode) == 0o600


def test_a_file_that_lost_its_wal_mode_gets_it_back_at_the_start(tmp_path: Path, migrated_sqlite: Path) -> None:
    source = sqlite3.connect(migrated_sqlite)
    source.execute("VACUUM INTO ?", [str(tmp_path / FILE_NAME)])
    source.close()

    async def story() -> None:
        async with opened(None, tmp_path) as database:
            await database.migrate()
            async with database.read() as connection:
                assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"

    asyncio.run(story())


def test_one_connection_does_all_writes_of_a_sqlite_file(tmp_path: Path) -> None:
    async def driver(connection: AsyncConnection) -> object:
        return (await connection.get_raw_connection()).driver_connection

    async def story() -> None:
        async with opened(None, tmp_path) as database:
            await database.migrate()
            writers = []
            for _ in range(3):
                async with database.read() as reading, database.read() as other, database.write() as writing:
                    writers.append(await driver(writing))
                    assert writers[0] not in (await driver(reading), await driver(other))
            assert writers == writers[:1] * 3

    asyncio.run(story())


def test_a_sqlite_url_names_its_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(f"sqlite:///{tmp_path}/other.db", tmp_path / "unused") as database:
            await database.migrate()
            assert database.kind == "sqlite"
            assert database.name == f"{tmp_path}/other.db"

    asyncio.run(story())
    assert (tmp_path / "other.db").exists()
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_usual_scheme_of_postgresql_works(postgres_server: str, tmp_path: Path, scheme: str) -> None:
    async def story() -> None:
        async with opened(postgres_server.replace("postgresql", scheme, 1), tmp_path) as database:
            assert database.kind == "postgresql"
            async with database.read() as connection:
                assert (await connection.execute(text("SELECT 1"))).scalar() == 1

    asyncio.run(story())


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is not a database at all" * 100)
    said = refusal(None, tmp_path)
    assert "not a database" in said
    assert FILE_NAME in said


def test_a_damaged_file_is_refused(tmp_path: Path, migrated_sqlite: Path) -> None:
    content = bytearray(migrated_sqlite.read_bytes())
    content[100:4096] = b"\xff" * 3996  # the first page: what tables there are
    (tmp_path / FILE_NAME).write_bytes(content)
    assert "malformed" in refusal(None, tmp_path)


def test_a_place_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't make the directory"):
        Database.open(None, tmp_path / "file")
    (tmp_path / FILE_NAME).mkdir()
    assert "can't open the database" in refusal(None, tmp_path)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "hunter2", "sqlite://", "sqlite:///", "http://[hunter2"])
def test_a_url_of_no_known_database_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="database URL") as caught:
        Database.open(url, tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:hunter2@127.0.0.1:9/db", "refused"),
        ("postgresql://user:hun/ter2@127.0.0.1/db", "percent-encode"),
        ("postgresql://user:hun#ter2@127.0.0.1/db", "percent-encode|refused"),
        ("postgresql://user:hunter2@/db?host=/nowhere", "No such file"),
        ("postgresql://user:hunter2@127.0.0.1:port/db", "percent-encode"),
        ("postgresql://user:hunter2@[::1/db", "not a URL"),
    ],
)
def test_a_postgresql_that_can_not_be_reached_is_refused_without_showing_the_password(
    tmp_path: Path, url: str, reason: str
) -> None:
    said = refusal(url, tmp_path)
    assert re.search(reason, said), said
    assert "hun" not in said
    assert "ter2" not in said


def test_a_postgresql_without_the_database_says_so(postgres_server: str, tmp_path: Path) -> None:
    url = re.sub(r"/postgres\b(?=\?|$)", "/nowhere", postgres_server)
    assert 'database "nowhere" does not exist' in refusal(url, tmp_path)


def test_no_text_of_the_database_shows_its_password(tmp_path: Path) -> None:
    database = Database.open("postgresql://user:hunter2@db.example:5433/main?sslmode=require", tmp_path)
    assert repr(database) == "Database(postgresql://db.example:5433/main)"


def test_a_connection_that_the_server_ended_is_replaced(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database:
            if database.kind == "sqlite":
                return  # there is no server that could end one
            with pytest.raises(StorageError):
                await change_and_lose_the_connection(database)
            assert await ConfigurationRepository(database).revision() == 0

    asyncio.run(story())


def test_a_command_that_takes_too_long_is_a_storage_error(
    migrated_postgres: str, postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(url: str) -> None:
        async with opened(url, tmp_path) as database:
            for begin in (database.read, database.write):
                with pytest.raises(StorageError, match=r"no answer within"):
                    async with begin() as connection:
                        await connection.execute(text("SELECT pg_sleep(60)"))
            assert await ConfigurationRepository(database).revision() >= 0  # the pool is well

    monkeypatch.setattr("pointsman.storage.database.COMMAND_SECONDS", 0.5)
    with postgres_database(postgres_server, migrated_postgres) as url:
        asyncio.run(run(url))


def test_postgresql_ends_a_transaction_of_which_nothing_is_heard_and_others_get_its_locks(
    migrated_postgres: str, postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change_and_wait_for_another(database: Database, other: Database) -> None:
        async with database.write() as connection:
            await connection.execute(text("UPDATE configuration SET revision = 7"))
            async with asyncio.timeout(10), other.write() as waiting:
                await waiting.execute(text("UPDATE configuration SET revision = revision + 2"))
            await connection.execute(text("SELECT 1"))

    async def run(url: str) -> None:
        async with opened(url, tmp_path) as stopped, opened(url, tmp_path) as other:
            with pytest.raises(StorageError):
                await change_and_wait_for_another(stopped, other)
            assert await ConfigurationRepository(stopped).revision() == 2

    monkeypatch.setattr("pointsman.storage.database.SILENCE_SECONDS", 0.3)
    with postgres_database(postgres_server, migrated_postgres) as url:
        asyncio.run(run(url))


async def change_and_lose_the_connection(database: Database) -> None:
    """Change a row and let the server end the connection before the commit."""
    async with database.write() as connection:
        await connection.execute(text("UPDATE configuration SET revision = 7"))
        await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_statements_in_errors_show_no_values(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database:
            with pytest.raises(StorageError) as caught:
                async with database.write() as connection:
                    await connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "hunter2"})
            assert "hunter2" not in str(caught.value)
            assert "hunter2" not in str(caught.value.__cause__)

    asyncio.run(story())


def test_work_is_done_between_the_steps_of_a_long_statement(database_place: DatabasePlace) -> None:
    turns: list[None] = []

    async def story() -> int:
        async with opened(database_place.url, database_place.data_dir) as database:
            await database.migrate()
            await database.aclose()
            database.between_steps(500, lambda: turns.append(None))
            async with database.write() as connection:
                records = [
                    RequestRecord(request_id=f"r{n}", created_at=n, operation="chat", route="/", dialect="d")
                    for n in range(200)
                ]
                return len((await RequestRepository(database).insert_many(connection, records)).records)

    assert asyncio.run(story()) == 200
    assert bool(turns) == (database_place.url is None)


def test_a_cancelled_writer_leaves_no_transaction_behind(database_place: DatabasePlace) -> None:
    async def story() -> None:
        async with opened(database_place.url, database_place.data_dir) as database:

            async def write(number: int) -> None:
                async with database.write() as connection:
                    row = {"name": f"a{number}", "target": "t", "created_at": 1}
                    await connection.execute(tables.aliases.insert(), row)
                    await connection.execute(text("SELECT 1"))

            for number in range(120):
                task = asyncio.create_task(write(number))
                for _ in range(number % 30):
                    await asyncio.sleep(0)
                if number % 2:
                    await asyncio.sleep(number * 7 % 40 / 10_000)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if number % 10 == 9:
                    async with asyncio.timeout(4):
                        await write(1000 + number)

    asyncio.run(story())


def test_a_database_that_works_in_its_callers_thread_starts_none_and_does_the_same(tmp_path: Path) -> None:
    give_migrated_file(tmp_path)
    threads = threading.active_count()

    async def add(database: Database, *names: str) -> None:
        async with database.write() as connection:
            for name in names:
                await connection.execute(tables.aliases.insert(), {"name": name, "target": "t", "created_at": 1})

    async def story() -> None:
        database = Database.open(None, tmp_path, inline=True)
        await add(database, "a")
        with pytest.raises(AlreadyExistsError):
            await add(database, "b", "a")
        assert threading.active_count() == threads
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT name FROM aliases"))).scalars().all() == ["a"]
        await database.aclose()
        async with opened(None, tmp_path) as other:
            await add(other, "c")  # no lock is left

    asyncio.run(story())
