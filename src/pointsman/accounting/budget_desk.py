"""A process' desk for budgets: calls reserve from what it has leased, and it fetches more behind their backs.

Most calls find enough and wait for nothing. One that does not waits until the desk has asked the escrow
(storage/budget_leases.py) once, together with all others that wait. When the escrow has too little because other
processes hold some, they are asked to give back what no call of theirs needs, and only when all have answered is the
call refused: so no call is refused while there is money that nobody needs.

Leases expire when nothing is heard of a process and its home for ``lease_seconds`` (accounting/lease_keeper.py). A
process that was not answered for most of that time takes no more from its lease, so that nobody ever spends what may
have been given to others.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from pointsman.accounting.budget_pots import POLL_SECONDS, SECOND, Pot, Waiter
from pointsman.canonical.windows import Window
from pointsman.clock import Clock
from pointsman.storage.budget_leases import BudgetLeaseRepository, Holder, LeaseAsk, LeasesLapsed
from pointsman.storage.database import StorageError

TICK_SECONDS: Final = 0.05  # how often a process that holds money looks whether somebody else needs it
WAIT_SECONDS: Final = 5.0  # a call never waits longer for the escrow
RETRY_SECONDS: Final = 1.0  # after a failure nobody asks again for this long
ASKED_AT_ONCE: Final = 100
FORGET_SECONDS: Final = 60.0
VALID_SHARE: Final = 0.7  # of the time that a lease lasts, from the last question that was answered
BEAT_SHARE: Final = 0.2  # so long there may be no question
NO_OTHERS: Final[Mapping[str, int]] = {}
log = structlog.get_logger("pointsman.budgets")


class EscrowError(Exception):
    """The escrow can't be asked now."""


class Hold:
    """What a call has reserved, the same amount in each of its budgets. Each hold must be settled once."""

    __slots__ = ("_desk", "amount", "pots")

    def __init__(self, desk: "BudgetDesk", pots: tuple[Pot, ...]) -> None:
        self._desk = desk
        self.pots = pots
        self.amount = 0

    def try_resize(self, amount: int) -> bool:
        """Hold this much from now on; False: it must be waited for, see `resize`. Raises Shortage."""
        more, now = amount - self.amount, self._desk.now()
        if more > 0:
            if now >= self._desk.valid_until:
                return False
            taken: list[Pot] = []
            try:
                for pot in self.pots:
                    if not pot.try_take(more, now):
                        return False
                    taken.append(pot)
            finally:
                if len(taken) < len(self.pots):
                    _give(taken, more)
        else:
            _give(self.pots, -more)
        self.amount = amount
        self._desk.look(self.pots)
        return True

    async def resize(self, amount: int) -> None:
        """As `try_resize`, with money fetched. Needs a Task. Raises Shortage, EscrowError; it holds as before then."""
        more = amount - self.amount
        taken: list[Pot] = []
        try:
            for pot in self.pots:
                await self._desk.take(pot, more)
                taken.append(pot)
        except BaseException:
            _give(taken, more)
            raise
        self.amount = amount

    def move(self, amount: int, other: "Hold") -> None:
        """Hand a part of it, at most all, to a hold of the same budgets."""
        amount = min(amount, self.amount)
        self.amount -= amount
        other.amount += amount

    def settle(self, cost: int, others: Mapping[str, int] = NO_OTHERS) -> None:
        """The call is over and recorded with this cost; ``others``: what it has cost budgets that count another one."""
        for pot in self.pots:
            pot.spend(self.amount, others.get(pot.budget_id, cost))
        self.amount = 0
        self._desk.look(self.pots)


