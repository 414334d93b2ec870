"""Requests of one connection that wait until those before them are answered (pipelining, RFC 9112 9.3.2)."""

from collections import deque
from typing import TYPE_CHECKING

from pointsman.server.body_memory import Share

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange


class Pipeline:
    """Those requests in their order, each with what its body has of the room for bodies.

    ``rest`` is what was read behind them, as it came.
    """

    __slots__ = ("_waiting", "rest")

    def __init__(self) -> None:
        self._waiting: deque[tuple[Exchange, Share | None]] | None = None  # most connections never have one
        self.rest = b""

    def __len__(self) -> int:
        return len(self._waiting) if self._waiting is not None else 0

    def add(self, exchange: "Exchange", share: Share | None) -> None:
        """One more behind all others."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((exchange, share))

    def take(self) -> "Exchange":
        """The next one; there must be one."""
        assert self._waiting, "nobody waits"
        exchange, share = self._waiting.popleft()
        if share is not None:
            share.give_back()
        return exchange

    def take_rest(self) -> bytes:
        """What was read behind them, once."""
        rest, self.rest = self.rest, b""
        return rest

    def drop(self) -> None:
        """Nobody waits any longer."""
        while self:
            self.take()
        self.rest = b""
