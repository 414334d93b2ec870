"""Proves that the audit log is as it was written: every row, their order, and the end."""

import hmac
from collections.abc import Callable
from typing import Final

import msgspec

from pointsman.canonical.audit import START, Row, row_hash
from pointsman.identity.audit_trail import HEAD_FILE, AuditTrail

MOST_FINDINGS: Final = 100


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong: ``changed``, ``removed``, ``moved``, ``seal``, ``tail`` or ``head``, and at which number."""

    kind: str
    sequence: int
    message: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at. ``unsealed``: rows whose seal's key nobody has any more; their hashes were checked."""

    rows: int
    unsealed: int
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


async def check_log(trail: AuditTrail, progress: Callable[[int], None] = lambda rows: None) -> AuditReport:
    """Look at every row. Raises StorageError. Rows that are written meanwhile may be looked at, too."""
    check = _Check(trail)
    noted = await trail.repository.head()  # of before: what is added meanwhile does not count as missing
    async for rows in trail.repository.walk():
        for row in rows:
            await check.row(row)
        progress(check.rows)
        if len(check.findings) >= MOST_FINDINGS:
            break
    else:
        await check.end(noted.sequence)
    return AuditReport(rows=check.rows, unsealed=check.unsealed, findings=tuple(check.findings[:MOST_FINDINGS]))


class _Check:
    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail
        self._last = START
        self._number = 0
        self.rows = 0
        self.unsealed = 0
        self.findings: list[Finding] = []

    async def row(self, row: Row) -> None:
        """Hold one row against its own hash, the row before it, and its seal."""
        link, expected = row.link, self._number + 1
        self.rows += 1
        if link.sequence > expected:
            self._find("removed", expected, f"rows {expected} to {link.sequence - 1} are missing")
        if row_hash(link.sequence, link.key_id, link.previous, row.entry) != link.hash:
            self._find("changed", link.sequence, "the row's content does not fit its hash")
        if link.sequence == expected and link.previous != self._last:
            await self._broken(link.sequence, link.previous)
        seal = self._trail.seal(link.key_id, link.sequence, link.hash, head=False)
        if seal is None:
            self.unsealed += 1
        elif not hmac.compare_digest(seal, link.seal):
            self._find("seal", link.sequence, "the row was not written by this installation")
        self._last, self._number = link.hash, link.sequence

    async def _broken(self, sequence: int, previous: bytes) -> None:
        place = await self._trail.repository.place_of(previous)
        if place is not None:
            self._find("moved", sequence, f"the row was written behind the one that has number {place} now")
        else:
            self._find("removed", sequence, "the row that was before it is gone, or was changed")

    async def end(self, noted: int) -> None:
        """Hold the last row against the head, and what this data directory knows against the rows."""
        trail, head = self._trail, await self._trail.repository.head()
        if head.sequence < noted or self._number < noted:
            self._find("tail", self._number + 1, f"rows {self._number + 1} to {noted} are missing at the end")
        found = await trail.repository.hash_at(head.sequence) if head.sequence else START
        if found is not None and found != head.hash:
            self._find("head", head.sequence, "the last row is not the one that the record of the end tells")
        if head.sequence and trail.seal(head.key_id, head.sequence, head.hash, head=True) not in (None, head.seal):
            self._find("head", head.sequence, "the record of the end was not written by this installation")
        if await trail.repository.hash_at(head.sequence + 1) is not None:
            newest = await trail.repository.head()
            if newest.sequence == head.sequence:
                self._find("head", head.sequence + 1, "there are rows behind the end")
        await self._known(head.sequence)

    async def _known(self, last: int) -> None:
        known = self._trail.known_end()
        if known is None:
            return
        first = await self._trail.repository.hash_at(1)
        if (first or b"").hex() != known.first:
            self._find("tail", 1, f"it is another log than the one that {HEAD_FILE} of this data directory tells of")
            return
        found = await self._trail.repository.hash_at(known.sequence)
        if found is None and known.sequence > last:
            self._find(
                "tail", last + 1, f"rows {last + 1} to {known.sequence} are missing, which were written from here"
            )
        elif found is None or found.hex() != known.hash:
            self._find("tail", known.sequence, "the row with this number is not the one that was written from here")

    def _find(self, kind: str, sequence: int, message: str) -> None:
        self.findings.append(Finding(kind=kind, sequence=sequence, message=message))
