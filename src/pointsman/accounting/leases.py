"""Counters that several processes and machines share through Redis, by leases of small portions.

Redis keeps each window's slots. A process leases a portion and spends it without asking again, so most calls cost no
round trip. The sum of all portions of a window never exceeds the limit, because a portion is counted in the slot in
which it was given out and may be spent only until that slot ends, by Redis' own clock. What isn't spent is given back.
A process that dies holding a portion leaves it counted as used until its slot is older than the window, never longer.
Portions shrink as the limit is neared, so that little is held where it isn't needed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pointsman.accounting.counters import SLOTS, CountersError
from pointsman.clock import Clock
from pointsman.keyring import Secret

TIMEOUT_SECONDS: Final = 0.5  # a call never waits longer for the store
RETRY_SECONDS: Final = 1.0  # after a failure nobody asks again for this long
LEASE_US: Final = 1_000_000
REFUSAL_US: Final = 1_000_000  # how long a refusal is believed without asking again
PORTIONS: Final = 100  # the largest portion is this part of the limit
PREFIX: Final = "pointsman:limit:"
log = structlog.get_logger("pointsman.leases")

# KEYS: the window's hash of slot -> given out.
# ARGV: limit, need, portion, slot length us, time us (0: Redis' own), owed, then slot and amount given back, in pairs.
# Gives: granted, slot, us until the slot ends, us to wait when nothing was granted, left, us until all is free.
SCRIPT: Final = """
local limit, need, portion = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local length, now, owed = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local slots = SLOTS
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local slot, used, order, total = math.floor(now / length), {}, {}, 0
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  local s = tonumber(stored[i])
  if s > slot then slot = s; now = s * length end -- time never goes back
  used[s] = tonumber(stored[i + 1])
end
local function name(s) return string.format('%d', s) end
local function add(s, amount)
  used[s] = (used[s] or 0) + amount
  redis.call('HINCRBY', KEYS[1], name(s), name(amount))
end
for i = 7, #ARGV, 2 do
  local s, back = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if used[s] then add(s, -math.min(back, used[s])) end
