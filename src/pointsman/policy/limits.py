"""Rate limits: every limit that applies to a call is checked, then all are charged, or none.

Requests are counted when a call is taken. Tokens are reserved by an estimate and corrected when the real usage is
known: what was used beyond the estimate counts in the window too. A call that never went to an upstream gets all back.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final, Literal
from weakref import WeakValueDictionary

import msgspec
import structlog

from pointsman.accounting.counters import Counter, Counters, CountersError
from pointsman.accounting.windows import DAY_US, MINUTE_US
from pointsman.canonical.limits import NO_LIMITS, Limits, Quota, Standing
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.settings import Settings

OnFailure = Literal["open", "closed"]
Unit = Literal["requests", "tokens"]
PATIENCE_SECONDS: Final = 5.0  # how long a call leases, and waits for others that do
STORE_RETRY_SECONDS: Final = 1.0
MOST_KEYS: Final = 50_000  # whose limits are remembered until they are put together anew
log = structlog.get_logger("pointsman.limits")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of one owner with its counter. ``label`` names it to people, ``scope`` in metrics."""

    scope: Literal["key", "workspace", "connection"]
    unit: Unit
    label: str
    limit: int
    counter: Counter


Rules = tuple[Rule, ...]
_FIELDS: Final[tuple[tuple[str, Unit, int], ...]] = (
    ("requests_per_minute", "requests", MINUTE_US),
    ("requests_per_day", "requests", DAY_US),
    ("tokens_per_minute", "tokens", MINUTE_US),
)


class LimitTable:
    """Which limits apply to whom, in one configuration. Counters outlive it.

    ``general``: there are limits for others than keys that have some of their own; those pay nothing else.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        keys: Limits = NO_LIMITS,
        workspaces: Limits = NO_LIMITS,
        connections: Mapping[str, Limits] | None = None,
    ) -> None:
        self._counters = counters
        self._keys = keys
        self._workspaces = workspaces
        self.general = keys != NO_LIMITS or workspaces != NO_LIMITS
        self._of_callers: dict[str, Rules] = {}
        self.of_connections = {
            connection_id: rules
            for connection_id, limits in (connections or {}).items()
            if (rules := self._rules("connection", connection_id, limits))
        }

    def caller_rules(self, key: Key) -> Rules:
        """The limits of a call by this key, its own and its workspace's; empty: none."""
        found = self._of_callers.get(key.id)
        if found is None:
            if len(self._of_callers) >= MOST_KEYS:
                self._of_callers.clear()
            found = self._of_callers[key.id] = (
                *self._rules("key", key.id, key.limits.over(self._keys) if key.limits is not None else self._keys),
                *self._rules("workspace", key.workspace_id, self._workspaces),
            )
        return found

    def connection_rules(self, connection_id: str) -> Rules:
        """The limits of a call to this connection, whoever makes it; empty: none."""
        return self.of_connections.get(connection_id, ())

    def _rules(self, scope: Literal["key", "workspace", "connection"], owner: str, limits: Limits) -> Rules:
        rules = []
        for field, unit, window_us in _FIELDS:
            limit: int | None = getattr(limits, field)
            if limit is None:
                continue
            counter = self._counters.counter(f"{scope}:{owner}:{field}", window_us)
            label = f"{limit} {field.replace('_', ' ')} of the {scope}"
            rules.append(Rule(scope=scope, unit=unit, label=label, limit=limit, counter=counter))
        return tuple(rules)


class Reservation:
    """What a call has taken, until it is settled. ``standing`` is told to the client."""

    __slots__ = ("_limiter", "_slots", "standing")

    def __init__(self, limiter: "Limiter", slots: list[tuple[Rule, int, int]], standing: Standing) -> None:
        """``slots``: of each limit how much was taken, and in which slot of its counter."""
        self._limiter = limiter
        self._slots = slots
        self.standing = standing

    async def extend(self, calls: int) -> None:
        """Take so many more calls in under the same limits of requests; their tokens are reserved. Needs a Task.

        Raises as `Limiter.reserve`; then none of them is taken.
        """
        limiter, taken = self._limiter, dict[Rule, int]()
        for rule, amount, _ in self._slots:
            if rule.unit == "requests":
                taken[rule] = taken.get(rule, 0) + amount
        try:
            for rule, amount in taken.items():
                if amount + calls > rule.limit:
                    raise limiter.too_large(rule, amount + calls)
            further = await limiter.reserve(tuple(taken), 0, calls) if taken else None
            if further is not None:
                self._slots += further._slots
        finally:
            self.standing = limiter.standing(tuple(rule for rule, _, _ in self._slots))

    def give_back(self, calls: int) -> None:
        """So many of the calls that `extend` has taken in were not made."""
        now, left = self._limiter.now(), dict[Rule, int]()
        slots = []
        for rule, amount, slot in reversed(self._slots):
            back = min(amount, left.get(rule, calls)) if rule.unit == "requests" else 0
            if back:
                rule.counter.correct(slot, -back, now)
                left[rule] = left.get(rule, calls) - back
            slots.append((rule, amount - back, slot))
        self._slots = slots[::-1]

    def settle(self, tokens: int | None) -> None:
        """Correct the estimate to the ``tokens`` that were used; None: the call went nowhere, all is given back."""
        now = self._limiter.now()
        for rule, amount, slot in self._slots:
            if rule.unit == "tokens":
                rule.counter.correct(slot, (tokens or 0) - amount, now)
            elif tokens is None:
                rule.counter.correct(slot, -amount, now)
        self._slots = []


