"""Codes that programs exchange for keys (OAuth 2.0 with PKCE, RFC 7636). Only digests of the codes are stored."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, delete, insert, select

from pointsman.storage.database import Database
from pointsman.storage.tables import metadata

# ``key`` is the key that is to be made, as JSON.
authorization_codes: Final = Table(
    "authorization_codes",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("user_id", Text),
    Column("challenge", Text),
    Column("method", Text),
    Column("key", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index(None, authorization_codes.c.expires_at)
_TABLE: Final = authorization_codes


class CodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One code, whose key an account and a workspace are to own. ``method`` is plain or S256. Instants in us."""

    digest: bytes
    account_id: str
    workspace_id: str
    user_id: str | None
    challenge: str | None
    method: str | None
    key: Mapping[str, Any]
    created_at: int
    expires_at: int


class CodeRepository:
    """Keeps codes until they are used or too old. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: CodeRow) -> None:
        """Store a new one, and drop those that were too old when it was made."""
        values = {**msgspec.structs.asdict(row), "key": msgspec.json.encode(row.key).decode()}
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.expires_at <= row.created_at))
            await connection.execute(insert(_TABLE), values)

    async def find(self, digest: bytes) -> CodeRow | None:
        """The code with this digest, whatever its age."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.digest == digest))).one_or_none()
        if row is None:
            return None
        return CodeRow(**{**row._mapping, "key": msgspec.json.decode(row.key)})

    async def take(self, digest: bytes) -> bool:
        """Use the code up; False when somebody else did."""
        async with self._database.write() as connection:
            return bool((await connection.execute(delete(_TABLE).where(_TABLE.c.digest == digest))).rowcount)
