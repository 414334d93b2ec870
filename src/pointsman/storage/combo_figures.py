"""What became of the requests that named a combo, added up from the records of requests."""

from typing import Final

import msgspec
from sqlalchemy import ColumnElement, and_, case, delete, func, insert, select

from pointsman.storage import tables
from pointsman.storage.database import Database

ALL: Final = ""  # in the place of a combo's name
_REQUESTS: Final = tables.requests
_RESETS: Final = tables.combo_resets
_STATUSES: Final = 1000  # a status and its instant are kept in one number, so that the latest one is found by max()


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one combo that ended at one target. Instants and durations in us."""

    combo: str
    target: str
    requests: int
    successes: int
    fallbacks: int
    duration: int
    success_duration: int
    last_at: int
    last_status: int


class ComboFigureRepository:
    """Asks the table of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, combo: str | None, since: int) -> tuple[Figure, ...]:
        """By combo and target, of requests after ``since`` (us) and after the combo's last reset."""
        succeeded = case((_REQUESTS.c.outcome == "success", 1), else_=0)
        latest = func.max(_REQUESTS.c.created_at * _STATUSES + _REQUESTS.c.status)
        fell = case((and_(_REQUESTS.c.attempts.is_not(None), _REQUESTS.c.outcome == "success"), 1), else_=0)
        resets = await self._resets()
        query = select(
            _REQUESTS.c.combo,
            func.coalesce(_REQUESTS.c.target, ""),
            func.count(),
            func.sum(succeeded),
            func.sum(fell),
            func.sum(_REQUESTS.c.duration_us),
            func.sum(_REQUESTS.c.duration_us * succeeded),
            latest,
        ).group_by(_REQUESTS.c.combo, func.coalesce(_REQUESTS.c.target, ""))
        async with self._database.read() as connection:
            rows = await connection.execute(query.where(_counted(combo, since, resets)))
            return tuple(
                Figure(
                    combo=row[0],
                    target=row[1],
                    requests=int(row[2]),
                    successes=int(row[3]),
                    fallbacks=int(row[4]),
                    duration=int(row[5]),
                    success_duration=int(row[6]),
                    last_at=int(row[7]) // _STATUSES,
                    last_status=int(row[7]) % _STATUSES,
                )
                for row in rows
            )

    async def attempts(self, combo: str | None, since: int, limit: int) -> tuple[tuple[str, int, str], ...]:
        """The failed attempts of the newest ``limit`` requests that had some: combo, instant (us), attempts in JSON."""
        resets = await self._resets()
        query = (
            select(_REQUESTS.c.combo, _REQUESTS.c.created_at, _REQUESTS.c.attempts)
            .where(_counted(combo, since, resets), _REQUESTS.c.attempts.is_not(None))
            .order_by(_REQUESTS.c.created_at.desc())
            .limit(limit)
        )
        async with self._database.read() as connection:
            return tuple((row.combo, row.created_at, row.attempts) for row in await connection.execute(query))

    async def reset(self, combo: str | None, at: int) -> None:
        """Count a combo's figures, or those of all, anew from ``at`` (us) on. The records stay."""
        async with self._database.write() as connection:
            gone = delete(_RESETS)
            await connection.execute(gone if combo is None else gone.where(_RESETS.c.combo == combo))
            await connection.execute(insert(_RESETS), {"combo": combo or ALL, "reset_at": at})

    async def _resets(self) -> dict[str, int]:
        async with self._database.read() as connection:
            return {row.combo: row.reset_at for row in await connection.execute(select(_RESETS))}


def _counted(combo: str | None, since: int, resets: dict[str, int]) -> ColumnElement[bool]:
    """Which requests count."""
    since = max(since, resets.get(ALL, 0))
    conditions: list[ColumnElement[bool]] = [_REQUESTS.c.combo.is_not(None)]
    if combo is not None:
        conditions += [_REQUESTS.c.combo == combo, _REQUESTS.c.created_at > max(since, resets.get(combo, 0))]
        return and_(*conditions)
    own: list[tuple[ColumnElement[bool], int]] = [
        (_REQUESTS.c.combo == name, at) for name, at in resets.items() if at > since
    ]
    conditions.append(_REQUESTS.c.created_at > (case(*own, else_=since) if own else since))
    return and_(*conditions)
