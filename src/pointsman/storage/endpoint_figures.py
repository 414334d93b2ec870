"""How endpoints have done, added up from the records of requests as they are stored: uptime, latency, throughput.

Counts by target and slot of time, so that a question costs the same however many requests there were. Attempts and
histograms stand in slots of a minute for an hour, attempts in slots of five minutes for a day.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import and_, case, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.record import RequestRecord
from pointsman.canonical.samples import Histogram, Sample, place_of, samples
from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.slices import in_slices

MINUTE: Final = 60_000_000  # us
FIVE_MINUTES: Final = 5 * MINUTE
HALF_HOUR: Final = 30 * MINUTE
DAY: Final = 24 * 60 * MINUTE
KEPT_MINUTES: Final = 60 * MINUTE
# What a row counts. The last two stand in slots of five minutes, the others in slots of one.
ATTEMPTS, ANSWERED, FIRST_TOKEN, THROUGHPUT, LONG_ATTEMPTS, LONG_ANSWERED = range(6)
MOST_NAME: Final = 500  # characters; index rows of PostgreSQL are bounded
MOST_ASKED: Final = 500  # targets in one statement
_TABLE: Final = tables.endpoint_figures
_COUNT: Final = func.sum(_TABLE.c.count)

Key = tuple[str, int, int, int]  # target, what is counted, slot, place in the histogram
Place = tuple[str, int, bool, int | None, int | None]  # target, minute, answered, places in the two histograms


class EndpointCounts(msgspec.Struct, kw_only=True):
    """One target's: attempts and how many of them were answered, of five and thirty minutes and a day; histograms of
    half an hour, of seconds to the first token and of tokens a second.
    """

    short: tuple[int, int] = (0, 0)
    half_hour: tuple[int, int] = (0, 0)
    day: tuple[int, int] = (0, 0)
    first_token: Histogram = {}
    throughput: Histogram = {}


class EndpointFigures:
    """Fills and asks the table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert: Any = sqlite.insert(_TABLE) if database.kind == "sqlite" else postgresql.insert(_TABLE)
        self._upsert = insert.on_conflict_do_update(
            index_elements=["target", "measure", "slot", "place"],
            set_={"count": _TABLE.c.count + insert.excluded.count},
        )

    async def add(self, connection: AsyncConnection, records: Sequence[RequestRecord], now: int) -> None:
        """Count records that were just stored, inside the caller's transaction. Those older than a day say nothing."""
        places: Counter[Place] = Counter()
        async for some in in_slices(records):
            for record in some:
                places.update([_place(target, sample) for target, sample in samples(record) if now - sample.at < DAY])
        counts: dict[Key, int] = {}
        for place, count in places.items():
            for key in _keys(*place):
                counts[key] = counts.get(key, 0) + count
        if counts:
            rows = [
                {"target": target, "measure": measure, "slot": slot, "place": place, "count": count}
                for (target, measure, slot, place), count in sorted(counts.items())
            ]
            await connection.execute(self._upsert, rows)

    async def of(self, targets: Sequence[str], now: int) -> dict[str, EndpointCounts]:
        """The figures of these targets at ``now`` (us); targets that nothing is known of are left out.

        Raises StorageError.
        """
        found: dict[str, EndpointCounts] = {}
        async with self._database.read() as connection:
            for start in range(0, len(targets), MOST_ASKED):
                asked = targets[start : start + MOST_ASKED]
                for row in await connection.execute(_question(asked, now)):
                    _count(found.setdefault(row.target, EndpointCounts()), row)
        return found

    async def forget(self, now: int) -> None:
        """Delete what nobody asks for any more. Raises StorageError."""
        old = or_(
            and_(_TABLE.c.measure < LONG_ATTEMPTS, _TABLE.c.slot < (now - KEPT_MINUTES) // MINUTE),
            and_(_TABLE.c.measure >= LONG_ATTEMPTS, _TABLE.c.slot < (now - DAY) // FIVE_MINUTES - 1),
        )
        async with self._database.write() as connection:
            await connection.execute(delete(_TABLE).where(old))


def _place(target: str, sample: Sample) -> Place:
    first, speed = sample.first_token, sample.throughput
    return (
        target,
        sample.at // MINUTE,
        sample.ok,
        place_of(first) if first else None,
        place_of(speed) if speed else None,
    )


def _keys(target: str, minute: int, ok: bool, first_token: int | None, throughput: int | None) -> list[Key]:
    target = target[:MOST_NAME].replace("\0", "\ufffd")  # which PostgreSQL's texts can't hold
    long = minute // (FIVE_MINUTES // MINUTE)
    keys = [(target, ATTEMPTS, minute, 0), (target, LONG_ATTEMPTS, long, 0)]
    if ok:
        keys += [(target, ANSWERED, minute, 0), (target, LONG_ANSWERED, long, 0)]
    if first_token is not None:
        keys.append((target, FIRST_TOKEN, minute, first_token))
    if throughput is not None:
        keys.append((target, THROUGHPUT, minute, throughput))
    return keys


def _question(targets: Sequence[str], now: int) -> Any:
    """Sums by target, measure and place; ``lately`` is the part of the last five minutes."""
    short = (now - FIVE_MINUTES) // MINUTE + 1
    lately = func.sum(case((_TABLE.c.slot >= short, _TABLE.c.count), else_=0))
    minutes = and_(
        _TABLE.c.measure.in_((ATTEMPTS, ANSWERED, FIRST_TOKEN, THROUGHPUT)),
        _TABLE.c.slot > (now - HALF_HOUR) // MINUTE,
    )
    day = and_(
        _TABLE.c.measure.in_((LONG_ATTEMPTS, LONG_ANSWERED)),
        _TABLE.c.slot > (now - DAY) // FIVE_MINUTES,
    )
    return (
        select(_TABLE.c.target, _TABLE.c.measure, _TABLE.c.place, _COUNT.label("all"), lately.label("lately"))
        .where(_TABLE.c.target.in_(targets), or_(minutes, day))
        .group_by(_TABLE.c.target, _TABLE.c.measure, _TABLE.c.place)
    )


def _count(counts: EndpointCounts, row: Any) -> None:
    total, lately = int(row.all), int(row.lately)
    match row.measure:
        case 0:
            counts.short, counts.half_hour = (lately, counts.short[1]), (total, counts.half_hour[1])
        case 1:
            counts.short, counts.half_hour = (counts.short[0], lately), (counts.half_hour[0], total)
        case 2:
            counts.first_token = {**counts.first_token, row.place: total}
        case 3:
            counts.throughput = {**counts.throughput, row.place: total}
        case 4:
            counts.day = (total, counts.day[1])
        case _:
            counts.day = (counts.day[0], total)
