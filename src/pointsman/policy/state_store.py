"""The durable side of the vault, and of kept answers: entries in the database, sealed, that workers and nodes share.

Nothing here is on a request's path but `StateStore.put`, which queues, and `StateStore.find`, which waits for a bounded
time. A write that is lost is one entry that is missed later, and is counted.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog

from pointsman.clock import Clock, rest
from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey
from pointsman.policy.opaque_state import Kept
from pointsman.storage.database import AlreadyExistsError, StorageError
from pointsman.storage.opaque_states import StateRepository, StateRow

PURPOSE: Final = "opaque-state"  # of the key that seals; with "-names", of the one that names are hashed with
BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 2 * 1024 * 1024
QUEUE_ENTRIES: Final = 10_000
QUEUE_BYTES: Final = 16 * 1024 * 1024
MAX_READS: Final = 64  # at once, those included that nobody waits for any more
REST_SECONDS: Final = 1.0  # nobody asks for so long a database that did not answer
LONGEST_PAUSE_SECONDS: Final = 15.0
DRAIN_SECONDS: Final = 3.0
SWEEP_SECONDS: Final = 30.0
SWEEP_ROWS: Final = 500  # in one transaction
_SLICE: Final = 20  # sealed at a stretch; then requests get their turn
log = structlog.get_logger("pointsman.vault")


class StateBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept: seconds that an entry lives, entries of a workspace, bytes of all together; seconds that a
    request waits for the database.
    """

    lifetime_seconds: float = 86_400.0
    max_per_workspace: int = 20_000
    max_bytes: int = 1024 * 1024 * 1024
    read_seconds: float = 0.25


