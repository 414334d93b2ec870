"""The targets of a plan, tried one after another until one answers.

Another target comes before the same one once more. The same one is asked again only where that is safe: it refused the
request (429, 5xx), or could not be reached. Waits between grow and are drawn by chance (full jitter), so that callers
that failed together don't come back together. Nothing goes on beyond the request's deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.clock import Clock
from pointsman.errors import BudgetExceeded, GatewayError, Kind, let_go
from pointsman.routing.failures import Failure, classify, classify_broken
from pointsman.routing.health import HealthBook
from pointsman.routing.hints import wait_seconds
from pointsman.routing.plan import RoutePlan
from pointsman.routing.targets import Target
from pointsman.ticker import INTERVAL_SECONDS, NEVER
from pointsman.upstream.hedging import Hedging
from pointsman.upstream.terms import ONCE, Terms

MAX_NAMED: Final = 10  # targets that an error names one by one
LONGEST_BACKOFF_SECONDS: Final = 8.0  # as OpenAI's and Anthropic's SDKs wait at most

# us; who is left alone for longer (an empty account) is not asked even as a last resort
LONGEST_RESORT: Final = 15 * 60 * 1_000_000
LAST, RESERVE = 1e-9, 2e-9  # turns behind those that nothing is known against, and before those of a second try

Go = Callable[[Target], Awaitable[None]]


class Tried(NamedTuple):
    """One failed attempt: which target, what was wrong, and how long it took (us)."""

    target: Target
    failure: Failure
    error: GatewayError
    us: int


class Lost(NamedTuple):
    """An attempt that was cancelled since another one had answered: after how long (us), and what it has used."""

    target: Target
    us: int
    used: dict[str, Any]


class Left(NamedTuple):
    """A target that was not asked: why, and for how many more seconds it is left alone."""

    target: Target
    reason: str
    seconds: float


class Turn:
    """A target that is still to be tried: how often it was already, and from when on it may be (monotonic seconds)."""

    __slots__ = ("not_before", "target", "tries")

    def __init__(self, target: Target, not_before: float = 0.0) -> None:
        self.target = target
        self.tries = 0
        self.not_before = not_before


class Attempts:
    """The attempts of one request."""

    __slots__ = (
        "_broken", "_chance", "_clock", "_deadline", "_health", "_overflowed", "_resorts", "_seconds", "_terms", "left",
        "lost", "tried",
    )  # fmt: skip

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
        self._resorts = terms.resorts
        self.tried: list[Tried] = []
        self.left: list[Left] = []
        self.lost: list[Lost] = []

    async def run(
        self, plan: RoutePlan, go: Go, failed: GatewayError | None = None, hedging: Hedging | None = None
    ) -> None:
        """Try one target after the other: ``go`` answers the client or raises, and then nothing has been answered.
        ``failed`` is how the first one has failed already. ``hedging``: when another target is asked beside one that
        has not failed.

        Raises GatewayError: the caller's own mistake as it is, else one that names every target and what was wrong.
        """
        turns = [Turn(target) for target in plan.order]
        if failed is not None:
            self._judge(turns.pop(0), turns, failed, self._clock.monotonic())
        turns += [Turn(target, RESERVE) for target in plan.reserve]
        while turns:
            turn = min(turns, key=lambda one: one.not_before) if self._terms.failover_first else turns[0]
            turns.remove(turn)
            unwell = not turn.tries and not self._health.ready(turn.target, self._clock.now_us())
            if unwell and not turn.not_before and not plan.last_resort:
                turn.not_before = LAST  # it failed meanwhile, for somebody else
                turns.append(turn)
                continue
            must = (plan.last_resort and turn.target is plan.order[0]) or not (turns or self.tried)
            if self._too_small(turn.target) or (unwell and not self._may_resort(turn.target, must=must)):
                continue
            wait = turn.not_before - self._clock.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            if self._clock.monotonic() >= self._deadline:
                raise self._late()
            if hedging is not None and turns and (after := hedging.after(turn.target)) is not None:
                if await self._race((turn, turns), go, hedging, after):
                    return
                continue
            began = self._clock.monotonic()
            failed = await self._try(turn.target, go)
            if failed is None:
                return
            self._judge(turn, turns, failed, began)
        raise self._exhausted()

    async def _race(self, had: tuple[Turn, list[Turn]], go: Go, hedging: Hedging, after: float) -> bool:
        """Try a target, and another one beside it once it has taken ``after`` seconds. Gives whether one has answered.
        ``had`` are its turn and those that are left.
        """
        first, turns = had
        held: GatewayError | None = None
        running: dict[asyncio.Task[GatewayError | None], tuple[Turn, float]] = {}
        answered = False

        def start(turn: Turn) -> None:
            running[asyncio.create_task(self._try(turn.target, go))] = (turn, self._clock.monotonic())

        start(first)
        try:
            done, _ = await asyncio.wait(running, timeout=after)
            if not done and not hedging.answering and (second := self._beside(turns, hedging)) is not None:
                start(second)
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    turn, began = running.pop(task)
                    if task.cancelled():
                        continue  # it has lost
                    failed = task.result()
                    if failed is None:
                        answered = True
                        continue
                    try:
                        self._judge(turn, turns, failed, began)
                    except GatewayError as final:
                        if turn is first or not running:
                            raise
                        held = final  # what a rival says is final only once the first has failed, too
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)
        if held is not None and not answered:
            raise held
        return answered

    def _beside(self, turns: list[Turn], hedging: Hedging) -> Turn | None:
        """The turn of the next target in good health, taken out, if it may be asked beside another one."""
        now = self._clock.now_us()
        for turn in turns:
            if not turn.not_before and self._health.ready(turn.target, now) and not self._too_small(turn.target):
                if not hedging.may(turn.target):
                    return None
                turns.remove(turn)
                return turn
        return None

    def _may_resort(self, target: Target, *, must: bool) -> bool:
        """Whether a target that is left alone is asked all the same: few are, those first that recover first.
        ``must``: there is no other.
        """
        now = self._clock.now_us()
        found = self._health.condition(target, now)
        until, reason = (found.until, found.reason) if found is not None else (now, "")
        if must or (self._resorts and until - now <= LONGEST_RESORT):
            self._resorts -= 1
            return True
        self.left.append(Left(target, reason, max(0, until - now) / 1e6))
        return False

    async def _try(self, target: Target, go: Go) -> GatewayError | None:
        now = self._clock.now_us()
        ticket = self._health.enter(target, now)
        try:
            await go(target)
        except GatewayError as error:
            let_go(error)
            return error
        finally:
            self._health.leave(target, ticket)
        if not self._broken:
            self._health.succeeded(target, self._clock.now_us(), now)
        return None

    def broke(self, target: Target, kind: Kind) -> None:
        """An answer broke that had begun: too late for another target, but not for the next request."""
        self._broken = True
        if not self._is_spared(kind):
            self._health.failed(target, classify_broken(kind), self._clock.now_us())

    def note(self, target: Target, error: GatewayError) -> Failure:
        """Hold a failure against whom it concerns; gives what it means."""
        failure = classify_broken(error.kind) if error.begun else classify(error)
        refusal, now = error.refusal, self._clock.now_us()
        if self._is_spared(error.kind):
            return failure
        if refusal is None:
            self._health.failed(target, failure, now)
        else:
            hint = wait_seconds(refusal.headers, refusal.body, now)
            self._health.failed(target, failure, now, hint, refusal.status)
        return failure

    def log(self) -> str | None:
        """What the request's record keeps of failed attempts, and of those that were cancelled."""
        if not self.tried and not self.lost:
            return None
        rows: list[list[Any]] = [
            [one.target.id, _word(one), one.error.status, one.us] for one in self.tried[:MAX_NAMED]
        ]
        rows += [[one.target.id, "hedge_lost", 0, one.us, one.used] for one in self.lost]
        return msgspec.json.encode(rows).decode()

    def _judge(self, turn: Turn, turns: list[Turn], error: GatewayError, began: float) -> None:
        """What a failed attempt means for those that may follow. Raises GatewayError when none may."""
        now, failure = self._clock.monotonic(), self.note(turn.target, error)
        self.tried.append(Tried(turn.target, failure, error, int((now - began) * 1e6)))
        if not failure.next:
            raise error
        if self._is_late():
            raise self._late()
        if error.begun and failure.again and not turn.tries:  # it may go on itself, when nobody else does
            turn.tries, turn.not_before = 1, now
            turns.append(turn)
        elif failure.larger:
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

    def _is_spared(self, kind: Kind) -> bool:
        """Whether it was the request's own time that was over: a caller in a hurry is not the upstream's fault."""
        return kind is Kind.UPSTREAM_TIMEOUT and self._is_late()

    def _is_late(self) -> bool:
        """Whether no time is left for anything more."""
        return self._clock.monotonic() + INTERVAL_SECONDS >= self._deadline

    def _exhausted(self) -> GatewayError:
        if len(self.tried) == 1 and not self.left:
            return self.tried[0].error
        if self.tried and all(isinstance(one.error, BudgetExceeded) for one in self.tried):
            return self.tried[-1].error
        return exhausted(self.tried, self.left)

    def _late(self) -> GatewayError:
        named = _named(self.tried) or "nobody"
        return GatewayError(Kind.UPSTREAM_TIMEOUT, f"the request's {self._seconds:g} s are over; tried: {named}")


