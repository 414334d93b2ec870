"""What became of the requests that named a combo, added up by UTC day and target as their records are stored.

``day`` is the instant (us) at which it begins, durations are in us. A status and its instant are kept in one number, so
that the latest one is found by max(): ``last_at`` and ``failed_at`` are the instant (us) times `STATUSES` plus the
status. ``failures`` are attempts that failed before the request went on to another target; the other columns count
requests, by the target that was tried last.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from sqlalchemy import BigInteger, Column, Table, Text, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.windows import DAY_US
from pointsman.storage import tables
from pointsman.storage.combo_tables import combo_resets
from pointsman.storage.database import Database
from pointsman.storage.usage_sums import adding_to, fitted_name

ALL: Final = ""  # in the place of a combo's name
STATUSES: Final = 1000
KEPT_DAYS: Final = 30  # that are over; nobody asks for older ones
SUMMED: Final = ("requests", "successes", "fallbacks", "duration_us", "success_us", "last_at",
                 "failures", "failed_us", "failed_at")  # fmt: skip
combo_days: Final = Table(
    "combo_days",
    tables.metadata,
    Column("combo", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in SUMMED),
)
_LARGEST: Final = 2**62
_INSTANTS: Final = tuple(name.endswith("_at") for name in SUMMED)
Place = tuple[str, int, str]


class ComboDays:
    """Fills the table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._upsert = adding_to(combo_days, database.kind)

    async def add(self, connection: AsyncConnection, records: Iterable[RequestRecord]) -> None:
        """Count records that were just stored, inside the caller's transaction; not those from before a reset."""
        named = [record for record in records if record.combo]
        if not named:
            return
        resets = {row.combo: row.reset_at for row in await connection.execute(select(combo_resets))}
        sums: dict[Place, list[int]] = {}
        for record in named:
            if record.created_at > max(resets.get(ALL, 0), resets.get(record.combo or "", 0)):
                _count(sums, record)
        if sums:
            rows = [
                {"combo": combo, "day": day, "target": target, **dict(zip(SUMMED, amounts, strict=True))}
                for (combo, day, target), amounts in sorted(sums.items())
            ]
            await connection.execute(self._upsert, rows)

    async def forget(self, now: int) -> None:
        """Delete days of which nobody asks any more at ``now`` (us). Raises StorageError."""
        async with self._database.write() as connection:
            await connection.execute(delete(combo_days).where(combo_days.c.day < first_day(now)))


def first_day(now: int) -> int:
    """The first day that counts at ``now``: the present one, and `KEPT_DAYS` before it."""
    return now - now % DAY_US - KEPT_DAYS * DAY_US


def failed_attempts(text: str) -> list[tuple[str, int, int]]:
    """Target, duration (us) and status of each failed attempt in a record."""
    try:
        rows = msgspec.json.decode(text, type=list[tuple[str, object, int | None, int | None]])
    except msgspec.DecodeError:  # what an old version wrote must not keep the projector from going on
        return []
    return [(target, us or 0, status) for target, _, status, us in rows if status is not None and status >= 400]


def _count(sums: dict[Place, list[int]], record: RequestRecord) -> None:
    combo, day = fitted_name(record.combo), record.created_at - record.created_at % DAY_US
    good = int(record.outcome is Outcome.SUCCESS)
    us, attempts = record.duration_us, record.attempts
    fell = int(attempts is not None) * good
    last = record.created_at * STATUSES + record.status
    _add(sums, (combo, day, fitted_name(record.target)), (1, good, fell, us, us * good, last, 0, 0, 0))
    for target, took, status in failed_attempts(attempts) if attempts is not None else ():
        failed = record.created_at * STATUSES + status % STATUSES
        _add(sums, (combo, day, fitted_name(target)), (0, 0, 0, 0, 0, 0, 1, took, failed))


def _add(sums: dict[Place, list[int]], place: Place, amounts: Sequence[int]) -> None:
    found: list[int] = sums.setdefault(place, [0] * len(SUMMED))
    for number, amount in enumerate(amounts):
        whole = max(found[number], amount) if _INSTANTS[number] else found[number] + amount
        found[number] = max(0, min(whole, _LARGEST))