class StateStore:
    """`opaque_state.Store` over the database: a queue of writes, bounded reads, and the deletion of what is old."""

    def __init__(
        self,
        repository: StateRepository,
        key: MasterKey,
        clock: Clock,
        bounds: StateBounds,
        purpose: str = PURPOSE,
    ) -> None:
        """``purpose`` tells stores in one table apart: an entry opens in its own alone."""
        self._purpose = purpose
        self._repository = repository
        self._key = key
        self._clock = clock
        self._bounds = bounds
        self._queue: OrderedDict[tuple[str, bytes], tuple[bytes, int]] = OrderedDict()  # the entry, its last instant
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reads: set[asyncio.Task[Mapping[bytes, Kept] | None]] = set()
        self._resting_until = 0.0
        self.names_secret: Final = key.derive(f"{purpose}-names")
        self.writes: Final = {"written": 0, "failed": 0, "lost": 0}  # failed: will be tried again, or lost
        self.reads: Final = {"found": 0, "missing": 0, "unread": 0}

    @property
    def queued(self) -> int:
        """Entries that wait for the database."""
        return len(self._queue)

    def put(self, workspace_id: str, key: bytes, data: bytes, seconds: float | None = None) -> None:
        """Queue an entry for ``seconds`` (None: as long as all); beyond the queue's bounds the oldest is lost."""
        name, lifetime = (workspace_id, key), self._bounds.lifetime_seconds if seconds is None else seconds
        self._forget(name)
        self._queue[name] = (data, self._clock.now_us() + int(lifetime * 1e6))
        self._queued_bytes += len(data)
        while len(self._queue) > QUEUE_ENTRIES or self._queued_bytes > QUEUE_BYTES:
            self._forget(next(iter(self._queue)))
            self.writes["lost"] += 1
        self._wake.set()

    def _forget(self, name: tuple[str, bytes]) -> None:
        known = self._queue.pop(name, None)
        if known is not None:
            self._queued_bytes -= len(known[0])

    # reading

    async def find(self, workspace_id: str, keys: Sequence[bytes]) -> Mapping[bytes, Kept] | None:
        """The workspace's entries of these keys; None when the database does not answer in time.

        A read that takes longer goes on by itself: to break it off would cost a connection.
        """
        found: Mapping[bytes, Kept] | None = None
        if len(self._reads) < MAX_READS and self._clock.monotonic() >= self._resting_until:
            task = asyncio.get_running_loop().create_task(self._read(workspace_id, keys))
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)
            done, _ = await asyncio.wait((task,), timeout=self._bounds.read_seconds)
            if done:
                found = task.result()
            if found is None:
                self._resting_until = self._clock.monotonic() + REST_SECONDS
        if found is None:
            self.reads["unread"] += 1
        else:
            self.reads["found" if found else "missing"] += 1
        return found

    async def _read(self, workspace_id: str, keys: Sequence[bytes]) -> Mapping[bytes, Kept] | None:
        now = self._clock.now_us()
        try:
            rows = await self._repository.find(workspace_id, keys, now)
        except StorageError as error:
            log.warning("kept state can't be read", purpose=self._purpose, reason=str(error))
            return None
        found = {}
        for row in rows:
            try:
                data = self._key.open_bytes(self._purpose, owner_of(row.workspace_id, row.key), row.sealed)
            except ConfigError as error:
                log.warning("kept state can't be opened", purpose=self._purpose, reason=str(error))
            else:
                found[row.key] = Kept(data, (row.expires_at - now) / 1e6)
        return found

    # writing

    def stop(self) -> None:
        """Let `run` write what is queued and return."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Write what comes, until `stop`. What fails is tried again, less and less often, while the queue has room.

        There is no delay: while one batch is written the next one gathers.
        """
        pause = REST_SECONDS
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._stopping.is_set():
                if await self._write_batch():
                    pause = REST_SECONDS
                    continue
                await rest(self._stopping, pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        await self._drain()

    async def _drain(self) -> None:
        deadline = self._clock.monotonic() + DRAIN_SECONDS
        while self._queue and self._clock.monotonic() < deadline and await self._write_batch():
            pass
        if self._queue:
            log.warning("state was not kept beyond this process", purpose=self._purpose, entries=len(self._queue))
            self.writes["lost"] += len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)

    async def _write_batch(self) -> bool:
        """Write the oldest entries of the queue; False when the database would not and they are queued still."""
        batch = self._oldest()
        rows = []
        for number, ((workspace_id, key), (data, expires_at)) in enumerate(batch.items(), 1):
            sealed = self._key.seal_bytes(self._purpose, owner_of(workspace_id, key), data)
            rows.append(StateRow(workspace_id=workspace_id, key=key, sealed=sealed, expires_at=expires_at))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        try:
            await self._repository.put(rows, self._bounds.max_per_workspace)
        except (StorageError, AlreadyExistsError) as error:
            log.warning("state is not written", purpose=self._purpose, reason=str(error), entries=len(rows))
            if isinstance(error, StorageError) and not error.refused:
                self.writes["failed"] += len(rows)
                return False
            self.writes["lost"] += len(rows)  # the database will never take them
        else:
            self.writes["written"] += len(rows)
        for name, entry in batch.items():
            if self._queue.get(name) is entry:  # not replaced meanwhile
                self._forget(name)
        return True

    def _oldest(self) -> dict[tuple[str, bytes], tuple[bytes, int]]:
        batch: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        size = 0
        for name, entry in self._queue.items():
            size += len(entry[0])
            if batch and (len(batch) >= BATCH_ROWS or size > BATCH_BYTES):
                break
            batch[name] = entry
        return batch

    # housekeeping, by one process

    async def sweep(self) -> int:
        """Delete what is too old, and the oldest of what is too much; gives how many. Raises StorageError."""
        deleted = 0
        for step in (self._expire, self._shrink):
            while count := await step():
                deleted += count
                await asyncio.sleep(0)
        return deleted

    async def sweep_until(self, stopping: asyncio.Event) -> None:
        """Sweep now and then."""
        while not stopping.is_set():
            try:
                await self.sweep()
            except StorageError as error:
                log.warning("kept state is not swept", reason=str(error))
            try:
                async with asyncio.timeout(SWEEP_SECONDS):
                    await stopping.wait()
            except TimeoutError:
                pass

    async def _expire(self) -> int:
        return await self._repository.forget_expired(self._clock.now_us(), SWEEP_ROWS)

    async def _shrink(self) -> int:
        return await self._repository.shrink(self._bounds.max_bytes, SWEEP_ROWS)


def owner_of(workspace_id: str, key: bytes) -> str:
    """What an entry is sealed for: it opens in no other workspace and under no other name."""
    return f"{workspace_id}/{key.hex()}"
