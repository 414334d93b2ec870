"""The audit log in the database: appends rows to the one chain of all processes, and tells them.

The head stands in a row of its own. Who appends locks it first (PostgreSQL: the row, SQLite: the file), so the numbers
have no gaps, and no two rows follow the same one. Triggers refuse to change or delete a row, and to set the head back.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    func,
    insert,
    or_,
    select,
    update,
)

from pointsman.canonical import audit as chain
from pointsman.canonical.audit import Entry, Link
from pointsman.storage.database import Database
from pointsman.storage.tables import metadata

audit: Final = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("object_kind", Text, nullable=False),
    Column("object_id", Text),
    Column("account_id", Text),
    Column("user_id", Text),
    Column("credential_id", Text),
    Column("credential_kind", Text),
    Column("address", Text),
    Column("request_id", Text),
    Column("fields", Text, nullable=False),
    Column("digest", Text),
    Column("count", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("previous", LargeBinary, nullable=False, unique=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("seal", LargeBinary, nullable=False),
)
Index(None, audit.c.at)
Index(None, audit.c.action, audit.c.sequence)
Index(None, audit.c.object_id, audit.c.sequence)
Index(None, audit.c.user_id, audit.c.sequence)
Index(None, audit.c.credential_id, audit.c.sequence)

# One row: the last of the chain. ``seal`` is made of number and hash, and differs from the row's own.
audit_head: Final = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("seal", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
BATCH_ROWS: Final = 1000
_ENTRY: Final = Entry.__struct_fields__
_LINK: Final = Link.__struct_fields__


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The last row's number and hash, sealed. Before the first row: 0 and `canonical.audit.START`."""

    sequence: int
    hash: bytes
    key_id: str
    seal: bytes


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted; None: whatever it is. Instants in us, ``until`` excluded. ``objects``: any of these ids.

    ``action`` ends with ``*`` for all that begin so; ``actor`` is any of account, user and credential;
    ``beginnings``: of actions' names, any of them.
    """

    action: str | None = None
    actor: str | None = None
    object_kind: str | None = None
    objects: tuple[str, ...] = ()
    outcome: str | None = None
    address: str | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None
    beginnings: tuple[str, ...] = ()


EVERYTHING: Final = AuditFilter()
Linker = Callable[[int, bytes, Entry], tuple[Link, Head]]


class AuditRepository:
    """Adds to the log and reads it. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, entry: Entry, linker: Linker) -> Link:
        """Put a row at the end. ``linker`` makes of its number and the last row's hash its link, and the new head."""
        async with self._database.write() as connection:
            query = select(audit_head.c.sequence, audit_head.c.hash).with_for_update()
            last = (await connection.execute(query)).one()
            link, head = linker(last.sequence + 1, bytes(last.hash), entry)
            values = {**msgspec.structs.asdict(entry), **msgspec.structs.asdict(link)}
            values["fields"] = msgspec.json.encode(entry.fields).decode()
            await connection.execute(insert(audit), values)
            await connection.execute(update(audit_head).values(**msgspec.structs.asdict(head)))
        return link

    async def head(self) -> Head:
        """The end of the chain as it is noted."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(audit_head))).one()
        return Head(sequence=row.sequence, hash=bytes(row.hash), key_id=row.key_id, seal=bytes(row.seal))

    async def page(
        self, wanted: AuditFilter, limit: int, before: int | None = None, offset: int = 0
    ) -> tuple[chain.Row, ...]:
        """Up to ``limit`` rows, newest first, from before the number ``before``."""
        query = page_query(wanted, limit, before).offset(offset)
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(query))

    async def count(self, wanted: AuditFilter) -> int:
        """How many rows are wanted."""
        query = select(func.count()).select_from(audit).where(*_conditions(wanted))
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def walk(self, after: int = 0) -> AsyncIterator[tuple[chain.Row, ...]]:
        """Every row behind the number ``after``, oldest first, in batches."""
        while True:
            query = select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence).limit(BATCH_ROWS)
            async with self._database.read() as connection:
                rows = tuple(_row(row) for row in await connection.execute(query))
            if not rows:
                return
            yield rows
            after = rows[-1].link.sequence

    async def place_of(self, digest: bytes) -> int | None:
        """The number of the row with this hash; None: there is none."""
        async with self._database.read() as connection:
            found = await connection.execute(select(audit.c.sequence).where(audit.c.hash == digest))
            return found.scalar_one_or_none()

    async def hash_at(self, sequence: int) -> bytes | None:
        """The hash of the row with this number; None: there is none."""
        async with self._database.read() as connection:
            found = (await connection.execute(select(audit.c.hash).where(audit.c.sequence == sequence))).scalar()
        return bytes(found) if found is not None else None


def page_query(wanted: AuditFilter, limit: int, before: int | None) -> Any:
    """The query of a page: it walks the numbers backwards."""
    query = select(audit).where(*_conditions(wanted)).order_by(audit.c.sequence.desc()).limit(limit)
    return query if before is None else query.where(audit.c.sequence < before)


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("object_kind", "outcome", "address", "request_id"):
        value = getattr(wanted, name)
        if value is not None:
            found.append(audit.c[name] == value)
    if wanted.action is not None:
        begin = wanted.action.removesuffix("*")
        exact = begin == wanted.action
        found.append(audit.c.action == begin if exact else audit.c.action.startswith(begin, autoescape=True))
    if wanted.beginnings:
        found.append(or_(*(audit.c.action.startswith(begin, autoescape=True) for begin in wanted.beginnings)))
    if wanted.objects:
        found.append(audit.c.object_id.in_(wanted.objects))
    if wanted.actor is not None:
        found.append(
            (audit.c.user_id == wanted.actor)
            | (audit.c.credential_id == wanted.actor)
            | (audit.c.account_id == wanted.actor)
        )
    if wanted.since is not None:
        found.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        found.append(audit.c.at < wanted.until)
    return found


def _row(row: Row[Any]) -> chain.Row:
    values = {name: getattr(row, name) for name in _ENTRY}
    # The mapping's own: a column "count" has the name of a method of the row.
    values["count"] = row._mapping["count"]
    values["fields"] = tuple(msgspec.json.decode(values["fields"], type=list[str]))
    link = {name: getattr(row, name) for name in _LINK}
    for name in ("previous", "hash", "seal"):
        link[name] = bytes(link[name])
    return chain.Row(entry=Entry(**values), link=Link(**link))
