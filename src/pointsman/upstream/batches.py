"""A bounded queue of texts in front of a model that works on batches, one at a time, in a thread of its own.

Requests take turns: the next batch takes some texts of each that waits, so that a thousand texts of one caller don't
keep one text of another waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

Tokens = Sequence[int]

BATCH_TEXTS: Final = 32
BATCH_TOKENS: Final = 4096  # texts times the longest of them: what a batch costs
SHARE: Final = 8  # texts that a request gives to a batch while others wait
MAX_WAITING_TEXTS: Final = 8192


class QueueFull(Exception):
    """More texts wait than are taken."""


class _Request:
    """One caller's texts: those that wait, and the vectors that are made."""

    def __init__(self, texts: Sequence[Tokens], done: asyncio.Future[list[Any]]) -> None:
        self.waiting = deque(enumerate(texts))
        self.vectors: list[Any] = [None] * len(texts)
        self.missing = len(texts)
        self.done = done


class Batches:
    """Makes vectors of tokens. `embed` may be cancelled: what waits is dropped then."""

    def __init__(self, work: Callable[[Sequence[Tokens]], Any], most_waiting: int = MAX_WAITING_TEXTS) -> None:
        """``work`` gives a row per text; it is called in one thread, never twice at once."""
        self._work = work
        self._most = most_waiting
        self._waiting = 0
        self._requests: deque[_Request] = deque()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")
        self._runner: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Texts that no batch has taken yet."""
        return self._waiting

    async def embed(self, texts: Sequence[Tokens]) -> list[Any]:
        """A row per text, in order. Raises QueueFull, and whatever ``work`` raises."""
        if not texts:
            return []
        if self._waiting and self._waiting + len(texts) > self._most:
            raise QueueFull
        loop = asyncio.get_running_loop()
        if self._runner is None:
            self._runner = loop.create_task(self._run(), name="embedder")
        request = _Request(texts, loop.create_future())
        self._waiting += len(texts)
        self._requests.append(request)
        self._wake.set()
        try:
            return await request.done
        except asyncio.CancelledError:
            self._waiting -= len(request.waiting)
            request.waiting.clear()
            raise

    async def aclose(self) -> None:
        """End. Whoever still waits gets nothing."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            batch = self._take()
            if not batch:
                self._wake.clear()
                continue
            try:
                rows = await loop.run_in_executor(self._thread, self._work, [tokens for _, _, tokens in batch])
            except Exception as error:  # noqa: BLE001 - told to every caller of the batch
                for request, _, _ in batch:
                    self._fail(request, error)
            else:
                for (request, index, _), row in zip(batch, rows, strict=True):
                    self._finish(request, index, row)

    def _take(self) -> list[tuple[_Request, int, Tokens]]:
        """The next batch: a share of each request in turn, as long as the batch stays within bounds."""
        batch: list[tuple[_Request, int, Tokens]] = []
        longest = 0
        while self._requests and len(batch) < BATCH_TEXTS:
            request = self._requests.popleft()
            share = SHARE if self._requests else BATCH_TEXTS
            while request.waiting and share and len(batch) < BATCH_TEXTS:
                index, tokens = request.waiting[0]
                length = max(longest, len(tokens))
                if batch and length * (len(batch) + 1) > BATCH_TOKENS:
                    self._requests.appendleft(request)
                    return batch
                request.waiting.popleft()
                self._waiting -= 1
                batch.append((request, index, tokens))
                longest, share = length, share - 1
            if request.waiting:
                self._requests.append(request)
        return batch

    def _finish(self, request: _Request, index: int, row: Any) -> None:
        request.vectors[index] = row
        request.missing -= 1
        if request.missing == 0 and not request.done.done():
            request.done.set_result(request.vectors)

    def _fail(self, request: _Request, error: Exception) -> None:
        self._waiting -= len(request.waiting)
        request.waiting.clear()
        if not request.done.done():
            request.done.set_exception(error)
