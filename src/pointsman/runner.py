"""Runs a request's coroutine, with an asyncio Task only from the moment it needs one.

A Task, its Future and their turns of the event loop cost some 5 us, a tenth of a proxied request. The usual request
waits for one thing only, its upstream's answer, and the answer can wake it directly: so it is stepped by hand. Whatever
needs a Task (asyncio.timeout, a library) asks for it by awaiting `in_task`, and a coroutine that awaits any
other asyncio Future is handed to a Task at that point.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

import structlog

log = structlog.get_logger("pointsman.runner")


class _NeedTask:
    """What a coroutine yields to be continued in a Task."""


NEED_TASK: Final = _NeedTask()
_ENDED: Final = object()
# True while a coroutine is stepped by hand. Not asyncio.current_task(): what wakes it may run in a Task of its own.
_by_hand = False


class Waiting:
    """Something that one coroutine awaits, and that `finish` or `break_off` ends. Works with and without a Task.

    Made for every request: defaults of the class instead of an `__init__`, which costs more than all it would set.
    """

    done = False
    wake: Callable[[], None] | None = None
    _error: BaseException | None = None

    def finish(self) -> None:
        """What was waited for is there."""
        if not self.done:
            self.done = True
            if self.wake is not None:
                self.wake()

    def break_off(self, error: BaseException) -> None:
        """It will never come: ``error`` is raised where it is awaited."""
        if not self.done:
            self._error = error
            self.finish()

    def __await__(self) -> Generator[Any, None, None]:
        if not self.done:
            if _by_hand:
                yield self
            else:
                future = asyncio.get_running_loop().create_future()
                self.wake = lambda: None if future.done() else future.set_result(None)
                yield from future
        if self._error is not None:
            raise self._error


@types.coroutine
def in_task() -> Generator[Any, None, None]:
    """Await this before anything that needs a current Task; costs nothing where there is one."""
    if _by_hand:
        yield NEED_TASK


class Runner:
    """One coroutine on its way. `start` runs it up to its first wait, at once."""

    __slots__ = ("_coroutine", "_loop", "_steps", "_task", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._steps = coroutine.__await__()
        self._waiting: Waiting | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, error: BaseException | None = None) -> None:
        """Run until the coroutine waits or ends; ``error`` is raised in it first."""
        global _by_hand
        self._waiting = None
        before, _by_hand = _by_hand, True
        try:
            # next() with a default tells the end of a coroutine without making a StopIteration.
            yielded = next(self._steps, _ENDED) if error is None else self._coroutine.throw(error)
        except (StopIteration, asyncio.CancelledError):
            return
        except BaseException:
            log.exception("request coroutine failed")
            raise
        finally:
            _by_hand = before
        if isinstance(yielded, Waiting):
            self._waiting = yielded
            yielded.wake = self.start
        elif yielded is NEED_TASK:
            self._task = self._loop.create_task(self._coroutine)
        elif yielded is not _ENDED:
            rest = _continue(self._coroutine, yielded)
            rest.send(None)  # to where it may be cancelled: what has not begun can't tell the coroutine of it
            self._task = self._loop.create_task(rest)

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits."""
        if self._task is not None:
            self._task.cancel()
            return
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        waiting.wake = None
        self.start(asyncio.CancelledError())


async def _continue(coroutine: Coroutine[Any, Any, None], first: Any) -> None:
    """Go on with a coroutine that has just yielded the Future ``first``, inside the Task that runs this."""
    await _adopt(coroutine, first)


@types.coroutine
def _adopt(coroutine: Coroutine[Any, Any, None], first: Any) -> Generator[Any, Any, None]:
    awaited: tuple[Any, ...] = (None, first)  # nothing, where its Task takes it up, and what it waits for
    while True:
        try:
            yield from awaited
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who waits
            if first is not None:
                first.cancel()  # as a Task does that is cancelled; nothing where it is done
            try:
                awaited = (coroutine.throw(error),)
            except StopIteration:
                return
        else:
            yield from coroutine
            return