class BudgetDesk:
    """The pots of one process. ``holder`` names it to the escrow (accounting/homes.py).

    ``valid_until``: when its leases may have gone to others, on the clock of `now`.
    """

    def __init__(self, escrow: BudgetLeaseRepository, clock: Clock, holder: Holder) -> None:
        self._escrow = escrow
        self._clock = clock
        self._holder = holder
        self._lease_seconds = holder.lease_us / 1e6
        self.valid_until = self._beat_at = 0.0
        self._term: int | None = None  # of the home; None: it is to be registered
        self._pots: dict[tuple[str, int], Pot] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._silent_until = self._look_at = self._forget_at = 0.0
        self._down = False
        self.events = {"exchange": 0, "failure": 0, "lapse": 0, "recall": 0, "wait": 0}

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return self._clock.monotonic()

    def hold(self, budgets: Iterable[tuple[str, Window]], at: int) -> Hold:
        """An empty hold for a call that began at the instant ``at`` (us)."""
        return Hold(self, tuple(self._pot(*budget, at) for budget in sorted(budgets)))

    def _pot(self, budget_id: str, window: Window, at: int) -> Pot:
        period = window.period(at)
        pot = self._pots.get((budget_id, period))
        if pot is None:
            pot = self._pots[budget_id, period] = Pot(budget_id, window, period)
            pot.used_at = self.now()
            self._wake.set()
        pot.calls += 1
        return pot

    def look(self, pots: Iterable[Pot]) -> None:
        """Something changed: perhaps more is to be fetched."""
        if not self._wake.is_set():
            now = self.now()
            if any(pot.is_low(now) for pot in pots):
                self._wake.set()

    async def take(self, pot: Pot, amount: int) -> None:
        """Reserve, with money fetched. Raises Shortage, or EscrowError within `WAIT_SECONDS`."""
        now = self.now()
        if (not amount or now < self.valid_until) and pot.try_take(amount, now):
            return
        pot.used_at = now
        if now < self._silent_until:
            raise EscrowError("the budgets' escrow did not answer a moment ago")
        waiter = Waiter(amount, asyncio.get_running_loop().create_future())
        pot.waiting.append(waiter)
        self.events["wait"] += 1
        self._wake.set()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.shield(waiter.answer)
        except TimeoutError:
            self._leave(pot, waiter)
            raise EscrowError("the budgets' escrow does not answer") from None
        except asyncio.CancelledError:
            self._leave(pot, waiter)
            raise

    def _leave(self, pot: Pot, waiter: Waiter) -> None:
        """A call waits no more; what it was given in the same moment goes back."""
        if not waiter.answer.done():
            waiter.answer.cancel()
        elif waiter.answer.exception() is None:
            pot.give(waiter.amount)

    async def run(self) -> None:
        """Fetch, give back and answer until `stop`; then give back everything."""
        while not self._stopping:
            await self._rest()
            self._wake.clear()
            await self.turn()
        try:
            asks = self._asks(set(), last=True)
            if asks:
                await self._exchange(asks)
        except Exception as error:  # noqa: BLE001 - what is not told now comes back when the journal is read
            self._failed(error)

    def stop(self) -> None:
        """Let `run` end after the exchange in hand: cancelling it could leave a transaction open."""
        self._stopping = True
        self._wake.set()

    async def turn(self) -> None:
        """Look once what is to be asked, told and given back, and do it. What fails is tried again after a while."""
        now = self.now()
        if now < self._silent_until:
            await asyncio.sleep(POLL_SECONDS)
            return
        try:
            await self._look_and_ask(now)
        except Exception as error:  # noqa: BLE001 - no call would get money any more if this ended
            self._failed(error)

    async def _look_and_ask(self, now: float) -> None:
        recalled: set[tuple[str, int]] = set()
        if now >= self._look_at and any(self._is_awake(pot, now) for pot in self._pots.values()):
            self._look_at = now + TICK_SECONDS
            recalled = await self._escrow.recalled(self._holder.name)
            self.events["recall"] += len(recalled)
        asks = self._asks(recalled)
        if asks or (self._pots and now >= self._beat_at):
            await self._exchange(asks)
        if now >= self._forget_at and self._term is not None:
            self._forget_at = now + FORGET_SECONDS
            await self._forget(now)

    def _is_awake(self, pot: Pot, now: float) -> bool:
        return pot.granted > pot.spent or pot.untold or now - pot.used_at < 2 * SECOND

    async def _rest(self) -> None:
        """Until there is something to do; a process that holds no money sleeps."""
        now = self.now()
        pots = self._pots.values()
        if any(pot.waiting for pot in pots):
            seconds: float | None = POLL_SECONDS if not self._wake.is_set() else 0.0
        elif any(self._is_awake(pot, now) for pot in pots):
            seconds = TICK_SECONDS
        else:
            due = max(self._beat_at, self._silent_until)
            seconds = min(FORGET_SECONDS, max(0.0, due - now)) if self._pots else None
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _asks(self, recalled: set[tuple[str, int]], *, last: bool = False) -> list[tuple[Pot, LeaseAsk]]:
        now = self.now()
        asks = []
        for place, pot in self._pots.items():
            ask = pot.ask(now, last or place in recalled)
            if ask is not None:
                asks.append((pot, ask))
        return asks

    async def _exchange(self, asks: Sequence[tuple[Pot, LeaseAsk]]) -> None:
        """Ask the escrow; without any question it is only told that this process lives. Raises StorageError."""
        try:
            if self._term is None:
                self._term = await self._escrow.register(self._holder)
            for start in range(0, len(asks) or 1, ASKED_AT_ONCE):
                await self._ask(self._term, asks[start : start + ASKED_AT_ONCE])
        except LeasesLapsed:
            self._lapse()
        else:
            if self._down:
                self._down = False
                log.info("budgets' escrow answers again")

    async def _ask(self, term: int, asks: Sequence[tuple[Pot, LeaseAsk]]) -> None:
        begun = self.now()
        grants = await self._escrow.exchange(self._holder, term, [ask for _, ask in asks], self._clock.now_us())
        self.events["exchange"] += 1
        now = self.now()
        self.valid_until = begun + self._lease_seconds * VALID_SHARE
        self._beat_at = begun + self._lease_seconds * BEAT_SHARE
        if now >= self.valid_until:
            raise StorageError("it answered too late")
        for (pot, ask), grant in zip(asks, grants, strict=True):
            pot.answered(ask, grant, now)

    def _lapse(self) -> None:
        """The leases went to others, who had heard nothing for long. Whoever waits asks anew."""
        log.warning("the leases of this process have expired; it asks for new ones", budgets=len(self._pots))
        self.events["lapse"] += 1
        self._term, self.valid_until = None, 0.0
        for pot in self._pots.values():
            pot.lapse()
        self._wake.set()

    async def _forget(self, now: float) -> None:
        """Drop pots that nobody used for a minute, once all that was spent from them is stored. Raises StorageError."""
        old = {place: (pot.granted, pot.spent) for place, pot in self._pots.items() if pot.is_over(now, FORGET_SECONDS)}
        places = list(old)
        for start in range(0, len(places), ASKED_AT_ONCE):
            for place in await self._escrow.retire(self._holder.name, places[start : start + ASKED_AT_ONCE]):
                self._pots[place].begin_anew(*old[place])
                if self._pots[place].is_over(now, FORGET_SECONDS):
                    del self._pots[place]

    def _failed(self, error: Exception) -> None:
        self.events["failure"] += 1
        self._silent_until = self.now() + RETRY_SECONDS
        if not self._down:
            self._down = True
            unknown = None if isinstance(error, StorageError) else error
            log.error("budgets' escrow does not answer", reason=str(error), exc_info=unknown)
        for pot in self._pots.values():
            pot.fail(EscrowError("the budgets' escrow does not answer"))


def _give(pots: Iterable[Pot], amount: int) -> None:
    for pot in pots:
        pot.give(amount)
