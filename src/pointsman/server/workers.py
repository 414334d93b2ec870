"""The supervisor of several worker processes that share one port.

It holds the listening sockets, one share of them for each worker, and takes no connection itself. A share outlives its
worker: whoever connects while a worker is replaced waits in the share's queue for the next one, and is never refused.

    SIGHUP   each worker in turn: start a new one, then let the old one finish
    SIGTERM  let all finish; a second time: end at once
    crash    another worker takes the share's connections until a new one is there, at once or after a back-off
"""

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from pointsman.accounting.lease_book import LeaseBook
from pointsman.accounting.telemetry import Gauge, Sums, merge_sums
from pointsman.clock import Clock, rest
from pointsman.errors import ConfigError
from pointsman.server.worker_link import (
    REPORT_SECONDS,
    AnyMessage,
    Ask,
    AskLease,
    Channel,
    Claim,
    Collect,
    Drain,
    Lease,
    Leave,
    Lend,
    Place,
    Ready,
    Refusal,
    Release,
    Report,
    Total,
)
from pointsman.upstream.local_model import LocalModel
from pointsman.upstream.local_weights import LocalModelUnavailable

START_SECONDS: Final = 60.0
COLLECT_SECONDS: Final = 1.0
END_SECONDS: Final = 10.0  # beyond the grace that requests get: to settle, close and exit
LAST_WORDS_SECONDS: Final = 1.0  # to read what a process said before it ended
SILENT_TURNS: Final = 30  # of a second each, in which a worker should have reported
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HEALTHY_SECONDS: Final = 10.0
FIRST_BACK_OFF_SECONDS: Final = 0.5
MOST_BACK_OFF_SECONDS: Final = 30.0
log = structlog.get_logger("pointsman.workers")
T = TypeVar("T")


class Worker:
    """One worker process as the supervisor sees it."""

    channel: Channel
    watch: asyncio.Task[None]

    def __init__(self, share: int, process: asyncio.subprocess.Process, started: float) -> None:
        self.share = share
        self.process = process
        self.started = started
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.node_id: str | None = None
        self.grace_seconds = 0.0  # nobody waits for an answer before it is ready
        self.sums = Sums()
        self.claims: Counter[str] = Counter()  # on local programs
        self.reports: dict[int, asyncio.Future[None]] = {}


