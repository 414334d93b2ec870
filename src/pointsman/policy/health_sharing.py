"""Carries the states of the health book to the database and from there to other processes and later lives.

Nothing of it is on the way of a request: the book notes what has changed, and this looks every quarter of a second.
"""

from typing import Final, get_args

from pointsman.clock import Clock
from pointsman.policy.rounds import Rounds
from pointsman.routing.health import HealthBook
from pointsman.routing.health_states import Change, Scope
from pointsman.storage.database import StorageError
from pointsman.storage.health import HealthRepository, HealthRow

SHARE_SECONDS: Final = 0.25
TIDY_SECONDS: Final = 5.0
GONE_AFTER: Final = 3600 * 1_000_000  # us that a row stays which says that nothing is amiss: all have read it by then
_SCOPES: Final = get_args(Scope)


class HealthSharing:
    """One process' end of it; ``writer`` names the process."""

    def __init__(self, repository: HealthRepository, book: HealthBook, clock: Clock, writer: str) -> None:
        self._repository = repository
        self._book = book
        self._clock = clock
        self._writer = writer
        self._seen = 0
        self._tidied = 0.0
        self._rounds = Rounds(SHARE_SECONDS, "states of health")

    async def load(self) -> None:
        """Take over what an earlier life or another process has seen. Raises StorageError."""
        self._seen, rows = await self._repository.since(0)
        self._book.adopt([_change(row) for row in rows if row.scope in _SCOPES])
        self._book.tidy(self._clock.now_us())

    async def run(self) -> None:
        """Until `stop`; what has changed is written before the end."""
        await self._rounds.run(self.step)

    def stop(self) -> None:
        """Write for the last time, then end."""
        self._rounds.stop()

    async def step(self) -> None:
        """Write what has changed here, read what has changed elsewhere. Raises StorageError; nothing is lost then."""
        now = self._clock.monotonic()
        if not self._book.quiet and now - self._tidied > TIDY_SECONDS:
            self._tidied = now
            self._book.tidy(self._clock.now_us())
        changes = self._book.take_changes()
        if changes:
            try:
                await self._repository.put([self._row(change) for change in changes], self._clock.now_us() - GONE_AFTER)
            except StorageError:
                self._book.put_back(changes)
                raise
        if await self._repository.revision() != self._seen:
            self._seen, rows = await self._repository.since(self._seen)
            self._book.adopt([_change(row) for row in rows if row.writer != self._writer and row.scope in _SCOPES])

    def _row(self, change: Change) -> HealthRow:
        return HealthRow(
            scope=change.scope,
            name=change.name,
            document=change.document.decode(),
            changed_at=change.at,
            writer=self._writer,
        )


def _change(row: HealthRow) -> Change:
    scope: Scope = row.scope  # type: ignore[assignment]
    return Change(scope=scope, name=row.name, at=row.changed_at, document=row.document.encode())
