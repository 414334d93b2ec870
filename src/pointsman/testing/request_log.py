"""What a simulator received and how each request ended, readable and awaitable from any thread."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

from .reply import Request

T = TypeVar("T")


class Outcome(StrEnum):
    """How a request ended on the wire."""

    COMPLETED = "completed"  # the whole answer was handed to the kernel, also when that answer is an error status
    CLIENT_DISCONNECTED = "client_disconnected"  # the client went away first
    FAULT = "fault"  # a fault cut the answer or the connection
    STOPPED = "stopped"  # the simulator was stopped first


class ReceivedRequest:
    """One request that a simulator received. ``outcome`` and ``ended_at`` are None until it ends.

    ``received_at`` and ``ended_at`` are ``time.monotonic()`` seconds; ``status`` is 0 if no head was to be sent;
    ``sent_bytes`` counts the head and framing too.
    """

    def __init__(self, request: Request, *, model: str, fault: str | None, status: int) -> None:
        self.method = request.method
        self.path = request.path
        self.headers = request.headers
        self.body = request.body
        self.model = model
        self.fault = fault
        self.status = status
        self.received_at = time.monotonic()
        self.ended_at: float | None = None
        self.outcome: Outcome | None = None
        self.sent_bytes = 0

    def header(self, name: str) -> str | None:
        """The first value of a header (name in lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def __repr__(self) -> str:
        state = f"fault={self.fault} {self.outcome or 'open'} sent={self.sent_bytes}"
        return f"<{self.method} {self.path} model={self.model!r} {state}>"


class RequestLog:
    """The last ``history`` requests, oldest first, and waiting for what will come."""

    def __init__(self, history: int) -> None:
        self.total = 0
        self._requests: deque[ReceivedRequest] = deque(maxlen=history)
        self._watchers: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The requests as they are now."""
        with self._lock:
            return tuple(self._requests)

    def add(self, received: ReceivedRequest) -> None:
        """Record a request that has just come in whole."""
        with self._lock:
            self._requests.append(received)
            self.total += 1
        self._tell()

    def end(self, received: ReceivedRequest, outcome: Outcome) -> None:
        """Record how a request ended; only the first ending counts."""
        if received.outcome is None:
            received.ended_at = time.monotonic()
            received.outcome = outcome
            self._tell()

    def clear(self) -> None:
        """Forget all requests, so that a test can count from zero."""
        with self._lock:
            self._requests.clear()
            self.total = 0

    def wait(self, found: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """Block until ``found`` returns something and return it; AssertionError naming ``what`` after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        changed = threading.Event()
        with self._watching(changed.set):
            while (result := found()) is None:
                if not changed.wait(deadline - time.monotonic()):
                    raise self._gave_up(what, timeout_s)
                changed.clear()
        return result

    async def until(self, found: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """Like ``wait``, without blocking the running loop, which need not be the simulator's."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        with self._watching(lambda: loop.call_soon_threadsafe(changed.set)):
            try:
                async with asyncio.timeout(timeout_s):
                    while (result := found()) is None:
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                raise self._gave_up(what, timeout_s) from None
        return result

    def at_least(self, count: int) -> tuple[ReceivedRequest, ...] | None:
        """The requests, once ``count`` have come, else None."""
        return self.requests if self.total >= count else None

    def ended(self, outcome: Outcome) -> ReceivedRequest | None:
        """The newest request that ended like this, or None."""
        return next((received for received in reversed(self.requests) if received.outcome is outcome), None)

    def _tell(self) -> None:
        if self._watchers:
            for watcher in tuple(self._watchers):
                watcher()

    @contextmanager
    def _watching(self, watcher: Callable[[], object]) -> Iterator[None]:
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def _gave_up(self, what: str, timeout_s: float) -> AssertionError:
        return AssertionError(f"no {what} within {timeout_s} s; received: {list(self.requests)}")
