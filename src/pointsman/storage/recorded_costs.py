"""What calls cost upstream by day, model and connection: for comparison with what a provider bills."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import bindparam, text

from pointsman.storage.database import Database

DAY_US: Final = 86_400_000_000
_OWED: Final = "coalesce(upstream_cost_nano_usd, cost_nano_usd)"
_SUMS: Final = text(
    f"SELECT created_at / {DAY_US} AS day, coalesce(response_model, '') AS answered, coalesce(target, '') AS target,"
    " coalesce(request_model, '') AS asked, connection_id, count(*) AS requests,"
    f" coalesce(sum({_OWED}), 0) AS owed,"
    " sum(CASE WHEN cost_nano_usd IS NULL AND input_tokens + output_tokens > 0 THEN 1 ELSE 0 END) AS unpriced"
    " FROM requests WHERE sequence > :after AND sequence <= :last AND created_at >= :since AND created_at < :until"
    " AND NOT byok AND (provider IN :providers OR connection_id IN :connections)"
    f" AND ({_OWED} > 0 OR (cost_nano_usd IS NULL AND input_tokens + output_tokens > 0))"
    " GROUP BY 1, 2, 3, 4, 5"
).bindparams(bindparam("providers", expanding=True), bindparam("connections", expanding=True))


class Recorded(NamedTuple):
    """What was recorded: the day as a number since 1970, names of the model, the connection, and sums."""

    day: int
    answered: str
    target: str
    asked: str
    connection_id: str
    requests: int
    nano_usd: int
    unpriced: int


class Span(NamedTuple):
    """Which requests: those from ``since`` to before ``until`` (us) at these providers or connections."""

    since: int
    until: int
    providers: Sequence[str]
    connections: Sequence[str]


class RecordedCosts:
    """Asks the table of requests, in stretches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self) -> int:
        """The sequence of the last request."""
        async with self._database.read() as connection:
            found = await connection.execute(text("SELECT coalesce(max(sequence), 0) FROM requests"))
            return int(found.scalar_one())

    async def sums(self, span: Span, after: int, last: int) -> list[Recorded]:
        """The sums over the requests with a sequence above ``after`` and up to ``last``."""
        values = {**span._asdict(), "after": after, "last": last}
        async with self._database.read() as connection:
            rows = (await connection.execute(_SUMS, values)).all()
        return [
            Recorded(
                day=int(row.day),
                answered=row.answered,
                target=row.target,
                asked=row.asked,
                connection_id=row.connection_id or "",
                requests=row.requests,
                nano_usd=int(row.owed),
                unpriced=int(row.unpriced),
            )
            for row in rows
        ]
