"""The windows of shared limits in Redis, for several processes and machines. See leases.py for how they are used."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pointsman.accounting.counters import CountersError, UnaskedError
from pointsman.accounting.leases import LeaseAnswer, LeaseQuestion
from pointsman.accounting.redis_connections import RedisConnections
from pointsman.accounting.windows import SLOTS
from pointsman.keyring import Secret

PREFIX: Final = "pointsman:limit:"
PATIENCE_SECONDS: Final = 5.0  # longer than any call waits: handshakes and late answers are of use to others

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
local newest, ahead, written = slot + 2, 0, false
local function name(s) return string.format('%d', s) end
local function add(s, amount)
  used[s] = (used[s] or 0) + amount
  redis.call('HINCRBY', KEYS[1], name(s), name(amount))
  written = true
end
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  local s, amount = tonumber(stored[i]), tonumber(stored[i + 1])
  if s > newest then -- the clock was set back: what was used since counts from now on
    redis.call('HDEL', KEYS[1], stored[i])
    ahead = ahead + amount
  else
    if s > slot then slot = s; now = s * length end -- by a little: time waits
    used[s] = amount
  end
end
if ahead > 0 then add(slot, ahead) end
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
if written then redis.call('PEXPIRE', KEYS[1], name(math.ceil((slots + 2) * length / 1000))) end
return {granted, slot, (slot + 1) * length - now, wait, math.max(0, limit - total - granted), all}
""".replace("SLOTS", str(SLOTS))


class Script(Protocol):
    """A script that Redis knows by its digest."""

    def __call__(self, *, keys: list[str], args: list[int], client: Redis) -> Awaitable[list[int]]: ...


class RedisStore:
    """A `LeaseStore`. ``now_us`` in place of Redis' own clock is for tests. Raises ValueError for an unusable URL."""

    def __init__(
        self, url: Secret, now_us: Callable[[], int] | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._url = url
        self._patience = patience_seconds
        self._script = cast(Script, self._client().register_script(SCRIPT))
        self._connections = RedisConnections(self._connect)
        self._now_us = now_us

    def _client(self) -> Redis:
        return Redis.from_url(
            self._url.reveal(),
            max_connections=1,
            socket_timeout=self._patience,
            socket_connect_timeout=self._patience,
            retry=Retry(NoBackoff(), 0),
        )

    async def _connect(self) -> Redis:
        client = self._client()
        try:
            await client.script_load(SCRIPT)
        except BaseException as error:
            await client.aclose()
            if isinstance(error, RedisError | OSError):
                raise UnaskedError(type(error).__name__) from error
            raise
        return client

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """Run the script."""
        now = self._now_us() if self._now_us is not None else 0
        args = [question.limit, question.need, question.portion, question.slot_us, now, question.owed]
        args += [number for pair in question.returned for number in pair]
        try:
            async with self._connections.one() as client:
                answer = await self._script(keys=[PREFIX + name], args=args, client=client)
        except (RedisError, OSError) as error:
            raise CountersError(type(error).__name__) from error
        granted, slot, slot_left, wait, remaining, all_free = answer
        return LeaseAnswer(
            granted=granted,
            slot=slot,
            slot_left_us=slot_left,
            wait_us=wait,
            remaining=remaining,
            all_free_us=all_free,
        )

    async def leave(self) -> None:
        """Close the connections."""
        await self._connections.aclose()
