"""Looks up keys that this process doesn't know: in batches, once for all who present the same one.

What is no key is remembered for some seconds. Who presents many such things has to wait (identity/guessing.py).
"""

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Final, Protocol

import structlog

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.identity.key_source import Found
from pointsman.identity.key_table import KeyTable
from pointsman.identity.keys import Key
from pointsman.storage.database import StorageError

BATCH: Final = 200
MOST_WAITING: Final = 10_000
MOST_WAITING_BYTES: Final = 128 * 1024 * 1024  # of requests; a database that does not answer must not cost more
MOST_UNKNOWN: Final = 10_000
UNKNOWN_SECONDS: Final = 10.0
# A key that was just made is known here when this process has the configuration in which it was made.
EFFECT_SECONDS: Final = 5.0
EFFECT_POLL_SECONDS: Final = 0.01
log = structlog.get_logger("pointsman.keys")


class Source(Protocol):
    """Where keys are read (identity/key_source.py)."""

    async def look_up(self, digests: list[bytes]) -> tuple[Found, ...]:
        """The valid keys with these digests. Raises StorageError."""
        ...

    async def by_id(self, key_id: str) -> Found | None:
        """The valid key with this id. Raises StorageError."""
        ...


class LateKeys:
    """Has the table learn keys when they are first presented."""

    def __init__(self, table: KeyTable, source: Source, clock: Clock) -> None:
        self.table = table
        self._source = source
        self._clock = clock
        self._unknown: OrderedDict[bytes, float] = OrderedDict()  # digests of what is no key, and until when
        self._revision = 0  # of the configuration in which these are none
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._tokens: dict[bytes, bytes] = {}  # of those that wait, what may be a token and no key
        self._waiting_bytes = 0
        self._work: asyncio.Task[None] | None = None

    def is_known(self, presented: bytes, now_us: int) -> bool:
        """Whether the table can say at once what this is."""
        table = self.table
        if table.find(presented) is not None or table.find_any(presented) is not None:
            return True
        if is_like_token(presented) and table.verify(presented, now_us) is not None:
            return True
        return self._is_unknown(table.digest(presented))

    async def learn(self, presented: bytes, body_bytes: int = 0) -> None:
        """Look one up; what is no key is left to whoever asks the table. ``body_bytes`` are what the request holds.

        Raises GatewayError: OVERLOADED, and NOT_READY without a database.
        """
        if body_bytes and self._waiting_bytes and self._waiting_bytes + body_bytes > MOST_WAITING_BYTES:
            raise _too_many()
        self._waiting_bytes += body_bytes
        try:
            await asyncio.shield(self.begin(presented))
        finally:
            self._waiting_bytes -= body_bytes

    def begin(self, presented: bytes) -> asyncio.Future[None]:
        """As `learn`, without waiting for it. Raises GatewayError(OVERLOADED)."""
        digest = self.table.digest(presented)
        future = self._waiting.get(digest)
        if future is None:
            if len(self._waiting) >= MOST_WAITING:
                raise _too_many()
            future = self._waiting[digest] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_retrieve)
            if is_like_token(presented):
                self._tokens[digest] = presented
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._run(), name="late keys")
        return future

    async def by_id(self, key_id: str) -> Key | None:
        """The valid key with this id. Raises GatewayError(NOT_READY) without a database."""
        found = self.table.by_id(key_id)
        while found is None and not self.table.whole:
            revision = self.table.revision
            try:
                late = await self._source.by_id(key_id)
            except StorageError as error:
                raise _away(error) from error
            if revision == self.table.revision:
                return late.known.key if late is not None and late.revision <= revision else None
            found = self.table.by_id(key_id)
        return found

    def close(self) -> None:
        """Look for nothing more; whoever waits is told to come again."""
        if self._work is not None:
            self._work.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(GatewayError(Kind.NOT_READY, "the server stops", retry_after_seconds=1))

    async def _run(self) -> None:
        began: dict[bytes, float] = {}
        while self._waiting:
            batch = list(islice(self._waiting, min(BATCH, self.table.most)))  # more would push each other out
            revision = self.table.revision
            try:
                found = await self._source.look_up(batch)
                people = await self._learn_people(batch)
            except StorageError as error:
                self._end(batch, _away(error))
                continue
            if revision != self.table.revision:
                continue  # what was read may be older than what is in effect
            early = {one.known.digest for one in found if one.revision > revision}
            self.table.learn(one.known for one in found if one.known.digest not in early)
            self._note_unknown(set(batch) - people - {one.known.digest for one in found})
            self._end([digest for digest in batch if digest not in early], None)
            if early:
                await self._await_effect(early, began)

    async def _learn_people(self, batch: list[bytes]) -> set[bytes]:
        """Have the table know whom the tokens among these speak for; gives the good ones. Raises StorageError."""
        tokens = {digest: self._tokens[digest] for digest in batch if digest in self._tokens}
        if not tokens:
            return set()
        now = self._clock.now_us()
        await self.table.learn_people(list(tokens.values()), now)
        good = set()
        for digest, presented in tokens.items():
            if self.table.verify(presented, now) is not None:
                good.add(digest)
            await asyncio.sleep(0)  # each takes a while, when it is checked for the first time
        return good

    async def _await_effect(self, early: set[bytes], began: dict[bytes, float]) -> None:
        """Others get their turn while a change makes its way to here; for one that never comes nobody waits."""
        now = self._clock.monotonic()
        for digest in early:
            self._waiting[digest] = self._waiting.pop(digest)
        late = [digest for digest in early if now - began.setdefault(digest, now) > EFFECT_SECONDS]
        self._end(late, GatewayError(Kind.NOT_READY, "this key is not in effect yet", retry_after_seconds=1))
        await asyncio.sleep(EFFECT_POLL_SECONDS)

    def _end(self, digests: list[bytes], error: GatewayError | None) -> None:
        for digest in digests:
            future = self._waiting.pop(digest)
            self._tokens.pop(digest, None)
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _note_unknown(self, digests: set[bytes]) -> None:
        self._forget_old()
        until = self._clock.monotonic() + UNKNOWN_SECONDS
        for digest in digests:
            self._unknown[digest] = until
        while len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)

    def _is_unknown(self, digest: bytes) -> bool:
        self._forget_old()
        return self._unknown.get(digest, 0.0) > self._clock.monotonic()

    def _forget_old(self) -> None:
        """What was no key in an older configuration may be one now."""
        if self._revision != self.table.revision:
            self._revision = self.table.revision
            self._unknown.clear()


def is_like_token(presented: bytes) -> bool:
    """Whether this could be a signed token, which has three parts (RFC 7519), and what it is good for in one."""
    return presented.count(b".") == 2


def _too_many() -> GatewayError:
    return GatewayError(Kind.OVERLOADED, "too many new keys at once", retry_after_seconds=1)


def _away(error: StorageError) -> GatewayError:
    log.warning("key not looked up", reason=str(error))
    return GatewayError(Kind.NOT_READY, "keys can't be looked up now", retry_after_seconds=2)


def _retrieve(future: asyncio.Future[None]) -> None:
    """Nobody may be left to hear of an error."""
    if not future.cancelled():
        future.exception()
