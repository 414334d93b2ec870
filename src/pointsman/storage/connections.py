"""Accounts at upstreams that were added while running. Credentials are sealed before they come here."""

from typing import Any, Final

import msgspec
from sqlalchemy import Row, delete, insert, select, update

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class ConnectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One connection. What is sealed comes from MasterKey.seal; empty ``models`` means all; instants in us."""

    id: str
    kind: str
    created_at: int
    updated_at: int
    base_url: str | None = None
    sealed_secret: bytes | None = None
    models: tuple[str, ...] = ()
    priority: int = 0
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    allow_private: bool = False
    provider: str | None = None
    enabled: bool = True
    sealed_proxy: bytes | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    options: dict[str, str] = {}
    name: str | None = None
    display_name: str | None = None
    default_model: str | None = None
    ca_certificates: str | None = None
    node_id: str | None = None
    prefix: str | None = None
    excluded_models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sealed_headers: bytes | None = None
    sealed_extra: bytes | None = None


class ConnectionTest(msgspec.Struct, frozen=True, kw_only=True):
    """What the last test of a connection found; ``tested_at`` in us, ``status`` is the upstream's, if it answered."""

    connection_id: str
    tested_at: int
    valid: bool
    verdict: str
    message: str | None = None
    status: int | None = None
    latency_ms: int = 0


_TABLE: Final = tables.connections
_TESTS: Final = tables.connection_tests
_TEXTS: Final = ("models", "excluded_models", "tags")


class ConnectionRepository:
    """Asks and changes the table of connections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: ConnectionRow) -> int:
        """Store a new connection; gives the new configuration revision. Raises AlreadyExistsError for a known id."""
        async with self._database.write(sealing=True) as connection:
            await connection.execute(insert(_TABLE), _values(row))
            return await configuration.bump(connection)

    async def replace(self, row: ConnectionRow, *, known_at: int | None = None) -> int | None:
        """Change everything but the id and ``created_at``; gives the new revision. None: no such connection.

        With ``known_at``, its ``updated_at`` when it was read, None also when somebody else has changed it since.
        """
        values = _values(row)
        del values["created_at"]
        change = update(_TABLE).where(_TABLE.c.id == row.id).values(values)
        if known_at is not None:
            change = change.where(_TABLE.c.updated_at == known_at)
        async with self._database.write(sealing=True) as connection:
            changed = await connection.execute(change)
            return await configuration.bump(connection) if changed.rowcount else None

    async def list(self) -> tuple[ConnectionRow, ...]:
        """Every connection, also disabled ones, highest priority first, then by id."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.priority.desc(), _TABLE.c.id))
            return tuple(_row(row) for row in found)

    async def find(self, connection_id: str) -> ConnectionRow | None:
        """The connection with this id."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.id == connection_id))).one_or_none()
        return None if row is None else _row(row)

    async def remove(self, connection_id: str) -> int | None:
        """Delete it, its sealed credential too; gives the new revision. None: no such connection."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.id == connection_id))
            await connection.execute(delete(_TESTS).where(_TESTS.c.connection_id == connection_id))
            return await configuration.bump(connection) if gone.rowcount else None

    async def note_test(self, test: ConnectionTest) -> None:
        """Keep the result of a test in place of an older one: no change of the configuration."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TESTS).where(_TESTS.c.connection_id == test.connection_id))
            await connection.execute(insert(_TESTS), msgspec.structs.asdict(test))

    async def tests(self) -> dict[str, ConnectionTest]:
        """The last test of each connection that was ever tested, by its id."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TESTS))
            return {row.connection_id: ConnectionTest(**row._mapping) for row in found}


def _values(row: ConnectionRow) -> dict[str, Any]:
    encoded: dict[str, Any] = {name: getattr(row, name) for name in (*_TEXTS, "options")}
    return {**msgspec.structs.asdict(row), **{name: msgspec.json.encode(it).decode() for name, it in encoded.items()}}


def _row(row: Row[tuple[Any, ...]]) -> ConnectionRow:
    values: dict[str, Any] = dict(row._mapping)
    for name in _TEXTS:
        values[name] = msgspec.json.decode(values[name], type=tuple[str, ...])
    values["options"] = msgspec.json.decode(values["options"], type=dict[str, str])
    return ConnectionRow(**values)
