"""What stands around a connection under test: a clock that stands still, a loop turned by hand, a transport."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class StillClock:
    """The same instant for ever; ids are numbered."""

    def __init__(self) -> None:
        self.ids = 0

    def monotonic(self) -> float:
        """Always 0 s."""
        return 0.0

    def now_us(self) -> int:
        """Always the epoch."""
        return 0

    def new_id(self, prefix: str, now_us: int | None = None) -> str:
        """``prefix_1``, ``prefix_2`` ..."""
        self.ids += 1
        return f"{prefix}_{self.ids}"


class HandLoop:
    """As much of an event loop as a connection uses; `run` calls what is due now. Timers never fire by themselves."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], object]] = []
        self._ready: deque[Callable[[], object]] = deque()

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call it in the next `run`."""
        self._ready.append(lambda: call(*arguments))

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> None:
        """Keep it in ``timers``."""
        self.timers.append(lambda: call(*arguments))

    def create_task(self, coroutine: Any) -> None:
        """No code under test may need a task here."""
        coroutine.close()
        raise AssertionError("a task was made")

    def run(self) -> None:
        """Call what is due, and what becomes due by it."""
        while self._ready:
            self._ready.popleft()()


class RecordingTransport(asyncio.Transport):
    """Keeps what is written, and every breach of a transport's contract in ``breaches``."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.breaches: list[str] = []
        self.closed = self.aborted = self.half_closed = self.paused = False

    def write(self, data: Any) -> None:
        """Keep it."""
        if self.closed or self.half_closed:
            self.breaches.append(f"written after the end: {bytes(data)[:80]!r}")
        if not data:
            self.breaches.append("nothing was written")
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        """Close the sending side."""
        self.half_closed = True

    def can_write_eof(self) -> bool:
        """As TCP."""
        return True

    def close(self) -> None:
        """Close when all is written, which is now."""
        self.closed = True

    def abort(self) -> None:
        """Cut."""
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        """True after `close` and `abort`."""
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held."""

    def get_write_buffer_size(self) -> int:
        """Nothing is ever held."""
        return 0

    def pause_reading(self) -> None:
        """Reading stops."""
        self.paused = True

    def resume_reading(self) -> None:
        """Reading goes on."""
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A loopback peer."""
        return ("127.0.0.1", 1) if name == "peername" else default

    @property
    def output(self) -> bytes:
        """All that was written."""
        return b"".join(self.written)
