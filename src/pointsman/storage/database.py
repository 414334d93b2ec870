"""The one database: a SQLite file by default, PostgreSQL by URL. Gives repositories connections, turns drivers' errors.

SQLite writers take the write lock at BEGIN (BEGIN IMMEDIATE): one that began as a reader and writes later fails at once
with "database is locked" when another process was faster, whatever the busy timeout.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, NoReturn
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from pointsman.errors import ConfigError
from pointsman.storage import sqlite_driver
from pointsman.storage.migration import HEAD, read_revision, upgrade

FILE_NAME: Final = "pointsman.db"
BUSY_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 10.0
# Of each connection to SQLite; it has 2,000 itself. The system keeps the file's pages anyway, once for all.
CACHE_KILOBYTES: Final = 512
COMMAND_SECONDS: Final = 60.0
# PostgreSQL ends a transaction whose process says nothing for so long: others would wait for its locks while that one
# gets no processor, is stopped, or was lost with its machine, for hours where only TCP would find that out.
SILENCE_SECONDS: Final = 10.0
_MIGRATION_LOCK: Final = 0x706F696E74736D  # any number that is ours, for pg_advisory_xact_lock
_ORDER: Final = "SELECT pg_advisory_xact_lock(7092450)"  # any other number
_POSTGRES_SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")

Kind = Literal["sqlite", "postgresql"]


class StorageError(Exception):
    """The database can't be reached or would not do it; the message names it and holds no password.

    ``refused``: it works, but won't have this content, however often one asks.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class OutdatedKeyError(StorageError):
    """What was to be stored is sealed with a master key that was replaced meanwhile; nothing was stored."""


class AlreadyExistsError(Exception):
    """A row with this id, name or digest is there already."""


