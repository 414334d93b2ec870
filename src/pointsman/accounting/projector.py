"""Carries the journal's records into the database: in batches, each record once, also those of dead processes.

Rows, their postings in the ledger, the position behind them and the keys' last use are one transaction: whatever
interrupts the projector, it goes on at the position that belongs to the rows, and rows that come again are left alone.
Two projectors over one directory do no harm, only work twice.
"""

import asyncio
import os
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from pointsman.accounting.budget_books import BudgetBooks
from pointsman.accounting.journal import DRAFT_SUFFIX, Damage, is_live, list_segments, read_segment, tag_of
from pointsman.accounting.usage_postings import usage_drafts
from pointsman.canonical.record import RequestRecord
from pointsman.clock import Clock, rest
from pointsman.storage.combo_days import ComboDays
from pointsman.storage.database import AlreadyExistsError, Database, StorageError
from pointsman.storage.endpoint_figures import EndpointFigures
from pointsman.storage.key_usage import KeyUsageRepository
from pointsman.storage.keys import KeyRepository
from pointsman.storage.ledger import LedgerRepository, Range
from pointsman.storage.nodes import NodeRepository
from pointsman.storage.requests import RequestRepository
from pointsman.storage.segments import SegmentRepository, SegmentRow
from pointsman.storage.usage_sums import UsageSums

_log: Final = structlog.get_logger(__name__)
_SLICE_LINES: Final = 50  # decoded at a stretch, some 0.1 ms; then requests get their turn
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_PRUNE_SECONDS: Final = 600.0
# While another process projects, which does not tell what has come to its end. What a dead process holds of budgets
# is kept from everybody's calls for so long; a look costs a directory's listing and two small queries.
_TIDY_SECONDS: Final = 5.0
_PLANS_AT_ONCE: Final = 5_000
_BURST_BATCHES: Final = 5  # full batches in a row: more than a few hundred requests a second
# What waits at a few thousand a second, some 400 records. The first batches of such a rate were the longest waits that
# its requests had: each takes 7 ms of the event loop, in slices, and its thread's turns beside.
FAR_BEHIND_BYTES: Final = 192 * 1024
_ALONE_SECONDS: Final = 30.0  # behind a process that did nothing: it can't run, or what waits can't be read
_REST_FACTOR: Final = 4.0
_DRAFT_US: Final = 3_600_000_000
_DAY_US: Final = 86_400_000_000
_NODES_US: Final = 7 * _DAY_US


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """What is not in the database yet: bytes of journal, and the number of segments that hold them.

    ``unreadable`` of these bytes are in segments that can't be read, and wait for somebody who mends that.
    """

    bytes: int
    segments: int
    unreadable: int = 0


class ProjectorCounts(msgspec.Struct):
    """What this projector did since it was made, for metrics.

    ``damaged`` pieces of segments held no readable record; ``refused`` records were read, but the database would not
    have them; ``failures`` are attempts that have been or will be repeated.
    """

    projected: int = 0
    damaged: int = 0
    refused: int = 0
    failures: int = 0


class _Batch:
    """What one transaction brings: records, and the segments' rows as they stand behind them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.records: list[RequestRecord] = []
        self.charged: list[tuple[str, RequestRecord]] = []  # those that budgets bind, with their process' tag
        self.damages: list[Damage] = []
        self.rows: dict[str, SegmentRow] = {}

    def room(self) -> int:
        """How many more lines may be read."""
        return self.limit - len(self.records) - len(self.damages)


class HighRate(Protocol):
    """Projects in the projector's place while the rate is high (accounting/burst.py)."""

    lag_bytes: int | None

    async def run(self, stop: asyncio.Event) -> ProjectorCounts:
        """Return what was done when the rate is low again, or ``stop`` is set. Raises OSError when it can't."""
        ...