class _Share:
    """A part of the listening side, and who serves it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()  # held while its worker is started or replaced
        self.worker: Worker | None = None
        self.lent_to: Worker | None = None
        self.failures = 0


class Supervisor:
    """Starts the workers, keeps them alive, and answers for all of them.

    ``command`` makes a worker's command line; ``forget`` is told the node id of each worker that has ended;
    ``own_sums`` are shown next to the workers' in the metrics.
    """

    def __init__(
        self,
        clock: Clock,
        listeners: list[list[socket.socket]],
        command: Callable[[Place], list[str]],
        children: Mapping[str, LocalModel],
        own_sums: Callable[[], Sums],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._listeners = listeners
        self._command = command
        self._children = children
        self._own_sums = own_sums
        self._forget = forget
        self._shares = [_Share() for _ in listeners]
        self._workers: set[Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._past = Sums()  # of workers that have ended
        self._limits = LeaseBook(lambda: int(clock.monotonic() * 1e6))
        self._restarts = 0
        self._collections = 0
        self._stop: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._roll = asyncio.Event()

    async def start(self) -> bool:
        """Start all workers; False when SIGTERM or SIGINT comes meanwhile, for which `run` ends them.

        Raises ConfigError when one of them can't start (it has said why on standard error).
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._roll.set if number == signal.SIGHUP else self._on_stop)
        started = await asyncio.gather(*(self._begin(number) for number in range(len(self._shares))))
        for share, worker in zip(self._shares, started, strict=True):
            share.worker = worker if worker in self._workers else None
        if self._stop.done():
            return False
        if len(self._taking()) < len(self._shares):
            await self._end()
            raise ConfigError("a worker could not start")
        return True

    async def run(self) -> None:
        """Supervise until SIGTERM or SIGINT, then let requests finish for as long as their workers give them."""
        self._spawn(self._starting, self._roll_when_asked())
        self._spawn(self._starting, self._kill_the_silent())
        await asyncio.wait([self._stop])
        await self._end()

    def _on_stop(self) -> None:
        if self._stop.done():
            for worker in self._workers:
                worker.channel.send(Drain(handed_over=False, at_once=True))
        _decide(self._stop, True)

    async def _end(self) -> None:
        _decide(self._stop, True)
        log.info("ending workers", workers=len(self._workers))
        for task in self._starting:
            task.cancel()
        for worker in self._workers:
            worker.channel.send(Drain(handed_over=False))
        for share in self._listeners:
            for listener in share:
                listener.close()
        await asyncio.gather(*(_see_off(worker) for worker in self._workers))
        for task in self._answering:
            task.cancel()

    # one process

    async def _begin(self, number: int) -> Worker | None:
        """Start a worker for a share; None when it can't be started, or ends or hangs before it takes connections."""
        try:
            worker = await self._launch(number)
        except OSError as error:  # no memory, processes or descriptors, or no interpreter while it is replaced
            log.error("a worker can't be started", share=number, reason=str(error))
            return None
        except Exception:  # a defect of ours: who asks would not try again
            log.exception("a worker can't be started", share=number)
            return None
        await asyncio.wait([worker.ready, self._stop], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if worker.ready.done() and worker.ready.result() and worker in self._workers:
            log.info("worker ready", pid=worker.process.pid, share=number)
            return worker
        if not self._stop.done():
            if not worker.ready.done():
                _kill(worker, "it did not start in time")
            await _see_off(worker)  # one that fails says why at its end
        return None

    async def _launch(self, number: int) -> Worker:
        """A worker's process, watched and listened to. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            process = await self._run(number, theirs)
            worker = Worker(number, process, self._clock.monotonic())
            worker.channel = await Channel.over(
                ours, lambda message: self._receive(worker, message), lambda: _decide(worker.ready, False)
            )
        except BaseException:
            ours.close()  # which ends it, if it runs
            raise
        finally:
            theirs.close()
        worker.watch = asyncio.get_running_loop().create_task(self._watch(worker))
        self._workers.add(worker)
        return worker

    async def _run(self, number: int, control: socket.socket) -> asyncio.subprocess.Process:
        """A worker's process, with its end of what connects us. Raises OSError."""
        shares = [[listener.fileno() for listener in share] for share in self._listeners]
        return await asyncio.create_subprocess_exec(
            *self._command(Place(control=control.fileno(), share=number, listeners=shares)),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(control.fileno(), *(descriptor for share in shares for descriptor in share)),
        )

    async def _watch(self, worker: Worker) -> None:
        """Wait for the end of a worker; take over what it counted, give up what it held, replace it."""
        status = await worker.process.wait()
        await rest(worker.channel.closed, LAST_WORDS_SECONDS)  # a program that it has started may hold its end open
        worker.channel.close()
        self._workers.discard(worker)
        self._past = merge_sums((self._past, Sums(series=worker.sums.series, counters=worker.sums.counters)))
        for future in worker.reports.values():
            _decide(future, None)
        for what in worker.claims.elements():
            self._children[what].release()
        share = self._shares[worker.share]
        if share.worker is worker and not self._stop.done():
            log.error("worker ended unexpectedly", pid=worker.process.pid, status=status)
            share.worker = None
            self._spawn(self._starting, self._revive(worker, share))
        else:
            log.info("worker ended", pid=worker.process.pid, status=status)
        self._lend_anew(worker)
        if worker.node_id is not None:
            await self._forget(worker.node_id)

    async def _revive(self, dead: Worker, share: _Share) -> None:
        """A new worker in place of a dead one: at once, and after a growing pause when that one dies soon too."""
        lived = self._clock.monotonic() - dead.started
        share.failures = 0 if lived >= HEALTHY_SECONDS else share.failures + 1
        async with share.lock:
            while share.worker is None:
                if share.failures > 1:
                    pause = min(MOST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2 ** min(share.failures - 2, 16))
                    log.warning("worker restarts after a pause", share=dead.share, seconds=pause)
                    await asyncio.sleep(pause)
                self._restarts += 1
                share.worker = await self._begin(dead.share)
                share.failures += share.worker is None
        self._take_back(dead.share)
        self._lend_anew()  # what died while nobody could borrow it

    def _lend(self, number: int) -> None:
        """Let some other worker take the connections of a share whose own worker is dead."""
        for other in self._shares:
            if other.worker is not None and other.worker.share != number:
                self._shares[number].lent_to = other.worker
                other.worker.channel.send(Lend(share=number, on=True))
                return

    def _take_back(self, number: int) -> None:
        borrower, self._shares[number].lent_to = self._shares[number].lent_to, None
        if borrower is not None:
            borrower.channel.send(Lend(share=number, on=False))

    def _lend_anew(self, leaving: Worker | None = None) -> None:
        """Lend every share that nobody serves, also what ``leaving`` had borrowed."""
        for number, share in enumerate(self._shares):
            if share.lent_to is leaving:
                share.lent_to = None
            if share.worker is None and share.lent_to is None:
                self._lend(number)

    async def _kill_the_silent(self) -> None:
        """End workers that hang, with all that they have in flight: nobody else takes the connections of their shares.

        Our own turns are counted, not time: when the machine was suspended, or we were, nobody has been silent.
        """
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for worker in self._taking():
                worker.channel.silent_turns += 1
                if worker.channel.silent_turns == SILENT_TURNS:
                    _kill(worker, "it does not report any more")

    # rolling restart

    async def _roll_when_asked(self) -> None:
        while True:
            await self._roll.wait()
            self._roll.clear()
            await self._roll_all()

    async def _roll_all(self) -> None:
        log.info("rolling restart", workers=len(self._shares))
        for number in range(len(self._shares)):
            if not await self._renew(number):
                log.error("rolling restart given up: a new worker does not start; the others go on")
                return
        log.info("rolling restart done")

    async def _renew(self, number: int) -> bool:
        """Start a new worker for a share, then let the old one finish; False when the new one does not start."""
        share = self._shares[number]
        async with share.lock:
            fresh = await self._begin(number)
            if fresh is None:
                return False
            old, share.worker = share.worker, fresh
            share.failures = 0
            if old is not None:
                old.channel.send(Drain(handed_over=True))
                self._spawn(self._starting, _see_off(old))
            self._lend_anew(old)
        return True

    async def _let_leave(self, worker: Worker) -> None:
        if self._shares[worker.share].worker is worker and not self._stop.done():
            await self._renew(worker.share)

    def _spawn(self, tasks: set[asyncio.Task[None]], work: Awaitable[None]) -> None:
        async def supervised() -> None:
            try:
                await work
            except Exception:
                log.exception("supervision failed")

        task = asyncio.get_running_loop().create_task(supervised())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # what workers say

    def _receive(self, worker: Worker, message: AnyMessage) -> None:
        match message:
            case Ready(node_id=node_id, grace_seconds=grace_seconds):
                worker.node_id, worker.grace_seconds = node_id, grace_seconds
                _decide(worker.ready, True)
            case Report(number=number, sums=sums):
                worker.sums = sums
                if number is not None and number in worker.reports:
                    _decide(worker.reports.pop(number), None)
            case Ask(number=number, what="sums"):
                self._spawn(self._answering, self._answer_total(worker, number))
            case Ask(number=number, what=what):
                self._spawn(self._answering, self._answer_claim(worker, number, what))
            case AskLease(number=number, name=name, question=question):
                worker.channel.send(Lease(number=number, answer=self._limits.grant(name, question)))
            case Leave():
                self._spawn(self._starting, self._let_leave(worker))
            case Release(what=what):
                worker.claims[what] -= 1
                if what in self._children:
                    self._children[what].release()
            case _:
                log.error("a worker says what only the supervisor says", message=type(message).__name__)

    async def _answer_total(self, worker: Worker, number: int) -> None:
        worker.channel.send(Total(number=number, sums=await self._total()))

    async def _total(self) -> Sums:
        """All sums: asked of the living, who have a second to answer, and remembered of the dead."""
        number = self._collections = self._collections + 1
        asked = [worker for worker in self._workers if worker.node_id is not None]
        futures: list[asyncio.Future[None]] = []
        for worker in asked:
            future = worker.reports[number] = asyncio.get_running_loop().create_future()
            futures.append(future)
            worker.channel.send(Collect(number=number))
        if futures:
            await asyncio.wait(futures, timeout=COLLECT_SECONDS)
        for worker in asked:
            worker.reports.pop(number, None)
        own = self._own_sums()
        own.gauges["pointsman_workers"] = Gauge(text="Workers that take requests.", value=len(self._taking()))
        own.gauges["pointsman_worker_restarts"] = Gauge(
            text="Workers started in place of one that ended unexpectedly.", value=self._restarts, counter=True
        )
        return merge_sums((self._past, own, *(worker.sums for worker in self._workers)))

    def _taking(self) -> list[Worker]:
        return [share.worker for share in self._shares if share.worker is not None]

    async def _answer_claim(self, worker: Worker, number: int, what: str) -> None:
        child = self._children.get(what)
        try:
            if child is None:
                raise LocalModelUnavailable("The local model is switched off.")
            endpoint = await child.acquire()
        except LocalModelUnavailable as error:
            answer = Refusal(number=number, message=error.message, retry_after_seconds=error.retry_after_seconds)
            worker.channel.send(answer)
            return
        if worker in self._workers:
            worker.claims[what] += 1
            claim = Claim(number=number, what=what, host=endpoint.host, port=endpoint.port, api_key=endpoint.api_key)
            worker.channel.send(claim)
        else:
            child.release()


async def _see_off(worker: Worker) -> None:
    """Wait for the end of a worker that was told to end, and kill it when that takes too long."""
    await asyncio.wait([worker.watch], timeout=worker.grace_seconds + END_SECONDS)
    if not worker.watch.done():
        _kill(worker, "it did not end in time")
        await asyncio.wait([worker.watch])


def _kill(worker: Worker, reason: str) -> None:
    log.error("worker killed", pid=worker.process.pid, reason=reason)
    with suppress(ProcessLookupError):  # it has ended just now
        worker.process.kill()


def _decide(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
