"""What one process may spend of a budget in a period, and what its calls hold of it. All of it in nano-USD."""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from pointsman.canonical.windows import Window
from pointsman.storage.budget_leases import PORTIONS, LeaseAsk, LeaseGrant

SECOND: Final = 1.0
REFUSAL_SECONDS: Final = 0.1  # how long a refusal is believed without asking again
RECALL_SECONDS: Final = 2.0  # how long others are waited for who hold money, but do not say whether they need it
SILENT_SECONDS: Final = 10.0  # after somebody did not answer in time, others are given less time for so long
LESS_RECALL_SECONDS: Final = 0.25
POLL_SECONDS: Final = 0.02  # while they are waited for
IDLE_SECONDS: Final = 1.0  # money that no call needed for so long goes back
_NOTHING: Final = LeaseGrant(granted=0, limit=0)


class Shortage(Exception):
    """A budget has less than a call may cost. ``grant`` is how it stood."""

    def __init__(self, pot: "Pot", amount: int, grant: LeaseGrant) -> None:
        super().__init__(pot.budget_id)
        self.budget_id = pot.budget_id
        self.period = pot.period
        self.amount = amount
        self.grant = grant


class Waiter(NamedTuple):
    """A call that waits for money: True when it was reserved for it."""

    amount: int
    answer: asyncio.Future[bool]


class Pot:
    """One budget and period as this process has it: ``granted`` in all, ``spent`` for good, ``reserved`` for calls."""

    __slots__ = (
        "_deadline", "_impatient_until", "_recall", "_recalled", "_refused", "_refused_until", "_retry_at",
        "_top_up_at", "budget_id", "calls", "granted", "period", "reserved", "rests", "spent", "standing", "untold",
        "used_at", "waiting", "window",
    )  # fmt: skip

    def __init__(self, budget_id: str, window: Window, period: int) -> None:
        self.budget_id = budget_id
        self.window = window
        self.period = period
        self.granted = self.spent = self.reserved = 0
        self.calls = 0  # that are under way
        self.standing = _NOTHING
        self.used_at = 0.0
        self.waiting: deque[Waiter] = deque()
        self._refused = 0
        self._refused_until = self._retry_at = self._deadline = self._top_up_at = 0.0
        self._impatient_until = 0.0
        self._recall = self._recalled = False
        self.untold = False  # the escrow does not know what is committed, or what goes back
        self.rests = True  # the escrow knows that nothing of it can go back

    @property
    def free(self) -> int:
        """What a call can have now."""
        return self.granted - self.spent - self.reserved

    def try_take(self, amount: int, now: float) -> bool:
        """Reserve at once, or False: it must be waited for. Raises Shortage while a refusal is fresh."""
        self.used_at = now
        if not amount or (amount <= self.free and not self.waiting):
            self.reserved += amount
            return True
        if now < self._refused_until and amount >= self._refused:
            raise Shortage(self, amount, self.standing)
        return False

    def give(self, amount: int) -> None:
        """Reserve no longer."""
        self.reserved -= amount
        if amount > 0:
            self._refused_until = 0.0

    def spend(self, reserved: int, cost: int) -> None:
        """A call is over and recorded: of what was reserved for it, ``cost`` is spent."""
        self.spent += cost
        self.calls -= 1
        self.give(reserved)

    def lapse(self) -> None:
        """The lease has expired: only what calls have and what is spent is still this process', and must be told."""
        committed = self.spent + self.reserved
        self.untold = committed > 0
        self._recall = self._recalled
        self.granted = min(self.granted, committed)

    def is_low(self, now: float) -> bool:
        """Whether the next calls may have to wait, and need not."""
        standing = self.standing
        return (
            now >= self._top_up_at
            and standing.limit is not None
            and self.free < standing.limit // PORTIONS // 2
            and self.granted - self.spent < (standing.limit - standing.spent - standing.held) // 2
        )

    def ask(self, now: float, recalled: bool) -> LeaseAsk | None:
        """What the escrow is to be asked or told now; None: nothing. What is to go back is not to be had any more."""
        committed = self.spent + self.reserved
        if self.waiting:
            if now < self._retry_at:
                return None
            want = committed + sum(one.amount for one in self.waiting if not one.answer.done())
            recall, self._recall = self._recall, False
            if recall:
                self._deadline = now + (LESS_RECALL_SECONDS if now < self._impatient_until else RECALL_SECONDS)
            return self._asked(self.granted, max(self.granted, want), spare=True, recall=recall)
        idle = now - self.used_at > IDLE_SECONDS
        if recalled or (idle and self.free > 0):
            self.granted = min(self.granted, committed)
            self.untold = True
        rests = not self.reserved and self.granted <= self.spent
        if self.untold or (idle and rests and self.granted and not self.rests):
            return self._asked(self.granted, self.granted, rests=rests)
        if now - self.used_at < IDLE_SECONDS and self.is_low(now):
            self._top_up_at = now + SECOND
            return self._asked(self.granted, self.granted, spare=True)
        return None

    def _asked(
        self, floor: int, want: int, *, spare: bool = False, recall: bool = False, rests: bool = False
    ) -> LeaseAsk:
        return LeaseAsk(
            budget_id=self.budget_id,
            window=self.window,
            period=self.period,
            floor=floor,
            want=want,
            spare=spare,
            recall=recall,
            rests=rests,
        )

    def answered(self, ask: LeaseAsk, grant: LeaseGrant, now: float) -> None:
        """Take what the escrow gave, and let calls that wait have it in their order; who can't have it is refused."""
        if grant.granted > ask.floor:
            self._top_up_at = 0.0
        self.untold = False
        self.rests = ask.rests
        self.granted = grant.granted
        self.standing = grant
        left: deque[Waiter] = deque()
        while self.waiting:
            waiter = self.waiting.popleft()
            if waiter.answer.done():
                continue
            if waiter.amount <= self.free:
                self.reserved += waiter.amount
                waiter.answer.set_result(True)
            else:
                left.append(waiter)
        self.waiting = left
        if grant.granted < ask.want:
            if left:
                self._short(grant, now)
        else:  # whoever is left came when it had been asked
            self._recalled, self._retry_at = False, now

    def _short(self, grant: LeaseGrant, now: float) -> None:
        """Have others give back what they don't need; refuse when they have, or there is nothing to give back."""
        if not self._recalled and grant.held:
            self._recall = self._recalled = True
            self._retry_at = now
        elif grant.held and grant.unanswered and now < self._deadline:
            self._retry_at = now + POLL_SECONDS
        else:
            if grant.held and grant.unanswered:
                self._impatient_until = now + SILENT_SECONDS
            self._recalled = False
            waiting, self.waiting = self.waiting, deque()
            short = [one for one in waiting if not one.answer.done()]
            if short:
                self._refused = min(one.amount for one in short)
                self._refused_until = now + REFUSAL_SECONDS
            for one in short:
                one.answer.set_exception(Shortage(self, one.amount, grant))

    def fail(self, error: Exception) -> None:
        """The escrow can't be asked: nobody waits any longer."""
        waiting, self.waiting = self.waiting, deque()
        self._recall = self._recalled = False
        for one in waiting:
            if not one.answer.done():
                one.answer.set_exception(error)

    def is_over(self, now: float, seconds: float) -> bool:
        """Whether nothing has happened here for so long, nothing is held, and the escrow knows it."""
        busy = self.calls or self.waiting or self.untold
        return not busy and self.free <= 0 and now - self.used_at > seconds

    def begin_anew(self, granted: int, spent: int) -> None:
        """These amounts are stored as spent, and no lease speaks of them any more."""
        self.granted -= granted
        self.spent -= spent