class Projector:
    """Reads every segment in ``directory`` and writes to ``database``; supervise `run`, call `drain` at the end."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        clock: Clock,
        *,
        batch_rows: int,
        retention_days: float,
        plan_days: float = 2.0,
    ) -> None:
        self.counts: Final = ProjectorCounts()
        self._database = database
        self._directory = directory
        self._clock = clock
        self._batch_rows = batch_rows
        self._retention_us = int(retention_days * _DAY_US)
        self._plans_us = int(plan_days * _DAY_US)
        self._requests = RequestRepository(database)
        self._ledger = LedgerRepository(database)
        self._figures = EndpointFigures(database)
        self._key_usage = KeyUsageRepository(database)
        self._usage_sums = UsageSums(database)
        self._combo_days = ComboDays(database)
        self._segments = SegmentRepository(database)
        self._keys = KeyRepository(database)
        self._nodes = NodeRepository(database)
        self.budgets = BudgetBooks(database, directory, clock)
        self._high_rate: HighRate | None = None
        self._full_batches = 0
        self._alone_until = self._prune_at = 0.0  # on the monotonic clock: nothing is handed over or pruned before
        self._stopping = asyncio.Event()
        self._known: dict[str, SegmentRow] = {}
        self._unreadable: set[str] = set()
        self._one_by_one = 0  # so many of the next batches hold one record each, to find the one that is refused

    async def step(self, most: int | None = None) -> int:
        """Project up to one batch, or ``most`` records; gives how many. Raises StorageError; nothing is lost then."""
        before = self.counts.projected
        await self._project(most)
        return self.counts.projected - before

    async def drain(self) -> None:
        """Project until nothing is left. Raises StorageError; nothing is lost then."""
        while (await self._project()).rows:
            pass

    def stop(self) -> None:
        """Let `run` return after the batch in hand: cancelling it could leave a transaction open."""
        self._stopping.set()

    async def run(self, interval: float, high_rate: HighRate | None = None) -> None:
        """Project every ``interval`` seconds until `stop`, and prune now and then. What fails is tried again.

        While records come too fast to project them beside requests, ``high_rate`` does it.
        After a full batch it rests four times as long as the batch took: requests come first, the journal can wait.
        """
        self._high_rate = high_rate
        pause = _FIRST_PAUSE_SECONDS
        begun = False  # a batch comes first, which tells whether the database can be written at all
        while not self._stopping.is_set():
            begin = self._clock.monotonic()
            try:
                if high_rate is not None and begun and self._is_behind():
                    begun = False
                    await self._hand_over(high_rate)
                    continue
                batch = await self._project()
                begun = True
                await self._tidy()
            except Exception as error:  # noqa: BLE001 - nothing would be stored any more if this ended
                begun = False
                self._failed("projection failed, will be repeated", error, pause_seconds=pause)
                await rest(self._stopping, pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _FIRST_PAUSE_SECONDS
                full = batch.room() <= 0 and not self._one_by_one
                self._full_batches = self._full_batches + 1 if full else 0
                spent = self._clock.monotonic() - begin
                await rest(self._stopping, interval if batch.room() > 0 else min(interval, spent * _REST_FACTOR))

    def _is_behind(self) -> bool:
        """Whether records come faster than they should be projected beside requests."""
        if self._clock.monotonic() < self._alone_until:
            return False
        lag = self.lag()
        return self._full_batches >= _BURST_BATCHES or lag.bytes - lag.unreadable > FAR_BEHIND_BYTES

    async def _hand_over(self, high_rate: HighRate) -> None:
        """Let another process do it for a while, and tidy up beside; then go on from where the database says."""
        self._full_batches = 0
        done = ProjectorCounts()
        other = asyncio.create_task(high_rate.run(self._stopping))
        try:
            while not (await asyncio.wait((other,), timeout=_TIDY_SECONDS))[0]:
                await self._tidy_beside()
            done = other.result()
        except Exception as error:  # noqa: BLE001 - then it is done here
            self._failed("no process for projection at a high rate", error)
        finally:
            other.cancel()
            await asyncio.wait((other,))
        if not done.projected:
            self._alone_until = self._clock.monotonic() + _ALONE_SECONDS
        await self._learn_again()
        for name in ProjectorCounts.__struct_fields__:
            setattr(self.counts, name, getattr(self.counts, name) + getattr(done, name))

    async def _tidy(self) -> None:
        """Release when a process may have ended, and prune when it is time. Raises StorageError, OSError."""
        if self.budgets.ended:
            await self.release()
        if self._clock.monotonic() >= self._prune_at:
            await self.prune()
            self._prune_at = self._clock.monotonic() + _PRUNE_SECONDS

    async def _tidy_beside(self) -> None:
        """Tidy up while another process projects: a high rate may last for days. What fails is tried the next time."""
        try:
            await self._learn_again()
            await self._tidy()
        except Exception as error:  # noqa: BLE001 - the other process must go on
            self._failed("tidying up beside a high rate failed, will be repeated", error)

    def _failed(self, what: str, error: Exception, **details: float) -> None:
        """Count it and tell; of what nobody expects, also where it came from."""
        self.counts.failures += 1
        is_known = isinstance(error, (StorageError, OSError))
        _log.warning(what, error=str(error), exc_info=None if is_known else error, **details)

    async def _learn_again(self) -> None:
        """Know where each segment stands, after another process has moved them. Raises StorageError."""
        self.budgets.ended = True
        names = list_segments(self._directory)
        known = {name: row for name, row in self._known.items() if row.finished}  # of these nothing can change
        try:
            rows = known | await self._segments.load([name for name in names if name not in known])
        except BaseException:
            self._known = {}  # ask the database again
            raise
        self._known = {name: rows.get(name) or SegmentRow(name=name) for name in names}

    def lag(self) -> Lag:
        """What still waits for the database, as far as this projector knows."""
        if self._high_rate is not None and self._high_rate.lag_bytes is not None:
            return Lag(bytes=self._high_rate.lag_bytes, segments=1)
        sizes = {name: self._waiting_bytes(name) for name in list_segments(self._directory)}
        waiting = {name: size for name, size in sizes.items() if size > 0}
        unreadable = sum(size for name, size in waiting.items() if name in self._unreadable)
        return Lag(bytes=sum(waiting.values()), segments=len(waiting), unreadable=unreadable)

    @property
    def one_by_one(self) -> bool:
        """Whether the next batch holds one record, since the database refused one among those that come."""
        return self._one_by_one > 0

    def _waiting_bytes(self, name: str) -> int:
        known = self._known.get(name)
        if known is not None and known.finished:
            return 0
        try:
            size = os.stat(self._directory / name).st_size
        except OSError:
            return 0
        return size - (0 if known is None else known.position)

    async def _project(self, most: int | None = None) -> _Batch:
        """Bring one batch into the database; gives what it was, without ``rows`` when there was nothing."""
        batch = await self._collect(1 if self._one_by_one else most or self._batch_rows)
        if not batch.rows:
            self._one_by_one = 0
            return batch
        try:
            await self._store(batch, batch.records)
        except (AlreadyExistsError, StorageError) as error:
            if isinstance(error, StorageError) and not error.refused:
                raise
            await self._set_aside(batch, error)
        else:
            self.counts.projected += len(batch.records)
            self._one_by_one = max(0, self._one_by_one - 1)
        return batch

    async def _collect(self, limit: int) -> _Batch:
        """Read on in every segment that may hold more, oldest first."""
        batch = _Batch(limit)
        names = list_segments(self._directory)
        await self._learn(names)
        for name in names:
            if not self._known[name].finished and batch.room() > 0:
                try:
                    await self._read(name, batch)
                    self._unreadable.discard(name)
                except FileNotFoundError:
                    continue  # pruned by another process
                except OSError as error:
                    if name not in self._unreadable:
                        self._unreadable.add(name)
                        _log.error("a journal segment can't be read", segment=name, error=error.strerror)
        return batch

    async def _learn(self, names: list[str]) -> None:
        """Know where each of ``names`` stands, and forget every other."""
        unknown = [name for name in names if name not in self._known]
        rows = await self._segments.load(unknown) if unknown else {}
        self._known = {name: self._known.get(name) or rows.get(name) or SegmentRow(name=name) for name in names}

    async def _read(self, name: str, batch: _Batch) -> None:
        path, row = self._directory / name, self._known[name]
        live = is_live(path)  # before reading: what is dead now can't grow behind our back
        while batch.room() > 0:
            part = read_segment(path, row.position, min(batch.room(), _SLICE_LINES), live=live)
            finished = part.at_end and not live
            if part.position != row.position or finished:
                row = msgspec.structs.replace(
                    row,
                    position=part.position,
                    records=row.records + len(part.records),
                    damaged=row.damaged + len(part.damages),
                    finished=finished,
                    updated_at=self._clock.now_us(),
                )
                batch.rows[name] = row
                batch.records += part.records
                batch.charged += [(tag_of(name), record) for record in part.records if record.charges is not None]
                batch.damages += part.damages
            if part.at_end:
                return
            await asyncio.sleep(0)

    async def _store(self, batch: _Batch, records: list[RequestRecord]) -> None:
        last_used: dict[str, int] = {}
        for record in records:
            if record.key_id is not None and record.created_at > last_used.get(record.key_id, 0):
                last_used[record.key_id] = record.created_at
        try:
            async with self._database.write() as connection:
                stored = await self._requests.insert_many(connection, records)
                for draft in usage_drafts(stored.records):
                    await self._ledger.post(connection, draft, Range(stored.first, stored.last))
                if stored.records and batch.charged:
                    await self.budgets.book(connection, batch.charged, stored.records)
                await self._figures.add(connection, stored.records, self._clock.now_us())
                await self._key_usage.add(connection, stored.records)
                await self._usage_sums.add(connection, stored.records)
                await self._combo_days.add(connection, stored.records)
                await self._segments.save(connection, batch.rows.values())
                await self._keys.touch(connection, last_used)
        except BaseException:
            self._known = {}  # ask the database where we are
            raise
        self._known = self._known | batch.rows
        if any(row.finished for row in batch.rows.values()):
            self.budgets.ended = True
        self.counts.damaged += len(batch.damages)
        for damage in batch.damages:
            _log.error("damage in the journal", **msgspec.structs.asdict(damage))

    async def release(self) -> int:
        """Take back what processes hold of budgets that are gone and of which every record is stored; gives how many.

        Raises StorageError.
        """
        at_end = {name for name, row in self._known.items() if row.finished}
        return await self.budgets.release(at_end)

    async def _set_aside(self, batch: _Batch, error: Exception) -> None:
        """The database refused something in the batch: find it by going one by one, then go on behind it."""
        if batch.limit > 1:
            self._one_by_one = len(batch.records)
            return
        for record in batch.records:
            _log.error("the database refuses a request record", request_id=record.request_id, error=str(error))
        await self._store(batch, [])
        self.counts.refused += len(batch.records)
        self._one_by_one = max(0, self._one_by_one - 1)

    async def prune(self) -> int:
        """Delete segments that were finished longer ago than the retention, old routing decisions, nodes that died.

        Gives the number of segments. Raises StorageError.
        """
        names = list_segments(self._directory)
        await self._learn(names)
        before = self._clock.now_us() - self._retention_us
        old = [name for name in names if self._known[name].finished and self._known[name].updated_at < before]
        for name in old:
            (self._directory / name).unlink(missing_ok=True)
        if old:
            await self._segments.forget(old)
        while (
            await self._requests.forget_plans(self._clock.now_us() - self._plans_us, _PLANS_AT_ONCE) == _PLANS_AT_ONCE
        ):
            pass
        await self._figures.forget(self._clock.now_us())
        await self._combo_days.forget(self._clock.now_us())
        await self._nodes.forget(self._clock.now_us() - _NODES_US)
        self._prune_drafts()
        await self.budgets.prune()
        return len(old)

    def _prune_drafts(self) -> None:
        """Delete the segments of processes that died while they made them."""
        before = self._clock.now_us() - _DRAFT_US
        for draft in self._directory.glob(f"*{DRAFT_SUFFIX}"):
            try:
                if draft.stat().st_mtime_ns // 1000 < before and not is_live(draft):
                    draft.unlink()
            except FileNotFoundError:
                continue
