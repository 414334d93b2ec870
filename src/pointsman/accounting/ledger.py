"""Takes settled records in: journal first, then request log. A full disk stops new calls and loses no record."""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from pointsman.accounting.journal import Journal, JournalError, UnwritableRecordError
from pointsman.canonical.record import RequestRecord

log = structlog.get_logger("pointsman.ledger")
CLOSED: Final = "the request journal can't be written (is the disk full?); no call is taken until it can"


class Ledger:
    """Records are durable when `write` returns. When the journal can't be written they are parked in memory and
    ``closed_reason`` refuses further calls, so only those in flight are parked; refusals are counted in ``dropped``.
    `retry` opens it again.
    """

    def __init__(self, journal: Journal, log_line: Callable[[bytes], None] | None) -> None:
        self._journal = journal
        self._log_line = log_line
        self._parked: list[RequestRecord] = []
        self.dropped = 0
        self.closed_reason: str | None = None

    @property
    def parked(self) -> int:
        """Records that wait for the journal to be writable again."""
        return len(self._parked)

    def write(self, record: RequestRecord, *, quiet: bool = False) -> None:
        """Append a record; ``log_line`` gets its JSON, unless ``quiet``. Never fails: what can't be written now is
        parked.
        """
        try:
            payload: bytes | None = self._journal.append(record)
        except UnwritableRecordError as error:
            payload = self._append_cut(record, error)
        except JournalError as error:
            self._park(record, error)
            return
        if payload is not None and self._log_line is not None and not quiet:
            if record.plan is not None:  # not for a log's reader
                payload = msgspec.json.encode(msgspec.structs.replace(record, plan=None))
            self._log_line(payload)

    def note(self, record: RequestRecord) -> None:
        """Log a record of nobody's, without keeping it."""
        if self._log_line is not None:
            self._log_line(msgspec.json.encode(record))

    def _append_cut(self, record: RequestRecord, reason: UnwritableRecordError) -> bytes | None:
        """A record that can never be written is cut to its figures, and given up when that isn't enough."""
        log.error("record cut to be written", request_id=record.request_id, reason=str(reason))
        try:
            return self._journal.append(_without_texts(record))
        except UnwritableRecordError as error:
            log.error("record given up", request_id=record.request_id, reason=str(error))
        except JournalError as error:
            self._park(record, error)
        return None

    def _park(self, record: RequestRecord, error: JournalError) -> None:
        first = self.closed_reason is None
        self.closed_reason = CLOSED
        if record.connection_id is None:
            self.dropped += 1  # a refused call: nothing was spent, and many of them would fill the memory
        else:
            self._parked.append(record)
        if first:
            log.error("journal closed", reason=str(error))

    def retry(self) -> bool:
        """Append what is parked; True when nothing is left and calls are taken again."""
        waiting, self._parked = self._parked, []
        self.closed_reason = None
        for record in waiting:
            self.write(record)
        if waiting and not self._parked:
            log.info("journal open again", records=len(waiting))
        return not self._parked

    def close(self) -> None:
        """End the journal's segment. What can't be written even now is lost."""
        if self._parked and not self.retry():
            log.error("records lost, the journal could not be written until the end", records=self.parked)
        self._journal.close()


def _without_texts(record: RequestRecord) -> RequestRecord:
    """The record with its figures, and without the words of callers and upstreams that made it unwritable."""
    return msgspec.structs.replace(
        record, request_model=None, response_model=None, finish_reason=None, plan=None, route=""
    )
