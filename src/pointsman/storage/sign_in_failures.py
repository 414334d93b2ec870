"""Failed sign-ins by where they came from, for all processes together: a restart forgets none of them."""

from typing import Final

import msgspec
from sqlalchemy import BigInteger, Column, Index, Table, Text, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.storage.database import Database
from pointsman.storage.tables import metadata

# ``source`` is a keyed mark, no address or name can be read. ``instants`` are those of its failures (us), in JSON.
sign_in_failures: Final = Table(
    "sign_in_failures",
    metadata,
    Column("source", Text, primary_key=True),
    Column("instants", Text, nullable=False),
    Column("last_at", BigInteger, nullable=False),
)
Index(None, sign_in_failures.c.last_at)
SWEEP_ROWS: Final = 100
_TABLE: Final = sign_in_failures
_NEW: Final = text(
    "INSERT INTO sign_in_failures (source, instants, last_at) VALUES (:source, '[]', 0) ON CONFLICT (source) DO NOTHING"
)
_decode: Final = msgspec.json.Decoder(list[int]).decode


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever fails: ``name`` is a mark, ``allowed`` how often it may within the window."""

    name: str
    allowed: int


class SignInFailures:
    """Counts. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def try_once(self, sources: tuple[Source, ...], now: int, window: int) -> int:
        """Note a try of all ``sources`` as failed, unless one of them is locked; gives for how long (us), or 0.

        Looking and noting are one step: of many tries at once no more than allowed are let through.
        """
        async with self._database.write() as connection:
            known = {name: await self._locked(connection, name) for name in sorted(one.name for one in sources)}
            wait = _wait(sources, known, now, window)
            if wait > 0:
                await self._forget_new(connection)
                return wait
            for one in sources:
                instants = [*(at for at in known[one.name] if at > now - window), now][-one.allowed :]
                values = {"instants": msgspec.json.encode(instants).decode(), "last_at": now}
                await connection.execute(update(_TABLE).where(_TABLE.c.source == one.name).values(**values))
            # Rows that somebody else is about to change stay: to wait for them here could never end.
            old = select(_TABLE.c.source).where(_TABLE.c.last_at <= now - window).limit(SWEEP_ROWS)
            old = old.with_for_update(skip_locked=True)
            await connection.execute(delete(_TABLE).where(_TABLE.c.source.in_(old)))
        return 0

    async def wait(self, sources: tuple[Source, ...], now: int, window: int) -> int:
        """For how long (us) one of them is locked; 0: none is."""
        query = select(_TABLE).where(_TABLE.c.source.in_([one.name for one in sources]))
        async with self._database.read() as connection:
            known = {row.source: _decode(row.instants) for row in await connection.execute(query)}
        return _wait(sources, known, now, window)

    async def forget(self, names: tuple[str, ...]) -> None:
        """Somebody came in: what was counted of these sources is over."""
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.source.in_(sorted(names))))

    async def _locked(self, connection: AsyncConnection, name: str) -> list[int]:
        """What is known of a source, whose row nobody else changes until the transaction ends."""
        await connection.execute(_NEW, {"source": name})
        query = select(_TABLE.c.instants).where(_TABLE.c.source == name).with_for_update()
        return _decode((await connection.execute(query)).scalar_one())

    async def _forget_new(self, connection: AsyncConnection) -> None:
        await connection.execute(delete(_TABLE).where(_TABLE.c.last_at == 0))


def _wait(sources: tuple[Source, ...], known: dict[str, list[int]], now: int, window: int) -> int:
    """How long until none of them is locked; all failures of one were recent when its last was noted."""
    full = [known[one.name] for one in sources if len(known.get(one.name, ())) >= one.allowed]
    return max(0, *(instants[-1] + window - now for instants in full), 0)
