"""How a worker and its supervisor talk: JSON lines over a socket pair, and the worker's end of it.

The pair is also the sign of life: when the supervisor is gone, however it ended, the worker reads the end of the stream
and drains.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import msgspec
import structlog

from pointsman.accounting.counters import CountersError
from pointsman.accounting.leases import LeaseAnswer, LeaseQuestion
from pointsman.accounting.telemetry import Sums
from pointsman.errors import GatewayError, Kind
from pointsman.server.host import Host
from pointsman.upstream.local_model import LocalEndpoint
from pointsman.upstream.local_weights import LocalModelUnavailable

REPORT_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 1.0
log = structlog.get_logger("pointsman.workers")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker stands, told on its command line: its share, and descriptors that it inherits."""

    control: int
    share: int
    listeners: list[list[int]]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One line."""


class Ready(Message, frozen=True, kw_only=True):
    """From the worker: it takes connections, is known as this node, and will give requests so long when it ends."""

    node_id: str
    grace_seconds: float


class Report(Message, frozen=True, kw_only=True):
    """From the worker: what it has counted. ``number`` is that of the question, None when nobody asked."""

    number: int | None
    sums: Sums


class Ask(Message, frozen=True, kw_only=True):
    """From the worker: all workers' sums, or a claim on a local program: ``chat`` or ``embedder``."""

    number: int
    what: str


class Release(Message, frozen=True, kw_only=True):
    """From the worker: a claim on a local program is given back."""

    what: str


class Collect(Message, frozen=True, kw_only=True):
    """To the worker: report with this number."""

    number: int


class Total(Message, frozen=True, kw_only=True):
    """To the worker: the sums of all."""

    number: int
    sums: Sums


class Claim(Message, frozen=True, kw_only=True):
    """To the worker: where the local model listens; it stays there until the claim is released."""

    number: int
    what: str
    host: str
    port: int
    api_key: str

    def __repr__(self) -> str:
        return f"Claim({self.host}:{self.port})"  # the key is a secret


class Refusal(Message, frozen=True, kw_only=True):
    """To the worker: why there is no local model now."""

    number: int
    message: str
    retry_after_seconds: float | None


class AskLease(Message, frozen=True, kw_only=True):
    """From the worker: a part of a rate limit's window, or something given back to it."""

    number: int
    name: str
    question: LeaseQuestion


class Lease(Message, frozen=True, kw_only=True):
    """To the worker: what it may spend."""

    number: int
    answer: LeaseAnswer


class Lend(Message, frozen=True, kw_only=True):
    """To the worker: take another share's connections too, for its own worker has died; or, no more."""

    share: int
    on: bool


class Drain(Message, frozen=True, kw_only=True):
    """To the worker: finish and end. ``handed_over``: a new worker has taken its place. ``at_once``: don't finish."""

    handed_over: bool
    at_once: bool = False


class Leave(Message, frozen=True, kw_only=True):
    """From the worker: an operator wants it to end; please replace it."""


AnyMessage = (
    Ready | Report | Ask | Release | Collect | Total | Claim | Refusal | AskLease | Lease | Lend | Drain | Leave
)
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(AnyMessage)


