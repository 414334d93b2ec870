"""What stored requests have cost of budgets, booked by the projector; and leases of processes that are gone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.accounting.homes import holder_name, home_of
from pointsman.accounting.journal import list_segments, tag_of
from pointsman.canonical.record import RequestRecord
from pointsman.clock import Clock
from pointsman.storage.budget_alerts import AlertRepository
from pointsman.storage.budget_leases import BudgetLeaseRepository, Charge
from pointsman.storage.database import Database

log = structlog.get_logger("pointsman.budgets")


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One of a record's ``charges``. ``reserved``: before the call. ``cost`` where it is not the record's own."""

    budget: str
    period: int
    reserved: bool
    cost: int | None = None


_MARKS: Final = msgspec.json.Decoder(list[Mark])


class BudgetBooks:
    """The projector's part of budgets. ``ended``: perhaps some process is gone."""

    def __init__(self, database: Database, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._leases = BudgetLeaseRepository(database)
        self._alerts = AlertRepository(database)
        self.ended = True

    async def book(
        self,
        connection: AsyncConnection,
        charged: Sequence[tuple[str, RequestRecord]],
        stored: Sequence[RequestRecord],
    ) -> None:
        """Count records, each with its process' tag, in the transaction that has just ``stored`` those that are new."""
        new = {record.request_id for record in stored}
        home, charges = home_of(self._directory), []
        for tag, record in charged:
            if record.request_id not in new:
                continue
            new.discard(record.request_id)
            unpriced = record.cost_nano_usd is None and (record.input_tokens or record.output_tokens)
            cost = None if unpriced else record.cost_nano_usd or 0
            holder = holder_name(home, tag)
            charges += [
                Charge(mark.budget, mark.period, holder if mark.reserved else None, _cost(mark, cost))
                for mark in _marks(record)
            ]
        if charges:
            places = await self._leases.book(connection, charges)
            await self._alerts.note(connection, places, self._clock.now_us())

    async def release(self, finished: Iterable[str]) -> int:
        """Give back what processes hold whose segments are all among ``finished``; gives how many leases.

        Raises StorageError. A process has a segment that is not finished before it has a lease and as long as it lives.
        """
        self.ended = False
        try:
            home, done = home_of(self._directory), set(finished)
            holders = await self._leases.holders(home)
            if not holders:
                return 0
            alive = {holder_name(home, tag_of(name)) for name in list_segments(self._directory) if name not in done}
            gone = holders - alive
            released = await self._leases.release(gone) if gone else 0
        except BaseException:
            self.ended = True
            raise
        if released:
            log.info("leases of ended processes released", processes=len(gone), leases=released)
        return released

    async def prune(self) -> None:
        """Drop what no window needs any more. Raises StorageError."""
        await self._leases.prune(self._clock.now_us())


def _cost(mark: Mark, cost: int | None) -> int | None:
    return cost if mark.cost is None or cost is None else mark.cost


def _marks(record: RequestRecord) -> list[Mark]:
    try:
        return _MARKS.decode(record.charges or "[]")
    except msgspec.DecodeError:
        log.error("a record's charges can't be read", request_id=record.request_id)
        return []
