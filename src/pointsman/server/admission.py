"""Admission: how many inference calls run at once, who waits for a place, and who is told to come again.

A call that finds a place costs a comparison. Others wait in a bounded queue, higher priorities first, in the order of
their arrival within one; a client that leaves gives its place back at once. When the queue is full the newest call of
the lowest priority gives way to a call of a higher one.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from pointsman.canonical.limits import HIGH, LOW
from pointsman.errors import GatewayError, Kind
from pointsman.runner import Waiting
from pointsman.settings import ServerSettings
from pointsman.ticker import NEVER, Ticker

RETRY_SECONDS: Final = 1.0


class Turn(Waiting):
    """A call that waits for a place."""

    def __init__(self, deadline: float, late: Callable[["Turn"], None]) -> None:
        self.deadline = deadline
        self.admitted = False
        self._late = late

    def expired(self) -> None:
        """It waited long enough."""
        self.deadline = NEVER
        self._late(self)


class Admission:
    """The places of one process. Each successful `try_enter` or `enter` is paired with one `leave`."""

    def __init__(self, settings: ServerSettings, ticker: Ticker) -> None:
        self._places = settings.max_concurrent_requests
        self._room = settings.max_queued_requests
        self._patience = settings.queue_timeout_seconds
        self._max_lag = settings.max_loop_lag_seconds
        self._ticker = ticker
        self._queues: tuple[deque[Turn], ...] = tuple(deque() for _ in range(LOW, HIGH + 1))
        self.running = 0
        self.queued = 0
        self.refused = {"full": 0, "timeout": 0, "lag": 0}

    def try_enter(self, priority: int) -> bool:
        """Take a place if one is free. Raises GatewayError(OVERLOADED) for low priority while the loop lags."""
        if priority == LOW and self._ticker.lag_seconds > self._max_lag:
            raise self._refusal("lag", "the gateway is overloaded and takes no calls of low priority now")
        if self.running >= self._places:
            return False
        self.running += 1
        return True

    async def enter(self, priority: int) -> None:
        """Wait for a place. Raises GatewayError(OVERLOADED) when too many wait, or for too long."""
        if self.queued >= self._room and not self._displace(priority):
            raise self._refusal("full", "the gateway is at its limit of calls; try again soon")
        turn = Turn(self._ticker.now + self._patience, self._expire)
        queue = self._queues[priority]
        queue.append(turn)
        self.queued += 1
        self._ticker.members.add(turn)
        try:
            await turn
        except BaseException:
            if turn.admitted:
                self.leave()
            elif turn in queue:
                queue.remove(turn)
                self.queued -= 1
            raise
        finally:
            self._ticker.members.discard(turn)

    def leave(self) -> None:
        """The place is free: the next one gets it, in a turn of the loop of its own."""
        if not self.queued:
            self.running -= 1
            return
        queue = next(queue for queue in reversed(self._queues) if queue)
        turn = queue.popleft()
        self.queued -= 1
        turn.admitted = True
        turn.deadline = NEVER
        self._ticker.loop.call_soon(turn.finish)

    def _displace(self, priority: int) -> bool:
        """Make room for a call of this priority at the cost of a lower one."""
        for queue in self._queues[:priority]:
            if queue:
                self._give_up(queue.pop(), "full", "the gateway is at its limit of calls; try again soon")
                return True
        return False

    def _expire(self, turn: Turn) -> None:
        for queue in self._queues:
            if turn in queue:
                queue.remove(turn)
                self._give_up(turn, "timeout", f"no place became free within {self._patience:g} s")

    def _give_up(self, turn: Turn, reason: str, message: str) -> None:
        self.queued -= 1
        turn.deadline = NEVER
        self._ticker.loop.call_soon(turn.break_off, self._refusal(reason, message))

    def _refusal(self, reason: str, message: str) -> GatewayError:
        self.refused[reason] += 1
        return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=RETRY_SECONDS)
