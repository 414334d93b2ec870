"""The targets of a plan, tried one after another until one answers."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.routing.failures import Failure, classify, classify_broken
from pointsman.routing.health import HealthBook
from pointsman.routing.hints import wait_seconds
from pointsman.routing.plan import RoutePlan
from pointsman.routing.targets import Target

MAX_NAMED: Final = 10  # targets that an error names one by one


class Tried(NamedTuple):
    """One failed attempt: which target, what was wrong, and how long it took (us)."""

    target: Target
    failure: Failure
    error: GatewayError
    us: int


class Attempts:
    """The attempts of one request."""

    __slots__ = ("_broken", "_clock", "_health", "tried")

    def __init__(self, health: HealthBook, clock: Clock) -> None:
        self._health = health
        self._clock = clock
        self._broken = False
        self.tried: list[Tried] = []

    async def run(self, plan: RoutePlan, go: Callable[[Target], Awaitable[None]]) -> None:
        """Try one target after the other: ``go`` answers the client or raises, and then nothing has been answered.

        Raises GatewayError: the caller's own mistake as it is, else one that names every target and what was wrong.
        """
        larger_than: int | None = None
        for target in self._ready(plan):
            window = target.facts.context_tokens
            if larger_than is not None and window is not None and window <= larger_than:
                continue
            failed = await self._try(target, go)
            if failed is None:
                return
            if not failed.next:
                break
            if failed.larger:
                larger_than = max(window or 0, larger_than or 0)
        raise self._exhausted()

    def _ready(self, plan: RoutePlan) -> Iterator[Target]:
        """The targets that may be called now; when none may, for they failed meanwhile, the first all the same."""
        found = False
        for target in plan.order:
            if plan.last_resort or self._health.ready(target, self._clock.now_us()):
                found = True
                yield target
        if not found:
            yield plan.order[0]

    async def _try(self, target: Target, go: Callable[[Target], Awaitable[None]]) -> Failure | None:
        began, now = self._clock.monotonic(), self._clock.now_us()
        ticket = self._health.enter(target, now)
        try:
            await go(target)
        except GatewayError as error:
            failure = self.note(target, error)
            self.tried.append(Tried(target, failure, error, int((self._clock.monotonic() - began) * 1e6)))
            return failure
        finally:
            self._health.leave(target, ticket)
        if not self._broken:
            self._health.succeeded(target, self._clock.now_us(), now)
        return None

    def broke(self, target: Target, kind: Kind) -> None:
        """An answer broke that had begun: too late for another target, but not for the next request."""
        self._broken = True
        self._health.failed(target, classify_broken(kind), self._clock.now_us())

    def note(self, target: Target, error: GatewayError) -> Failure:
        """Hold a failure against whom it concerns; gives what it means."""
        failure, refusal, now = classify(error), error.refusal, self._clock.now_us()
        if refusal is None:
            self._health.failed(target, failure, now)
        else:
            hint = wait_seconds(refusal.headers, refusal.body, now)
            self._health.failed(target, failure, now, hint, refusal.status)
        return failure

    def log(self) -> str | None:
        """What the request's record keeps of failed attempts."""
        if not self.tried:
            return None
        rows = [[one.target.id, one.failure.word, one.error.status, one.us] for one in self.tried[:MAX_NAMED]]
        return msgspec.json.encode(rows).decode()

    def _exhausted(self) -> GatewayError:
        last = self.tried[-1]
        if len(self.tried) == 1 or not last.failure.next:
            return last.error
        return exhausted(self.tried)


def exhausted(tried: list[Tried]) -> GatewayError:
    """The error of a request of which every target failed. It has the status of the failure that tells most: a limit
    with its earliest end when all were limited, else the last one's.
    """
    named = "; ".join(f"{one.target.id}: {one.error.message}" for one in tried[:MAX_NAMED])
    more = f"; and {len(tried) - MAX_NAMED} more" if len(tried) > MAX_NAMED else ""
    message = f"none of {len(tried)} targets could answer: {named}{more}"
    if all(one.error.kind is Kind.RATE_LIMITED for one in tried):
        waits = [one.error.retry_after_seconds for one in tried if one.error.retry_after_seconds is not None]
        return GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=min(waits, default=None))
    last = tried[-1].error
    return GatewayError(
        last.kind, message, param=last.param, status=last.status, retry_after_seconds=last.retry_after_seconds
    )