end
if owed > 0 then add(slot, owed) end
for s, amount in pairs(used) do
  if s < slot - slots or amount == 0 then
    redis.call('HDEL', KEYS[1], name(s))
  else
    total = total + amount
    order[#order + 1] = s
  end
end
table.sort(order)
local granted, wait, all = 0, 0, 0
if need > 0 and total + need <= limit then
  granted = math.max(need, math.min(portion, math.floor((limit - total) / 4)))
  if not used[slot] or used[slot] == 0 then order[#order + 1] = slot end
  add(slot, granted)
elseif need > 0 then
  local excess = total + need - limit
  for _, s in ipairs(order) do
    excess = excess - used[s]
    if excess <= 0 then wait = (s + slots + 1) * length - now; break end
  end
end
if #order > 0 then all = (order[#order] + slots + 1) * length - now end
redis.call('PEXPIRE', KEYS[1], name(math.ceil((slots + 2) * length / 1000)))
return {granted, slot, (slot + 1) * length - now, wait, math.max(0, limit - total - granted), all}
""".replace("SLOTS", str(SLOTS))


class Script(Protocol):
    """A script that Redis knows by its digest."""

    def __call__(self, *, keys: list[str], args: list[int]) -> Awaitable[list[int]]: ...


class RedisCounters:
    """Counters behind one Redis, which is waited for no longer than ``timeout_seconds``; ``now_us`` is for tests."""

    def __init__(
        self,
        url: Secret,
        clock: Clock,
        now_us: Callable[[], int] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._timeout = timeout_seconds
        self._redis = Redis.from_url(
            url.reveal(),
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = cast(Script, self._redis.register_script(SCRIPT))
        self._clock = clock
        self._now_us = now_us
        self._counters: dict[str, LeasedCounter] = {}
        self._silent_until = 0.0
        self._down = False
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

    async def run(self, name: str, args: list[int]) -> list[int]:
        """Run the script for a counter; ``args`` begin with the limit. Raises CountersError, within the time-out."""
        args.insert(4, self._now_us() if self._now_us is not None else 0)
        try:
            async with asyncio.timeout(self._timeout):
                self.round_trips += 1
                answer = await self._script(keys=[PREFIX + name], args=args)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            raise CountersError("the limits' store does not answer") from error
        if self._down:
            self._down = False
            log.info("limits' store answers again")
        return answer

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._silent_until = self._clock.monotonic() + RETRY_SECONDS
        if not self._down:
            self._down = True
            log.error("limits' store does not answer", reason=type(error).__name__)

    async def flush(self) -> None:
        """Give back what leases left over and report what was used beyond them; what fails is kept for next time."""
        for counter in list(self._counters.values()):
            try:
                await counter.flush()
            except CountersError:
                return

    async def aclose(self) -> None:
        """Give back every lease and close."""
        for counter in self._counters.values():
            counter.end_lease()
        await self.flush()
        await self._redis.aclose()


class LeasedCounter:
    """A counter that spends what it has leased."""

    __slots__ = (
        "_all_free", "_back", "_ends", "_free_at", "_left", "_limit", "_lock", "_name", "_owed", "_owner", "_refused",
        "_refused_until", "_remaining", "_slot", "_slot_us",
    )  # fmt: skip

    def __init__(self, owner: RedisCounters, name: str, window_us: int) -> None:
        self._owner = owner
        self._name = name
        self._slot_us = window_us // SLOTS
        self._lock = asyncio.Lock()
        self._left = self._slot = self._ends = 0  # of the lease
        self._owed = 0  # used beyond any lease
        self._back: dict[int, int] = {}  # to be given back, by slot
        self._refused = self._refused_until = self._free_at = 0  # the last refusal: amount, believed until, fits at
        self._limit = self._remaining = self._all_free = 0  # as Redis said last

    def wait(self, amount: int, limit: int, now: int) -> int | None:
        """0 from the lease, a time when Redis has just refused, else None."""
        if now < self._ends and amount <= self._left:
            return 0
        if now < self._refused_until and amount == self._refused and limit == self._limit:
            return self._free_at - now
        return None

    def take(self, amount: int, now: int) -> int:
        """Spend from the lease."""
        self._left -= amount
        return self._slot

    def correct(self, slot: int, difference: int, now: int) -> None:
        """Less goes back to the lease or, when that is over, to Redis; more is owed."""
        if difference > 0:
            paid = min(difference, self._left) if now < self._ends else 0
            self._left -= paid
            self._owed += difference - paid
        elif difference:
            self._refused_until = 0
            if slot == self._slot and now < self._ends:
                self._left -= difference
            else:
                self._back[slot] = self._back.get(slot, 0) - difference

    def remaining(self, limit: int, now: int) -> tuple[int, int]:
        """As of the last lease."""
        return max(0, self._remaining + self._left - self._owed), max(0, self._all_free - now)

    async def lease(self, amount: int, limit: int) -> None:
        """Ask Redis for ``amount`` or more, unless somebody has just done it."""
        async with self._lock:
            if self.wait(amount, limit, self._owner.now()) is None:
                self.end_lease()
                await self._ask(amount, limit)

    async def flush(self) -> None:
        """Tell Redis what is to be given back and what is owed."""
        async with self._lock:
            if self._left and self._owner.now() >= self._ends:
                self.end_lease()
            if self._back or self._owed:
                await self._ask(0, self._limit)

    def end_lease(self) -> None:
        """What is left of the lease is to be given back."""
        if self._left:
            self._back[self._slot] = self._back.get(self._slot, 0) + self._left
        self._left = self._ends = 0

    async def _ask(self, need: int, limit: int) -> None:
        self._owner.refuse_while_down()
        back, self._back = self._back, {}
        owed, self._owed = self._owed, 0
        returned = [number for pair in back.items() for number in pair]
        sent = self._owner.now()
        try:
            answer = await self._owner.run(self._name, [limit, need, limit // PORTIONS, self._slot_us, owed, *returned])
        except BaseException:  # perhaps it was done: what is owed is told again, nothing is ever given back twice
            self._owed += owed
            raise
        granted, slot, slot_left, wait, self._remaining, all_free = answer
        self._limit, self._all_free = limit, sent + all_free
        if granted:
            self._left, self._slot = granted, slot
            self._ends = sent + min(slot_left, LEASE_US)
            self._refused_until = 0
        elif need:
            self._refused, self._free_at = need, sent + wait
            self._refused_until = sent + min(wait, REFUSAL_US)
