"""The targets of a plan, tried one after another until one answers.

Another target comes before the same one once more. The same one is asked again only where that is safe: it refused the
request (429, 5xx), or could not be reached. Waits between grow and are drawn by chance (full jitter), so that callers
that failed together don't come back together. Nothing goes on beyond the request's deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from pointsman.clock import Clock
from pointsman.errors import BudgetExceeded, GatewayError, Kind
from pointsman.routing.failures import Failure, classify, classify_broken
from pointsman.routing.health import HealthBook
from pointsman.routing.hints import wait_seconds
from pointsman.routing.plan import RoutePlan
from pointsman.routing.targets import Target
from pointsman.ticker import INTERVAL_SECONDS, NEVER
from pointsman.upstream.terms import ONCE, Terms

MAX_NAMED: Final = 10  # targets that an error names one by one
LONGEST_BACKOFF_SECONDS: Final = 8.0  # as OpenAI's and Anthropic's SDKs wait at most

LAST, RESERVE = 1e-9, 2e-9  # turns behind those that nothing is known against, and before those of a second try

Go = Callable[[Target], Awaitable[None]]


class Tried(NamedTuple):
    """One failed attempt: which target, what was wrong, and how long it took (us)."""

    target: Target
    failure: Failure
    error: GatewayError
    us: int


class Turn:
    """A target that is still to be tried: how often it was already, and from when on it may be (monotonic seconds)."""

    __slots__ = ("not_before", "target", "tries")

    def __init__(self, target: Target, not_before: float = 0.0) -> None:
        self.target = target
        self.tries = 0
        self.not_before = not_before


class Attempts:
    """The attempts of one request."""

    __slots__ = ("_broken", "_chance", "_clock", "_deadline", "_health", "_overflowed", "_seconds", "_terms", "tried")

    def __init__(
        self,
        health: HealthBook,
        clock: Clock,
        terms: Terms = ONCE,
        deadline: tuple[float, float] = (NEVER, NEVER),
        chance: Callable[[], int] = int,
    ) -> None:
        """``deadline`` is when the request ends (monotonic) and of how many seconds that is the end. ``chance`` gives
        64 random bits.
        """
        self._health = health
        self._clock = clock
        self._terms = terms
        self._deadline, self._seconds = deadline
        self._chance = chance
        self._overflowed: list[Target] = []
        self._broken = False
        self.tried: list[Tried] = []

    async def run(self, plan: RoutePlan, go: Go, failed: GatewayError | None = None) -> None:
        """Try one target after the other: ``go`` answers the client or raises, and then nothing has been answered.
        ``failed`` is how the first one has failed already.

        Raises GatewayError: the caller's own mistake as it is, else one that names every target and what was wrong.
        """
        turns = [Turn(target) for target in plan.order]
        if failed is not None:
            self._judge(turns.pop(0), turns, failed, self._clock.monotonic())
        turns += [Turn(target, RESERVE) for target in plan.reserve]
        while turns:
            turn = min(turns, key=lambda one: one.not_before) if self._terms.failover_first else turns[0]
            turns.remove(turn)
            if not (turn.not_before or plan.last_resort or self._health.ready(turn.target, self._clock.now_us())):
                turn.not_before = LAST  # it failed meanwhile, for somebody else
                turns.append(turn)
                continue
            if self._too_small(turn.target):
                continue
            wait = turn.not_before - self._clock.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            began = self._clock.monotonic()
            failed = await self._try(turn.target, go)
            if failed is None:
                return
            self._judge(turn, turns, failed, began)
        raise self._exhausted()

    async def _try(self, target: Target, go: Go) -> GatewayError | None:
        now = self._clock.now_us()
        ticket = self._health.enter(target, now)
        try:
            await go(target)
        except GatewayError as error:
            return error
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
        """Hold a failure against whom it concerns; gives what it means.

        When the request's own time was over nothing is: a caller in a hurry is not the upstream's fault.
        """
        failure, refusal, now = classify(error), error.refusal, self._clock.now_us()
        if error.kind is Kind.UPSTREAM_TIMEOUT and self._is_late():
            return failure
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

    def _judge(self, turn: Turn, turns: list[Turn], error: GatewayError, began: float) -> None:
        """What a failed attempt means for those that may follow. Raises GatewayError when none may."""
        now, failure = self._clock.monotonic(), self.note(turn.target, error)
        self.tried.append(Tried(turn.target, failure, error, int((now - began) * 1e6)))
        if not failure.next:
            raise error
        if self._is_late():
            raise self._late()
        if failure.larger:
            self._overflowed.append(turn.target)
        elif is_safe_again(failure, error) and turn.tries < self._terms.retries:
            wait = self._wait(turn.tries, error.retry_after_seconds)
            if wait is not None and now + wait + INTERVAL_SECONDS < self._deadline:
                turn.tries += 1
                turn.not_before = now + wait
                turns.insert(0, turn)

    def _wait(self, tries: int, asked: float | None) -> float | None:
        """Seconds until a target may be asked again; None when it asks for more than anybody would wait."""
        most = min(self._terms.delay * 2 ** (tries + 1), LONGEST_BACKOFF_SECONDS)
        wait = most * (self._chance() / 2**64)
        if asked is not None:
            wait = asked + wait * 0.1
        return wait if wait <= self._terms.longest_wait else None

    def _too_small(self, target: Target) -> bool:
        """Whether the prompt was too long for a target that has as large a window, or is the same model."""
        window = target.facts.context_tokens
        for one in self._overflowed:
            known = one.facts.context_tokens
            if (one.model == target.model) if window is None or known is None else (window <= known):
                return True
        return False

    def _is_late(self) -> bool:
        """Whether no time is left for anything more."""
        return self._clock.monotonic() + INTERVAL_SECONDS >= self._deadline

    def _exhausted(self) -> GatewayError:
        too_dear = all(isinstance(one.error, BudgetExceeded) for one in self.tried)
        return self.tried[-1].error if len(self.tried) == 1 or too_dear else exhausted(self.tried)

    def _late(self) -> GatewayError:
        named = _named(self.tried)
        return GatewayError(Kind.UPSTREAM_TIMEOUT, f"the request's {self._seconds:g} s are over; tried: {named}")


def is_safe_again(failure: Failure, error: GatewayError) -> bool:
    """Whether the same target may be asked again: it has refused the request, or was never reached."""
    return failure.again and (error.refusal is not None or error.kind is Kind.UPSTREAM_UNAVAILABLE)


def exhausted(tried: list[Tried]) -> GatewayError:
    """The error of a request of which every target failed. It has the status of the failure that tells most: a limit
    with its earliest end when all were limited, else that of the plan's last target, however often each was asked.
    """
    last_of = {one.target.id: one.error for one in tried}
    targets = len(last_of)
    again = f" in {len(tried)} attempts" if len(tried) > targets else ""
    what = f"none of {targets} targets could answer" if targets > 1 else "the target could not answer"
    message = f"{what}{again}: {_named(tried)}"
    if all(one.error.kind is Kind.RATE_LIMITED for one in tried):
        waits = [one.error.retry_after_seconds for one in tried if one.error.retry_after_seconds is not None]
        return GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=min(waits, default=None))
    last = [*last_of.values()][-1]
    return GatewayError(
        last.kind, message, param=last.param, status=last.status, retry_after_seconds=last.retry_after_seconds
    )


def _named(tried: list[Tried]) -> str:
    named = "; ".join(f"{one.target.id}: {one.error.message}" for one in tried[:MAX_NAMED])
    more = f"; and {len(tried) - MAX_NAMED} more" if len(tried) > MAX_NAMED else ""
    return named + more
