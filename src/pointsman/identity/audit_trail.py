"""Writes the audit log: one row for each deed, sealed with a key of the installation, behind the last row of all.

Where the log ends is noted in three places: in the last row, in a sealed record of the database, and in a file of each
data directory. Whoever takes rows away would have to change all three, on every node.
"""

import asyncio
import fcntl
import hmac
import os
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from pointsman.canonical.audit import START, Entry, Link, digest_input, row_hash
from pointsman.clock import Clock
from pointsman.identity.credentials import kind_of
from pointsman.keyring import AUDIT_PURPOSE, MasterKey
from pointsman.logs import redact_text
from pointsman.storage.audit import AuditRepository, Head
from pointsman.storage.database import AlreadyExistsError, StorageError

DIGEST_PURPOSE: Final = "audit-digest"
_ID: Final = re.compile(r"[\w.:@/+*~-]{1,200}")
HEAD_FILE: Final = "audit.head"
# Rows of operations that changed nothing, of callers whom nobody knows and of others. More are counted and make one
# row: the log is for ever, and nobody shall fill it by asking.
STRANGERS_PER_MINUTE: Final = 60
KNOWN_PER_MINUTE: Final = 600
MINUTE_SECONDS: Final = 60.0
SUPPRESSED: Final = "audit.suppressed"
log = structlog.get_logger("pointsman.audit")


class KnownEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What a data directory knows of the log's end: the number and hash of the last row that was written from here."""

    sequence: int
    hash: str
    first: str  # of the chain's first row, which tells one database's log from another's


class AuditTrail:
    """The one way into the log. Every method is safe beside other processes."""

    def __init__(self, repository: AuditRepository, master: MasterKey, clock: Clock, data_dir: Path) -> None:
        self.repository = repository
        self._master = master
        self._clock = clock
        self._path = data_dir / HEAD_FILE
        self._first: str | None = None
        self._minute = float("-inf")  # when the present one began
        self._unchanged = {False: 0, True: 0}  # rows in this minute; of callers who are known
        self._suppressed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.rows: Final = {"written": 0, "failed": 0}  # failed: the database would not take them

    def now_us(self) -> int:
        """The instant that a row gets."""
        return self._clock.now_us()

    def digest(self, body: Any) -> str:
        """A keyed hash of what was sent, without what may be secret: equal for equal content."""
        key = self._master.derive(DIGEST_PURPOSE)
        return hmac.digest(key, digest_input(body), "sha256").hex()

    def mark(self, text: str) -> str:
        """What stands in place of a caller's word that names nothing: tells it from others, and no more."""
        return f"~{self._master.mark(DIGEST_PURPOSE, text)}"

    def object_name(self, text: str, *, known: bool) -> str:
        """How an object stands in a row: by its id when there is such a thing and it is no credential, else marked."""
        plain = known and _ID.fullmatch(text) and kind_of(text) is None and redact_text(text) == text
        return text if plain else self.mark(text)

    def object_names(self, object_id: str) -> tuple[str, ...]:
        """All that `object_name` may have made of an id."""
        return object_id, self.mark(object_id)

    async def record(self, entry: Entry) -> Link:
        """Write a row. Raises StorageError."""
        link = await self.repository.append(entry, self._link)
        self.rows["written"] += 1
        await self._note_end(link)
        return link

    async def note(self, entry: Entry) -> None:
        """Write a row of something that has happened and can't be undone for want of it: a failure is logged."""
        try:
            await self.record(entry)
        except (StorageError, AlreadyExistsError) as error:
            self.rows["failed"] += 1
            log.error("not in the audit log", action=entry.action, outcome=entry.outcome, reason=str(error))

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do what ends with a row, even if whoever asks is cancelled; `aclose` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def note_unchanged(self, entry: Entry) -> None:
        """As `note` for what changed nothing, such as a refusal: of too many in a minute one row tells the number."""
        now = self._clock.monotonic()
        if now - self._minute >= MINUTE_SECONDS:
            self._minute, self._unchanged = now, {False: 0, True: 0}
        known = entry.credential_id is not None
        self._unchanged[known] += 1
        if self._unchanged[known] <= (KNOWN_PER_MINUTE if known else STRANGERS_PER_MINUTE):
            await self.note(entry)
            return
        self._suppressed += 1
        if self._timer is None:
            seconds = max(0.0, self._minute + MINUTE_SECONDS - now)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._tell_suppressed)

    async def aclose(self) -> None:
        """Write what is still to be written."""
        self._tell_suppressed()
        await asyncio.gather(*self._tasks)

    def seal(self, key_id: str, sequence: int, digest: bytes, *, head: bool) -> bytes | None:
        """The keyed half of a row or of the head; None when the key of then is not known."""
        key = self._master.derive_of(key_id, AUDIT_PURPOSE)
        if key is None:
            return None
        kind = b"head" if head else b"row"
        return hmac.digest(key, kind + sequence.to_bytes(8, "big") + digest, "sha256")

    def known_end(self) -> KnownEnd | None:
        """What this data directory knows of the log's end; None when nothing was written from here. Raises OSError."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=KnownEnd)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _link(self, sequence: int, previous: bytes, entry: Entry) -> tuple[Link, Head]:
        key_id = self._master.id
        digest = row_hash(sequence, key_id, previous, entry)
        row_seal = self.seal(key_id, sequence, digest, head=False)
        head_seal = self.seal(key_id, sequence, digest, head=True)
        assert row_seal is not None, "the current key is always known"
        assert head_seal is not None, "the current key is always known"
        link = Link(sequence=sequence, key_id=key_id, previous=previous, hash=digest, seal=row_seal)
        return link, Head(sequence=sequence, hash=digest, key_id=key_id, seal=head_seal)

    async def _note_end(self, link: Link) -> None:
        if self._first is None:
            first = link.hash if link.previous == START else await self.repository.hash_at(1)
            self._first = (first or b"").hex()
        end = KnownEnd(sequence=link.sequence, hash=link.hash.hex(), first=self._first)
        try:
            self._write_end(end)
        except OSError as error:
            log.warning("the end of the audit log is not noted here", path=str(self._path), reason=str(error))

    def _write_end(self, end: KnownEnd) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # another worker's row may be a later one
            known = self.known_end()
            if known is None or known.first != end.first or known.sequence < end.sequence:
                text = msgspec.json.encode(end)
                os.pwrite(descriptor, text, 0)
                os.ftruncate(descriptor, len(text))
        finally:
            os.close(descriptor)

    def _tell_suppressed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._suppressed:
            count, self._suppressed = self._suppressed, 0
            entry = Entry(
                at=self.now_us(), source="server", action=SUPPRESSED, outcome="refused", status=0, count=count
            )
            self.keep(self.note(entry))
