"""Proves that the books agree: journal = requests = postings = balances, and everything sums to 0. Rebuilds balances.

It reads one moment of the database in stretches, so that it can say how far it is and holds nobody up.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from pointsman.accounting.journal import is_live, list_segments, read_segment
from pointsman.canonical.ledger import AccountKind
from pointsman.canonical.record import RequestRecord
from pointsman.storage.database import Database
from pointsman.storage.ledger_audit import LedgerAudit, Total, audited, replace_balances, tail_totals

STRETCH: Final = 20_000  # rows asked for at a time
MOST_FINDINGS: Final = 100  # of each check
_LINES: Final = 500

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not agree. Amounts in nano-USD."""

    check: str
    subject: str
    expected: int | None = None
    found: int | None = None


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what does not agree: nothing, when the books are right.

    ``waiting`` records of the journal are not in the database yet; ``unpriced`` requests used tokens at no known price.
    """

    transactions: int
    postings: int
    requests: int
    journal_records: int
    waiting: int
    unpriced: int
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Whether everything agrees."""
        return not self.findings


async def verify(database: Database, journal: Path | None, progress: Progress = lambda *_: None) -> CheckReport:
    """Check everything; ``journal`` is the directory of this machine's segments. Raises StorageError, OSError."""
    async with audited(database) as audit:
        check = _Check(audit, progress)
        last, last_request = await audit.ends()
        await check.postings(last)
        await check.balances()
        await check.requests(last_request)
        if journal is not None:
            await check.journal(journal)
        return CheckReport(
            transactions=last,
            postings=sum(total.postings for total in check.totals.values()),
            requests=last_request,
            journal_records=check.read,
            waiting=check.waiting,
            unpriced=await audit.unpriced(),
            findings=tuple(check.findings),
        )


async def rebuild(database: Database, progress: Progress = lambda *_: None) -> int:
    """Make the stored balances anew from the postings; gives how many were wrong. Raises StorageError.

    Nothing can be posted only while the balances are written, not while the postings are read.
    """
    async with audited(database) as audit:
        check = _Check(audit, progress)
        last, _ = await audit.ends()
        await check.sum_up(last)
    async with database.write() as connection:
        await database.in_order(connection)
        for name, total in (await tail_totals(connection, last)).items():
            check.add(name, total)
        return await replace_balances(connection, check.totals)


class _Check:
    """One run over the books."""

    def __init__(self, audit: LedgerAudit, progress: Progress) -> None:
        self._audit = audit
        self._progress = progress
        self.totals: dict[str, Total] = {}
        self.findings: list[Finding] = []
        self.read = self.waiting = 0

    def add(self, name: str, total: Total) -> None:
        """Count a stretch of postings of one ledger account."""
        before = self.totals.get(name, Total(0, 0, 0))
        newest = max(before.newest, total.newest)
        self.totals[name] = Total(before.nano_usd + total.nano_usd, before.postings + total.postings, newest)

    def _stretches(self, what: str, last: int) -> Iterator[tuple[int, int]]:
        for after in range(0, last, STRETCH):
            self._progress(what, after, last)
            yield after, min(after + STRETCH, last)
        self._progress(what, last, last)

    def _find(self, check: str, subject: str, expected: int | None = None, found: int | None = None) -> None:
        if sum(one.check == check for one in self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(check=check, subject=subject, expected=expected, found=found))

    async def sum_up(self, last: int) -> None:
        """Add up all postings."""
        for after, end in self._stretches("postings", last):
            for name, total in (await self._audit.totals(after, end)).items():
                self.add(name, total)

    async def postings(self, last: int) -> None:
        """Every transaction has postings, which sum to 0."""
        for after, end in self._stretches("transactions", last):
            for sequence, total in await self._audit.unbalanced(after, end, MOST_FINDINGS):
                self._find("transaction sums to 0", f"transaction {sequence}", 0, total)
            for sequence in await self._audit.halves(after, end, MOST_FINDINGS):
                self._find("transaction is whole", f"transaction {sequence}")
        await self.sum_up(last)

    async def balances(self) -> None:
        """Stored balances are what the postings add up to, and sum to 0."""
        seen: set[str] = set()
        after, whole = "", 0
        while page := await self._audit.balances(after, STRETCH):
            for name, stored in page:
                total = self.totals.get(name, Total(0, 0, 0))
                if total[:2] != stored[:2]:
                    self._find("balance equals its postings", name, total.nano_usd, stored.nano_usd)
                whole += stored.nano_usd
                seen.add(name)
            after = page[-1][0]
        for name in self.totals.keys() - seen:
            self._find("balance equals its postings", name, self.totals[name].nano_usd, None)
        if whole:
            self._find("all balances sum to 0", "ledger", 0, whole)

    async def requests(self, last: int) -> None:
        """Usage transactions are what the requests were charged and are owed for."""
        expected: dict[str, int] = {}
        owners: dict[str, str] = {}
        for after, end in self._stretches("requests", last):
            for account, amount in await self._audit.of_requests(after, end):
                expected[account.id] = expected.get(account.id, 0) + amount
                if account.kind is AccountKind.CREDIT:
                    owners[account.id] = account.owner
        posted: dict[str, int] = {}
        for after, end in self._stretches("usage", (await self._audit.ends())[0]):
            for name, amount in (await self._audit.usage(after, end)).items():
                posted[name] = posted.get(name, 0) + amount
        for name in sorted(expected.keys() | posted.keys()):
            wanted, found = expected.get(name, 0), posted.get(name, 0)
            if wanted != found:
                self._find("usage equals its requests", name, wanted, found)
                if name in owners:
                    await self._narrow(owners[name])

    async def _narrow(self, account_id: str) -> None:
        for one in await self._audit.faulty(account_id, MOST_FINDINGS):
            subject = f"transaction {one.sequence} of {account_id}"
            self._find("usage transaction equals its requests", subject, one.charged, one.posted)

    async def journal(self, directory: Path) -> None:
        """Every record of the journal up to where it was projected is a row with the same figures."""
        positions = {row.name: row.position for row in await self._audit.segments()}
        names = list_segments(directory)
        for number, name in enumerate(names):
            self._progress("journal", number, len(names))
            try:
                await self._segment(directory / name, positions.get(name, 0))
            except FileNotFoundError:
                continue  # pruned just now
        self._progress("journal", len(names), len(names))

    async def _segment(self, path: Path, end: int) -> None:
        """One segment, which is in the database up to ``end``."""
        live, position, limit = is_live(path), 0, _LINES
        while True:
            part = await asyncio.to_thread(read_segment, path, position, limit, live=live)
            if position < end < part.position and limit > 1:  # it goes beyond: line by line from here on
                limit = 1
                continue
            self.read += len(part.records)
            if position < end:
                await self._compare(part.records)
            else:
                self.waiting += len(part.records)
                limit = _LINES
            if part.at_end:
                return
            position = part.position

    async def _compare(self, records: list[RequestRecord]) -> None:
        rows = await self._audit.figures([record.request_id.replace("\0", "\ufffd") for record in records])
        for record in records:
            row = rows.get(record.request_id.replace("\0", "\ufffd"))
            if row is None:
                self._find("journal is in requests", record.request_id, record.cost_nano_usd, None)
            elif row != (record.account_id, record.cost_nano_usd, record.upstream_cost_nano_usd):
                self._find("journal equals requests", record.request_id, record.cost_nano_usd, row[1])
