"""Counters that several processes share through a store, by leases of small portions.

The store keeps each window's slots: Redis for several machines (redis_store.py), the memory of a supervisor for its
workers (lease_book.py). A process leases a portion and spends it without asking again, so most calls cost no round
trip. The sum of all portions of a window never exceeds the limit, because a portion is counted in the slot in which it
was given out and may be spent only until that slot ends, by the store's clock. What isn't spent is given back. A
process that dies holding a portion leaves it counted as used until its slot is older than the window, never longer.
Portions shrink as the limit is neared, so that little is held where it isn't needed.
"""

import asyncio
from collections.abc import Coroutine
from typing import Final, Protocol
from weakref import WeakValueDictionary

import msgspec
import structlog

from pointsman.accounting.counters import CountersError, UnaskedError
from pointsman.accounting.windows import SLOTS
from pointsman.clock import Clock

TIMEOUT_SECONDS: Final = 0.5  # a call never waits longer for the store
RETRY_SECONDS: Final = 1.0  # after a failure nobody asks again for this long
LEASE_US: Final = 1_000_000
REFUSAL_US: Final = 1_000_000  # how long a refusal is believed without asking again
PORTIONS: Final = 100  # the largest portion is this part of the limit
log = structlog.get_logger("pointsman.leases")


class LeaseQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What a process asks about a window: ``need`` at least, ``portion`` when there is plenty; 0: nothing.

    ``owed``: used beyond any lease. ``returned``: slots and what of them is given back.
    """

    limit: int
    need: int
    portion: int
    slot_us: int
    owed: int
    returned: tuple[tuple[int, int], ...]


class LeaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``granted`` in ``slot``, which ends in ``slot_left_us``; or nothing, and the need fits in ``wait_us``.

    ``remaining``: of the limit, given to nobody; ``all_free_us`` until all of it is there again.
    """

    granted: int
    slot: int
    slot_left_us: int
    wait_us: int
    remaining: int
    all_free_us: int


class LeaseStore(Protocol):
    """Where the windows are kept."""

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """Answer for the window of this name, however late. Raises CountersError, UnaskedError if nothing was sent."""
        ...

    async def leave(self) -> None:
        """No counter needs the store any more."""
        ...