class Database:
    """A pool of connections to one database. Make it with `open`, then `migrate` before anything else."""

    def __init__(
        self,
        engine: AsyncEngine,
        kind: Kind,
        name: str,
        path: Path | None,
        *,
        writing: AsyncEngine | None = None,
        patient: AsyncEngine | None = None,
    ) -> None:
        self.kind: Final = kind
        self.name: Final = name  # for people: the file, or host and database; never a password
        self._path = path
        self._engine = engine
        self._writing = writing or engine  # connections that only write
        self._patient = patient  # for migrations, which may take minutes
        self._immediate = self._writing.execution_options(immediate=True)
        # Asked at the end of every transaction that stores something sealed; raises OutdatedKeyError.
        self.seal_check: Callable[[AsyncConnection], Awaitable[None]] | None = None
        # Writers of this process queue here, in order; SQLite's own waiting polls and is not fair.
        self._turn = asyncio.Lock() if kind == "sqlite" else None

    def __repr__(self) -> str:
        return f"Database({self.name})"

    @classmethod
    def open(cls, url: str | None, data_dir: Path, *, inline: bool = False) -> "Database":
        """Prepare the database at ``url``, or ``pointsman.db`` in ``data_dir`` (made when missing) without one.

        Connects later, at first use. ``inline``: SQLite works in the caller's thread, which does nothing meanwhile.
        Raises ConfigError for a URL that can't be used.
        """
        if url is None:
            return cls._open_sqlite(data_dir / FILE_NAME, inline)
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ConfigError("the database URL is not a URL") from None
        if parts.scheme in _POSTGRES_SCHEMES:
            return cls._open_postgresql(url)
        if parts.scheme == "sqlite" and not parts.netloc and parts.path.strip("/"):
            return cls._open_sqlite(Path(parts.path[1:]), inline)  # sqlite:///relative, sqlite:////absolute
        raise ConfigError("the database URL must begin with postgresql:// or sqlite:///")

    @classmethod
    def _open_sqlite(cls, path: Path, inline: bool) -> "Database":
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"can't make the directory {path.parent}: {error.strerror}") from error
        try:
            # It holds sealed credentials: for the owner alone. SQLite gives its side files the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            # Must not even be opened here: closing it would drop locks that SQLite holds in this process.
            if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
                raise ConfigError(f"can't open the database {path}: not a file that may be read and written") from None
        except OSError as error:
            raise ConfigError(f"can't open the database {path}: {error.strerror}") from error
        reading = _sqlite_engine(path, 4, inline=inline)
        # One connection does all writes, one after the other: its page cache has what the next one needs. A connection
        # that another one has written beside has to fill its cache anew.
        writing = None if inline else _sqlite_engine(path, 1)
        return cls(reading, "sqlite", str(path), path, writing=writing)

    @classmethod
    def _open_postgresql(cls, url: str) -> "Database":
        name = _postgresql_name(url)
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=_postgresql_creator(url, name, COMMAND_SECONDS),
            pool_size=8,
            max_overflow=8,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,  # a restarted server costs one reconnect, not one failed request per connection
            hide_parameters=True,
        )
        patient = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=_postgresql_creator(url, name, None),
            poolclass=NullPool,
            hide_parameters=True,
        )
        return cls(engine, "postgresql", name, None, patient=patient)

    def between_steps(self, steps: int, work: Callable[[], None]) -> None:
        """Call ``work`` after so many steps of each statement, on connections opened from now on.

        PostgreSQL's steps are made in a process of its own: nothing is called.
        """
        if self.kind != "sqlite":
            return

        def connected(connection: Any, _record: object) -> None:
            connection.run_async(lambda driver: driver.set_progress_handler(work, steps))

        for engine in {self._engine, self._writing}:
            event.listen(engine.sync_engine, "connect", connected)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for queries, in a transaction that is rolled back at the end. Raises StorageError."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, TimeoutError) as error:
            self._translate(error)

    @asynccontextmanager
    async def write(self, *, sealing: bool = False) -> AsyncIterator[AsyncConnection]:
        """One transaction that changes something: committed at the end, rolled back on any error.

        ``sealing``: it stores values that are sealed with the master key, which must not be one of the past.
        Never open a second one inside. Raises AlreadyExistsError for a duplicate, StorageError for everything else.
        """
        if self._turn is None:
            async with self._write(sealing) as connection:
                yield connection
        else:
            async with self._turn, self._write(sealing) as connection:
                yield connection

    async def in_order(self, connection: AsyncConnection) -> None:
        """Let nobody else post to requests or ledger before this transaction ends.

        So the numbers of their rows become visible in their order on all nodes, and a reader that goes on behind the
        last number it saw misses nothing. SQLite has one writer at a time anyway.
        """
        if self.kind == "postgresql":
            await connection.exec_driver_sql(_ORDER)

    @asynccontextmanager
    async def _write(self, sealing: bool) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._immediate.begin() as connection:
                yield connection
                if sealing and self.seal_check is not None:
                    await self.seal_check(connection)
        except (SQLAlchemyError, TimeoutError) as error:
            self._translate(error)

    def _translate(self, error: SQLAlchemyError | TimeoutError) -> NoReturn:
        """Raise what callers handle in place of the driver's error."""
        if isinstance(error, TimeoutError):  # asyncpg's, which SQLAlchemy hands on as it is
            raise StorageError(f"{self.name}: no answer within {COMMAND_SECONDS:.0f} s") from error
        if isinstance(error, IntegrityError) and _is_duplicate(error):
            raise AlreadyExistsError("a row with this id, name or digest is there already") from error
        refused = isinstance(error, (IntegrityError, DataError))
        raise StorageError(f"{self.name}: {_reason(error)}", refused=refused) from error

    async def migrate(self) -> bool:
        """Bring the tables to this program's revision; does nothing, fast, when they stand there. True: it did.

        Safe when several processes start at once: one works, the others wait. Raises ConfigError when the database is
        newer than the program, damaged or out of reach.
        """
        try:
            if await self._is_current():
                return False
            if self._path is None:
                await self._upgrade()
            else:
                await self._upgrade_file(self._path)
            return True
        except (StorageError, OSError) as error:
            raise ConfigError(f"can't use the database: {error}") from error

    async def _is_current(self) -> bool:
        async with self.read() as connection:
            if self.kind == "sqlite" and (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() != "wal":
                return False
            return await connection.run_sync(read_revision) == HEAD

    async def _upgrade(self) -> None:
        async with self._patient_write() as connection:
            if self.kind == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.run_sync(upgrade)

    @asynccontextmanager
    async def _patient_write(self) -> AsyncIterator[AsyncConnection]:
        """As `write`, for a change that may take minutes where there is much."""
        if self._patient is None:
            async with self.write() as connection:
                yield connection
            return
        try:
            async with self._patient.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            self._translate(error)

    async def _upgrade_file(self, path: Path) -> None:
        # Changing to WAL fails at once while another process does the same, so a lock file goes around both steps.
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            await asyncio.to_thread(_use_wal, path)
            await self._engine.dispose()  # who has looked before takes the mode for the old one
            await self._upgrade()
        finally:
            os.close(lock)

    async def aclose(self) -> None:
        """Close every connection; the last one of a SQLite file folds its log into the file."""
        for engine in {self._engine, self._writing}:
            await engine.dispose()


def _sqlite_engine(path: Path, connections: int, *, inline: bool = False) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={
            "timeout": BUSY_SECONDS,
            "isolation_level": None,  # BEGIN is ours, see _begin_sqlite
            "async_creator_fn": sqlite_driver.connect,
            "inline": inline,
        },
        pool_size=connections,
        max_overflow=4,
        # One that was just used holds in its page cache what the next one would read, and each fills up a cache.
        pool_use_lifo=True,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _connect_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _connect_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # NORMAL: in WAL a power cut may take back the last commits but can't damage the file; the journal replays them.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _use_wal(path: Path) -> None:
    """Let readers work beside the one writer; the file remembers it."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error


def _postgresql_name(url: str) -> str:
    """Host and database of ``url`` for people, unless it is doubtful where its password ends."""
    parts = urlsplit(url)
    if "@" in parts.path + parts.query + parts.fragment:
        return "the PostgreSQL database"
    host = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"postgresql://{host}{parts.path}"


def _postgresql_creator(url: str, name: str, seconds: float | None) -> Callable[[], Awaitable[Any]]:
    """A function that connects; each command gets ``seconds``, None: as long as it takes.

    asyncpg reads the URL itself: it knows what libpq knows (sslmode, host=/socket, …).
    """
    try:
        import asyncpg
    except ImportError as error:
        raise ConfigError("PostgreSQL needs the package asyncpg: pip install 'pointsman[postgres]'") from error
    dsn = "postgresql:" + url.partition(":")[2]

    async def connect() -> Any:
        try:
            connection = await asyncpg.connect(
                dsn,
                timeout=CONNECT_SECONDS,
                command_timeout=seconds,
                server_settings={"application_name": "pointsman"},
            )
            if seconds is not None:
                await _end_silence(connection)
            return connection
        except TimeoutError:
            raise StorageError(f"{name}: no answer within {CONNECT_SECONDS:.0f} s") from None
        except asyncpg.PostgresError as error:
            raise StorageError(f"{name}: {error}") from error
        except OSError as error:
            number = error.errno or 0  # without one, or below 0: asyncio's or the resolver's own words
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise StorageError(f"{name}: {reason}") from error
        except (ValueError, asyncpg.InterfaceError):
            # Its text may quote a piece of the password, when that was taken for a port for want of percent-encoding.
            raise StorageError(
                f"{name}: the URL is not understood; percent-encode special characters of user and password"
            ) from None

    return connect


async def _end_silence(connection: Any) -> None:
    """Bound how long a transaction may be silent. By a command: poolers refuse settings that they don't know."""
    try:
        await connection.execute(f"SET idle_in_transaction_session_timeout = {SILENCE_SECONDS * 1000:.0f}")
    except BaseException:
        connection.terminate()
        raise


def _is_duplicate(error: IntegrityError) -> bool:
    """Whether a unique constraint was broken, not a check or NOT NULL."""
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return bool(code == "23505")
    return getattr(error.orig, "sqlite_errorname", None) in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


def _reason(error: SQLAlchemyError) -> str:
    """The driver's own words, without SQLAlchemy's frame, statement and class names."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return str(origin).rpartition(">: ")[2]
