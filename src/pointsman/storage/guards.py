"""Guards on content, as JSON documents. The secrets of their webhooks are sealed before they come here."""

from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, delete, func, insert, select, update

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class GuardRow(msgspec.Struct, frozen=True, kw_only=True):
    """One guard. Instants in us; ``sealed_secrets`` as `MasterKey.seal_bytes` writes them."""

    name: str
    document: dict[str, Any]
    created_at: int
    updated_at: int
    sealed_secrets: bytes | None = None

    def __repr__(self) -> str:
        return f"GuardRow({self.name})"


# ``document`` is JSON (guard_settings.py).
guards: Final = Table(
    "guards",
    tables.metadata,
    Column("name", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("sealed_secrets", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
_TABLE: Final = guards


class GuardRepository:
    """Asks and changes the table. Every change gives the new configuration revision. All raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> tuple[GuardRow, ...]:
        """Every guard by name."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_TABLE).order_by(_TABLE.c.name))
            return tuple(GuardRow(**{**row._mapping, "document": msgspec.json.decode(row.document)}) for row in found)

    async def add(self, row: GuardRow, most: int | None = None) -> int:
        """Store a new guard. Raises AlreadyExistsError for a name that is taken, TooManyError beside ``most``."""
        async with self._database.write(sealing=True) as connection:
            await connection.execute(insert(_TABLE), _values(row))
            revision = await configuration.bump(connection)
            await configuration.keep_within(connection, select(func.count()).select_from(_TABLE), most)
            return revision

    async def replace(self, row: GuardRow, known_at: int) -> int | None:
        """Change a guard. None: there is none of its name that was changed last at ``known_at``."""
        same = (_TABLE.c.name == row.name, _TABLE.c.updated_at == known_at)
        async with self._database.write(sealing=True) as connection:
            changed = await connection.execute(update(_TABLE).where(*same).values(_values(row)))
            return await configuration.bump(connection) if changed.rowcount else None

    async def remove(self, name: str) -> int | None:
        """Delete a guard. None: there is none."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.name == name))
            return await configuration.bump(connection) if gone.rowcount else None


def _values(row: GuardRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "document": msgspec.json.encode(row.document).decode()}