def _word(tried: Tried) -> str:
    """What a record says of a failed attempt."""
    return f"interrupted: {tried.failure.word}" if tried.error.begun else tried.failure.word


def is_safe_again(failure: Failure, error: GatewayError) -> bool:
    """Whether the same target may be asked again: it has refused the request, or was never reached."""
    return failure.again and (error.refusal is not None or error.kind is Kind.UPSTREAM_UNAVAILABLE)


def exhausted(tried: list[Tried], left: Sequence[Left] = ()) -> GatewayError:
    """The error of a request of which every target failed, or is ``left`` alone. It has the status of the failure that
    tells most: a limit with its earliest end when all were limited, else that of the plan's last target, however often
    each was asked.
    """
    last_of = {one.target.id: one.error for one in tried}
    targets = len(last_of) + len(left)
    again = f" in {len(tried)} attempts" if len(tried) > len(last_of) else ""
    what = f"none of {targets} targets could answer" if targets > 1 else "the target could not answer"
    message = f"{what}{again}: {_named(tried, left)}"
    if all(one.error.kind is Kind.RATE_LIMITED for one in tried):
        waits = [one.error.retry_after_seconds for one in tried if one.error.retry_after_seconds is not None]
        return GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=min(waits, default=None))
    begun = [one.error for one in tried if one.error.begun]  # nobody went on: how it broke tells more than that
    last = begun[-1] if begun else [*last_of.values()][-1]
    return GatewayError(
        last.kind, message, param=last.param, status=last.status, retry_after_seconds=last.retry_after_seconds
    )


def _named(tried: list[Tried], left: Sequence[Left] = ()) -> str:
    parts = [f"{one.target.id}: {one.error.message}" for one in tried]
    parts += [
        f"{one.target.id}: not asked, left alone for {one.seconds:.0f} s ({one.reason or 'failing'})" for one in left
    ]
    more = f"; and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
    return "; ".join(parts[:MAX_NAMED]) + more