class LeasedCounters:
    """Counters behind one store, which is waited for no longer than ``timeout_seconds``."""

    def __init__(self, store: LeaseStore, clock: Clock, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._store = store
        self._timeout = timeout_seconds
        self._clock = clock
        # Those that rules name; one that is forgotten had nothing to tell. Two of one name would lease each for itself.
        self._counters: WeakValueDictionary[str, LeasedCounter] = WeakValueDictionary()
        self.holding: set[LeasedCounter] = set()  # those that the store is, or will be, to be told something of
        self._silent_until = 0.0
        self._asking: set[asyncio.Task[None]] = set()
        self.down = False  # since the last question that was not answered in time
        self.failures = 0
        self.round_trips = 0

    def counter(self, name: str, window_us: int) -> "LeasedCounter":
        """The counter of this name."""
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = LeasedCounter(self, name, window_us)
        return counter

    def now(self) -> int:
        """This process' time in us, on which leases end."""
        return int(self._clock.monotonic() * 1e6)

    def refuse_while_down(self) -> None:
        """Raises CountersError for a while after a failure: an outage must not cost every call the time-out."""
        if self._clock.monotonic() < self._silent_until:
            raise CountersError("the limits' store did not answer a moment ago")

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """Ask the store. Raises CountersError."""
        self.round_trips += 1
        return await self._store.grant(name, question)

    async def hear(self, asking: Coroutine[None, None, None]) -> None:
        """Wait for an answer. Raises CountersError, within the time-out; an answer that is later comes all the same.

        The store may have done what it was asked: who stopped asking would not hear what it has granted.
        """
        task = asyncio.get_running_loop().create_task(asking)
        self._asking.add(task)
        task.add_done_callback(self._heard)
        await asyncio.wait((task,), timeout=self._timeout)
        try:
            if not task.done():
                raise TimeoutError
            task.result()
        except (CountersError, TimeoutError) as error:
            self._failed(error)
            raise CountersError("the limits' store does not answer") from error
        if self.down:
            self.down = False
            log.info("limits' store answers again")

    def _heard(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._silent_until = self._clock.monotonic() + RETRY_SECONDS
        if not self.down:
            self.down = True
            log.error("limits' store does not answer", reason=str(error) or type(error).__name__)

    async def flush(self) -> None:
        """Give back what leases left over and report what was used beyond them; what fails is kept for next time."""
        for counter in list(self.holding):
            try:
                await counter.flush()
            except CountersError:
                return

    async def aclose(self) -> None:
        """Give back every lease and close."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=self._timeout)
        for counter in self.holding:
            counter.end_lease()
        await self.flush()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._store.leave()


class LeasedCounter:
    """A counter that spends what it has leased."""

    __slots__ = (
        "__weakref__", "_all_free", "_back", "_ends", "_free_at", "_left", "_limit", "_lock", "_name", "_owed",
        "_owner", "_refused", "_refused_until", "_remaining", "_slot", "_slot_us",
    )  # fmt: skip

    def __init__(self, owner: LeasedCounters, name: str, window_us: int) -> None:
        self._owner = owner
        self._name = name
        self._slot_us = window_us // SLOTS
        self._lock = asyncio.Lock()
        self._left = self._slot = self._ends = 0  # of the lease
        self._owed = 0  # used beyond any lease
        self._back: dict[int, int] = {}  # to be given back, by slot
        self._refused = self._refused_until = self._free_at = 0  # the last refusal: amount, believed until, fits at
        self._limit = self._remaining = self._all_free = 0  # as the store said last

    def wait(self, amount: int, limit: int, now: int) -> int | None:
        """0 from the lease, a time when the store has just refused so much or less, else None.

        The time is the right one for what was refused, and the least for more: of many calls each would have to ask.
        """
        if now < self._ends and amount <= self._left:
            return 0
        if now < self._refused_until and amount >= self._refused and limit == self._limit:
            return self._free_at - now
        return None

    def take(self, amount: int, now: int) -> int:
        """Spend from the lease."""
        self._left -= amount
        return self._slot

    def correct(self, slot: int, difference: int, now: int) -> None:
        """Less goes back to the lease or, when that is over, to the store; more is owed."""
        if difference > 0:
            paid = min(difference, self._left) if now < self._ends else 0
            self._left -= paid
            self._owed += difference - paid
            self._owner.holding.add(self)
        elif difference:
            self._refused_until = 0
            if slot == self._slot and now < self._ends:
                self._left -= difference
            else:
                self._return({slot: -difference})
            self._owner.holding.add(self)

    def remaining(self, limit: int, now: int) -> tuple[int, int]:
        """As of the last lease, if anything counts of what the store knew then."""
        if now >= self._all_free:
            return max(0, limit - self._owed), 0
        return max(0, self._remaining + self._left - self._owed), max(0, self._all_free - now)

    async def lease(self, amount: int, limit: int) -> None:
        """Ask the store for ``amount`` or more, unless somebody has just done it."""
        async with self._lock:
            if self.wait(amount, limit, self._owner.now()) is None:
                self.end_lease()
                await self._hear(amount, limit)

    async def flush(self) -> None:
        """Tell the store what is to be given back and what is owed."""
        async with self._lock:
            if self._left and self._owner.now() >= self._ends:
                self.end_lease()
            if self._back or self._owed:
                await self._hear(0, self._limit)
            if not (self._left or self._back or self._owed):
                self._owner.holding.discard(self)

    def end_lease(self) -> None:
        """What is left of the lease is to be given back."""
        if self._left:
            self._return({self._slot: self._left})
        self._left = self._ends = 0

    def _return(self, amounts: dict[int, int]) -> None:
        for slot, amount in amounts.items():
            self._back[slot] = self._back.get(slot, 0) + amount

    async def _hear(self, need: int, limit: int) -> None:
        self._owner.refuse_while_down()
        await self._owner.hear(self._ask(need, limit))

    async def _ask(self, need: int, limit: int) -> None:
        back, self._back = self._back, {}
        owed, self._owed = self._owed, 0
        sent = self._owner.now()
        question = LeaseQuestion(
            limit=limit,
            need=need,
            portion=0 if self._owner.down else limit // PORTIONS,  # what is granted may be lost with the answer
            slot_us=self._slot_us,
            owed=owed,
            returned=tuple(back.items()),
        )
        try:
            answer = await self._owner.grant(self._name, question)
        except BaseException as error:
            # Perhaps it was done: what is owed is told again, nothing is ever given back twice.
            self._owed += owed
            if isinstance(error, UnaskedError):
                self._return(back)
            self._owner.holding.add(self)
            raise
        # The store answered some time between then and now: a lease ends by the earliest, waits are told by the latest.
        received = self._owner.now()
        self._limit, self._remaining, self._all_free = limit, answer.remaining, received + answer.all_free_us
        if answer.granted:
            self._owner.holding.add(self)
            self.end_lease()  # a late answer finds the lease of a later question
            self._left, self._slot = answer.granted, answer.slot
            self._ends = sent + min(answer.slot_left_us, LEASE_US)
            self._refused_until = 0
        elif need:
            self._refused, self._free_at = need, received + answer.wait_us
            self._refused_until = sent + min(answer.wait_us, REFUSAL_US)
