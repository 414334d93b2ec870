"""What became of the requests that named a combo, as it was added up (storage/combo_days.py)."""

from typing import Any, Final

import msgspec
from sqlalchemy import delete, func, select

from pointsman.storage.combo_days import ALL, STATUSES, combo_days
from pointsman.storage.combo_tables import combo_resets
from pointsman.storage.database import Database
from pointsman.storage.usage_sums import fitted_name

_COLUMNS: Final = combo_days.c


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one combo that ended at one target, and the attempts there that failed before others were tried
    (``failures``, ``failed_…``). Instants and durations in us; an instant is 0 where nothing happened.
    """

    combo: str
    target: str
    requests: int
    successes: int
    fallbacks: int
    duration: int
    success_duration: int
    last_at: int
    last_status: int
    failures: int
    failed_duration: int
    failed_at: int
    failed_status: int


class ComboFigureRepository:
    """Asks the table of sums, and empties it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, combo: str | None, first_day: int) -> tuple[Figure, ...]:
        """By combo and target, of the days from ``first_day`` (us) on and after the combo's last reset.

        Raises StorageError.
        """
        async with self._database.read() as connection:
            return tuple(map(_figure, (await connection.execute(sums_query(combo, first_day))).all()))

    async def reset(self, combo: str | None, at: int) -> None:
        """Count a combo, or all (None), anew from ``at`` (us) on. The records stay. Raises StorageError."""
        async with self._database.write() as connection:
            await self._database.in_order(connection)  # no projector is just adding records from before
            for table, now in ((combo_resets, combo_resets.c.combo), (combo_days, combo_days.c.combo)):
                gone = delete(table)
                await connection.execute(gone if combo is None else gone.where(now == combo))
            await connection.execute(combo_resets.insert(), {"combo": combo or ALL, "reset_at": at})


def sums_query(combo: str | None, first_day: int) -> Any:
    """The query of a combo's figures; of all combos' for None."""
    places = (_COLUMNS.combo, _COLUMNS.target)
    added = ("requests", "successes", "fallbacks", "duration_us", "success_us", "failures", "failed_us")
    query = select(
        *places,
        *(func.sum(_COLUMNS[name]) for name in added),
        func.max(_COLUMNS.last_at),
        func.max(_COLUMNS.failed_at),
    ).where(_COLUMNS.day >= first_day)
    if combo is not None:
        query = query.where(_COLUMNS.combo == fitted_name(combo))
    return query.group_by(*places)


def _figure(row: Any) -> Figure:
    combo, target, *amounts = row
    requests, successes, fallbacks, duration, succeeded, failures, failed, last, last_failed = map(int, amounts)
    return Figure(
        combo=combo,
        target=target,
        requests=requests,
        successes=successes,
        fallbacks=fallbacks,
        duration=duration,
        success_duration=succeeded,
        last_at=last // STATUSES,
        last_status=last % STATUSES,
        failures=failures,
        failed_duration=failed,
        failed_at=last_failed // STATUSES,
        failed_status=last_failed % STATUSES,
    )