class Channel(asyncio.Protocol):
    """One end of the pair. ``closed`` is set when the other end is gone and all that it said was received.

    ``silent_turns`` is what who listens makes of it: it is 0 whenever anything comes, also what can't be understood.
    """

    def __init__(self, receive: Callable[[AnyMessage], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._unread = b""
        self.silent_turns = 0
        self.closed = asyncio.Event()

    @classmethod
    async def over(
        cls, pair: socket.socket, receive: Callable[[AnyMessage], None], lost: Callable[[], None]
    ) -> "Channel":
        """A channel over one socket of a pair."""
        pair.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(receive, lost), sock=pair)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pair is open."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Hands whole lines on. A defect of ours costs its line: the end of the channel would be that of a worker."""
        self.silent_turns = 0
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in filter(None, lines):
            try:
                self._receive(_DECODER.decode(line))
            except Exception:
                log.exception("a message between worker and supervisor came to nothing")

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        self.closed.set()
        self._lost()

    def send(self, message: AnyMessage) -> None:
        """Say something; nothing happens when nobody listens any more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ENCODER.encode(message) + b"\n")

    def show_life(self) -> None:
        """Say nothing, but be heard."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"\n")

    def close(self) -> None:
        """Say no more; what was said before still goes out."""
        if self._transport is not None:
            self._transport.close()


class WorkerLink:
    """The worker's end. The supervisor's local model and its windows of rate limits are the worker's through it.

    See `upstream.endpoints.LocalChild` and `accounting.leases.LeaseStore`.
    """

    def __init__(self, place: Place) -> None:
        self._share = place.share
        self._listeners = [[_own(number) for number in share] for share in place.listeners]
        self._pair = _own(place.control)
        self._asked: dict[int, asyncio.Future[AnyMessage | None]] = {}
        self._numbers = 0
        self._borrowed: dict[int, list[asyncio.Server]] = {}
        self._lending: set[asyncio.Task[None]] = set()
        self._drains: list[Drain] = []
        self._talks = False
        self._ending = False
        self._host: Host | None = None
        self._channel: Channel
        self._sums: Callable[[], Sums]

    async def connect(self, sums: Callable[[], Sums]) -> None:
        """Begin to talk; ``sums`` gives what this worker has counted."""
        self._sums = sums
        self._channel = await Channel.over(self._pair, self._receive, self._on_lost)
        self._talks = True

    @property
    def first(self) -> bool:
        """Whether this worker does what only one of them has to do."""
        return self._share == 0

    @property
    def port(self) -> int:
        """The port that all workers share."""
        return int(self._listeners[0][0].getsockname()[1])

    async def listen(self, host: Host, node_id: str) -> None:
        """Take connections of this worker's share and tell the supervisor."""
        await host.take_from(self._listeners[self._share])
        self._host = host
        self._channel.send(Ready(node_id=node_id, grace_seconds=host.grace_seconds))
        drains, self._drains = self._drains, []
        for drain in drains:
            self._drain(drain)

    async def report(self) -> None:
        """Tell what was counted every second: what a sudden death may hide from the metrics at most.

        It is a sign of life, too: a figure that can't be made ends no worker.
        """
        failed = False
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            try:
                self._channel.send(Report(number=None, sums=self._sums()))
                failed = False
            except Exception:
                if not failed:
                    log.exception("figures can't be reported")
                failed = True
                self._channel.show_life()

    async def total(self) -> Sums:
        """What all workers have counted, also those that have ended.

        Raises GatewayError(NOT_READY) when the supervisor is gone: counters of one worker would seem to go back.
        """
        answer = await self._ask(lambda number: Ask(number=number, what="sums"))
        if not isinstance(answer, Total):
            raise GatewayError(Kind.NOT_READY, "this worker is leaving; ask again", retry_after_seconds=1)
        return answer.sums

    async def acquire(self, what: str) -> LocalEndpoint:
        """A claim on the one program of this name. Raises LocalModelUnavailable."""
        answer = await self._ask(lambda number: Ask(number=number, what=what))
        if isinstance(answer, Claim):
            return LocalEndpoint(host=answer.host, port=answer.port, api_key=answer.api_key)
        if isinstance(answer, Refusal):
            raise LocalModelUnavailable(answer.message, retry_after_seconds=answer.retry_after_seconds)
        raise LocalModelUnavailable("The local model is shutting down.")

    def release(self, what: str) -> None:
        """Give a claim back."""
        self._channel.send(Release(what=what))

    def child(self, what: str) -> "LinkedChild":
        """A local program that the supervisor runs for all workers."""
        return LinkedChild(self, what)

    async def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """A part of a rate limit's window that all workers share. Raises CountersError without a supervisor."""
        answer = await self._ask(lambda number: AskLease(number=number, name=name, question=question))
        if not isinstance(answer, Lease):
            raise CountersError("the supervisor is gone")
        return answer.answer

    async def leave(self) -> None:
        """The limits need the supervisor no more, others do until `aclose`."""

    def ask_to_leave(self) -> None:
        """Ask to be replaced: ending on its own would leave a worker too few for the time of a start."""
        self._channel.send(Leave())

    async def aclose(self) -> None:
        """Report for the last time and end the talk; nothing is said by one that could not even start."""
        if self._talks:
            await self._end_talk()
        else:
            self._pair.close()
        self._close_listeners()

    def _close_listeners(self) -> None:
        """All shares': a port is free, and refuses who knocks, when nobody holds a socket of it any more."""
        for share in self._listeners:
            for listener in share:
                listener.close()

    async def _end_talk(self) -> None:
        self._ending = True
        self._channel.send(Report(number=None, sums=self._sums()))
        self._channel.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._channel.closed.wait()
        except TimeoutError:
            log.warning("the last report may be lost")

    async def _ask(self, question: Callable[[int], AnyMessage]) -> AnyMessage | None:
        """The answer; None when the supervisor is gone."""
        if self._channel.closed.is_set():
            return None
        self._numbers += 1
        future: asyncio.Future[AnyMessage | None] = asyncio.get_running_loop().create_future()
        self._asked[self._numbers] = future
        self._channel.send(question(self._numbers))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and isinstance(claim := future.result(), Claim):
                self.release(claim.what)  # it came in the same moment
            raise

    def _receive(self, message: AnyMessage) -> None:
        match message:
            case Collect(number=number):
                self._channel.send(Report(number=number, sums=self._sums()))
            case Total(number=number) | Claim(number=number) | Refusal(number=number) | Lease(number=number):
                self._answer(number, message)
            case Lend(share=share, on=on):
                task = asyncio.get_running_loop().create_task(self._borrow(share, on=on))
                self._lending.add(task)
                task.add_done_callback(self._lending.discard)
            case Drain():
                self._drain(message)
            case _:
                log.error("the supervisor says what only workers say", message=type(message).__name__)

    def _answer(self, number: int, message: AnyMessage) -> None:
        future = self._asked.pop(number)
        if not future.done():
            future.set_result(message)
        elif isinstance(message, Claim):
            self.release(message.what)  # who asked has given up

    async def _borrow(self, share: int, *, on: bool) -> None:
        if on and self._host is not None and share not in self._borrowed and not self._drains:
            self._borrowed[share] = []
            self._borrowed[share] = await self._host.take_from(self._listeners[share])
        elif not on:
            for server in self._borrowed.pop(share, []):
                server.close()

    def _drain(self, drain: Drain) -> None:
        first = not self._drains
        self._drains.append(drain)
        if self._host is None:
            return  # `listen` looks at it again
        if first:
            self._host.stop(handed_over=drain.handed_over, let_go=self._close_listeners)
        if drain.at_once:
            self._host.cut()

    def _on_lost(self) -> None:
        for future in self._asked.values():
            if not future.done():
                future.set_result(None)
        self._asked.clear()
        if not self._drains and not self._ending:
            log.error("the supervisor is gone")
            self._drain(Drain(handed_over=False))


def _own(descriptor: int) -> socket.socket:
    """An inherited socket, kept from programs that this process starts: held by one, it would outlive us."""
    inherited = socket.socket(fileno=descriptor)
    inherited.set_inheritable(False)
    return inherited


class LinkedChild:
    """A local program of the supervisor's, as a worker uses it."""

    def __init__(self, link: WorkerLink, what: str) -> None:
        self._link = link
        self._what = what

    async def acquire(self) -> LocalEndpoint:
        """Where it listens, started if need be. Raises LocalModelUnavailable."""
        return await self._link.acquire(self._what)

    def release(self) -> None:
        """Give one claim back."""
        self._link.release(self._what)
