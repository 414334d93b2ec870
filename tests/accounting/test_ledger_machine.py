"""Whatever happens in whatever order: the ledger sums to zero, what is stored is what the postings add up to, and each
account has exactly what a plain model says."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger_check import rebuild, verify
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.accounting.projector import Projector
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.storage.database import FILE_NAME, Database
from pointsman.storage.ledger import Posted

ACCOUNTS = st.sampled_from(["acme", "agent", "default"])
AMOUNTS = st.integers(1, 10_000)


class JumpingClock(SystemClock):
    """A clock that somebody sets."""

    offset_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.offset_us


class LedgerMachine(RuleBasedStateMachine):
    """Movements, calls, replays and deaths in any order."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="pointsman-ledger-"))
        shutil.copy(self.template, self.place / FILE_NAME)
        self.runner = asyncio.Runner()
        self.clock = JumpingClock()
        self.journal_place = self.place / "journal"
        self.credit = {"acme": 0, "agent": 0, "default": 0}
        self.charged: dict[str, tuple[str, int]] = {}  # what of a request is not refunded yet
        self.posted: list[tuple[Callable[[], Awaitable[Posted]], int]] = []  # to be done again, and their numbers
        self.sent: list[RequestRecord] = []
        self.number = 0
        self.open()

    def open(self) -> None:
        """Begin as a new process."""
        self.database = Database.open(None, self.place)
        self.service = LedgerService(self.database, self.clock)

    def teardown(self) -> None:
        self.runner.run(self.database.aclose())
        self.runner.close()
        shutil.rmtree(self.place)

    def movement(self, account: str, amount: int) -> Movement:
        """With a key of its own."""
        self.number += 1
        return Movement(account_id=account, nano_usd=amount, key=f"key-{self.number}", source="machine")

    def post(self, act: Callable[[], Awaitable[Posted]], dies_after: int) -> bool:
        """Do it, perhaps dying in between and trying again; whether it was accepted."""

        async def run() -> Posted:
            if dies_after:
                task = asyncio.ensure_future(act())
                for _ in range(dies_after):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            return await act()

        try:
            done = self.runner.run(run())
        except GatewayError as error:
            if error.kind not in (Kind.PAYMENT_REQUIRED, Kind.INVALID_REQUEST):
                raise
            return False
        self.posted.append((act, done.sequence))
        return True

    @rule(account=ACCOUNTS, amount=AMOUNTS, dies=st.integers(0, 12), gift=st.booleans())
    def top_up(self, account: str, amount: int, dies: int, gift: bool) -> None:
        movement = self.movement(account, amount)
        act = (lambda: self.service.grant(movement)) if gift else (lambda: self.service.top_up(movement))
        assert self.post(act, dies)
        self.credit[account] += amount

    @rule(account=ACCOUNTS, amount=st.integers(-500, 500).filter(bool))
    def adjust(self, account: str, amount: int) -> None:
        movement = self.movement(account, amount)
        assert self.post(lambda: self.service.adjust(movement), 0)
        self.credit[account] += amount

    @rule(account=ACCOUNTS, amount=AMOUNTS, dies=st.integers(0, 12))
    def withdraw(self, account: str, amount: int, dies: int) -> None:
        movement = self.movement(account, amount)
        accepted = self.post(lambda: self.service.withdraw(movement), dies)
        assert accepted is (self.credit[account] >= amount)
        self.credit[account] -= amount if accepted else 0

    @rule(giver=ACCOUNTS, taker=ACCOUNTS, amount=AMOUNTS, dies=st.integers(0, 12))
    def transfer(self, giver: str, taker: str, amount: int, dies: int) -> None:
        movement = self.movement(giver, amount)
        accepted = self.post(lambda: self.service.transfer(movement, taker), dies)
        assert accepted is (giver != taker and self.credit[giver] >= amount)
        if accepted:
            self.credit[giver] -= amount
            self.credit[taker] += amount

    @rule(account=ACCOUNTS, costs=st.lists(st.none() | st.integers(0, 5_000), min_size=1, max_size=5))
    def call(self, account: str, costs: list[int | None]) -> None:
        """Settled requests reach the journal, and nothing else yet."""
        journal = Journal(self.journal_place, self.clock, 1 << 20)
        for cost in costs:
            self.number += 1
            record = RequestRecord(
                request_id=f"req_{self.number}", created_at=max(0, self.clock.now_us()), operation="chat", route="",
                dialect="openai", key_id="k", account_id=account, cost_nano_usd=cost, provider="openai",
            )  # fmt: skip
            journal.append(record)
            self.sent.append(record)
        journal.close()

    @rule(repeats=st.integers(0, 3), batch=st.integers(1, 6))
    def project(self, repeats: int, batch: int) -> None:
        """The journal is carried over, also records that come again."""
        journal = Journal(self.journal_place, self.clock, 1 << 20)
        for record in self.sent[-repeats:] if repeats else []:
            journal.append(record)
        journal.close()
        projector = Projector(self.database, self.journal_place, self.clock, batch_rows=batch, retention_days=7)
        self.runner.run(projector.drain())
        for record in self.sent:
            if record.request_id not in self.charged:
                self.charged[record.request_id] = (record.account_id, record.cost_nano_usd or 0)
                self.credit[record.account_id] -= record.cost_nano_usd or 0

    @precondition(lambda self: self.charged)
    @rule(data=st.data(), amount=st.none() | AMOUNTS, dies=st.integers(0, 12))
    def refund(self, data: st.DataObject, amount: int | None, dies: int) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.charged)))
        account, left = self.charged[request_id]
        self.number += 1
        key = f"key-{self.number}"
        accepted = self.post(lambda: self.service.refund(request_id, key, amount), dies)
        amount = left if amount is None else amount
        assert accepted is (0 < amount <= left)
        if accepted:
            self.charged[request_id] = (account, left - amount)
            self.credit[account] += amount

    @precondition(lambda self: self.posted)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """Anything may come once more."""
        act, sequence = data.draw(st.sampled_from(self.posted))
        assert self.runner.run(act()) == Posted(sequence, replayed=True)

    @rule(hours=st.integers(-10_000, 10_000))
    def clock_jumps(self, hours: int) -> None:
        self.clock.offset_us = hours * 3_600_000_000

    @rule()
    def restart(self) -> None:
        self.runner.run(self.database.aclose())
        self.open()

    @invariant()
    def the_books_are_right(self) -> None:
        async def look() -> None:
            report = await verify(self.database, self.journal_place)
            assert report.findings == ()
            assert await rebuild(self.database) == 0
            assert await self.service.repository.credits(list(self.credit)) == self.credit

        self.runner.run(look())


@pytest.mark.parametrize("examples", [4])
def test_the_books_stay_right_whatever_happens(migrated_sqlite: Path, examples: int) -> None:
    LedgerMachine.template = migrated_sqlite
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