class Limiter:
    """Takes calls in or refuses them. ``on_failure``: what happens while a shared store is away."""

    def __init__(self, counters: Counters, clock: Clock, on_failure: OnFailure = "open") -> None:
        self.counters = counters
        self._clock = clock
        self._on_failure = on_failure
        self._turns: WeakValueDictionary[Counter, asyncio.Lock] = WeakValueDictionary()  # held by calls that lease
        self.refused: dict[str, int] = {}
        self.unlimited = 0

    def now(self) -> int:
        """The time on which windows run, in us."""
        return int(self._clock.monotonic() * 1e6)

    def try_reserve(self, rules: Rules, tokens: int, requests: int = 1) -> Reservation | None:
        """Take a call of about ``tokens`` tokens in, or several. None: something must be leased first, see `reserve`.

        Raises GatewayError(RATE_LIMITED) that names the limit which is in the way the longest.
        """
        now = self.now()
        worst: Rule | None = None
        longest, unknown = 0, False
        for rule in rules:
            amount = tokens if rule.unit == "tokens" else requests
            if amount > rule.limit:
                raise self.too_large(rule, amount)  # also behind one that must be asked first: no store need know it
            wait = rule.counter.wait(amount, rule.limit, now)
            if wait is None:
                unknown = True
            elif wait > longest:
                longest, worst = wait, rule
        if unknown:
            return None
        if worst is not None:
            raise self._refuse(worst, longest)
        slots = []
        for rule in rules:
            amount = tokens if rule.unit == "tokens" else requests
            slots.append((rule, amount, rule.counter.take(amount, now)))
        return Reservation(self, slots, self.standing(rules, now))

    async def reserve(self, rules: Rules, tokens: int, requests: int = 1) -> Reservation | None:
        """As `try_reserve`, with leases fetched. None: the store is away and limits are open. Needs a Task.

        Raises GatewayError(RATE_LIMITED), NOT_READY when the store is away and limits are closed, or OVERLOADED.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), AsyncExitStack() as turns:
                # One call at a time leases from a counter: others would spend or end what it holds while it asks for
                # the next. All calls take their turns in the order of the rules, so no two wait for each other.
                for rule in rules:
                    await turns.enter_async_context(self._turn(rule.counter))
                    await self._lease(rule, tokens, requests)
                while (reservation := self.try_reserve(rules, tokens, requests)) is None:
                    for rule in rules:
                        await self._lease(rule, tokens, requests)
                return reservation
        except CountersError as error:
            self._without_store(error)
            return None
        except TimeoutError:
            message = "too many calls compete for the last of a rate limit"
            raise GatewayError(Kind.OVERLOADED, message, retry_after_seconds=1) from None

    def _turn(self, counter: Counter) -> asyncio.Lock:
        turn = self._turns.get(counter)
        if turn is None:
            turn = self._turns[counter] = asyncio.Lock()
        return turn

    async def _lease(self, rule: Rule, tokens: int, requests: int) -> None:
        amount = tokens if rule.unit == "tokens" else requests
        if rule.counter.wait(amount, rule.limit, self.now()) is None:
            await rule.counter.lease(amount, rule.limit)

    def standing(self, rules: Rules, now: int | None = None) -> Standing:
        """The limit of each unit of which the least is left."""
        now = self.now() if now is None else now
        nearest: dict[Unit, Quota] = {}
        for rule in rules:
            remaining, reset_us = rule.counter.remaining(rule.limit, now)
            before = nearest.get(rule.unit)
            if before is None or remaining < before.remaining:
                nearest[rule.unit] = Quota(rule.limit, remaining, reset_us)
        return Standing(at_us=self._clock.now_us(), requests=nearest.get("requests"), tokens=nearest.get("tokens"))

    def _without_store(self, error: CountersError) -> None:
        if self._on_failure == "open":
            self.unlimited += 1
            return
        raise GatewayError(Kind.NOT_READY, str(error), retry_after_seconds=STORE_RETRY_SECONDS) from error

    def _refuse(self, rule: Rule, wait_us: int) -> GatewayError:
        self._count(rule)
        seconds = -(-wait_us // 1_000_000)
        message = f"the limit of {rule.label} is reached; try again in {seconds} s"
        return GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=seconds)

    def too_large(self, rule: Rule, amount: int) -> GatewayError:
        """The refusal of a call that no wait helps: without Retry-After. It is counted."""
        self._count(rule)
        message = f"the call needs about {amount} {rule.unit}, more than the limit of {rule.label}; make it smaller"
        return GatewayError(Kind.RATE_LIMITED, message)

    def _count(self, rule: Rule) -> None:
        name = f"{rule.scope}_{rule.unit}"
        self.refused[name] = self.refused.get(name, 0) + 1


def build_limit_table(
    settings: Settings, limited: bool, connections: Mapping[str, Limits], counters: Counters
) -> LimitTable | None:
    """The limits of a configuration, ``connections`` by id; None when nothing is limited, so that calls pay nothing.

    ``limited``: any key has limits of its own.
    """
    own = settings.limits
    defaults = Limits(
        requests_per_minute=own.key_requests_per_minute,
        requests_per_day=own.key_requests_per_day,
        tokens_per_minute=own.key_tokens_per_minute,
    )
    workspaces = Limits(
        requests_per_minute=own.workspace_requests_per_minute,
        requests_per_day=own.workspace_requests_per_day,
        tokens_per_minute=own.workspace_tokens_per_minute,
    )
    if not limited and all(limits == NO_LIMITS for limits in (defaults, workspaces, *connections.values())):
        return None
    return LimitTable(counters, keys=defaults, workspaces=workspaces, connections=connections)
