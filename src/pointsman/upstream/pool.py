"""The connections to one origin: kept, limited, and waited for in turn."""

import asyncio
from typing import Final, Protocol

from pointsman.errors import GatewayError, Kind
from pointsman.settings import UpstreamSettings
from pointsman.ticker import NEVER, Ticker
from pointsman.upstream.fair_queue import FairQueue
from pointsman.upstream.http1 import Sink, UpstreamConnection
from pointsman.upstream.origins import Origin
from pointsman.upstream.tls import remember_session

RETRY_AFTER_SECONDS: Final = 1  # told to a caller for whom there is no room in the queue


class Dialing(Protocol):
    """The way to a new connection (dialing.py)."""

    async def open(self, pool: "Pool", origin: Origin, total_deadline: float) -> UpstreamConnection:
        """Raises GatewayError: UPSTREAM_UNAVAILABLE, UPSTREAM_TIMEOUT, or OVERLOADED for want of open files."""
        ...


class Pool:
    """The connections to one origin: last in, first out, with a limit and a bounded, fair queue.

    ``open`` counts slots: connections that are open or opening, a call's repeat among them. A slot or a connection that
    becomes free goes by hand to the caller whose turn it is. So while anyone waits every slot is taken and nothing is
    idle, and nobody overtakes.
    """

    def __init__(self, dialer: Dialing, origin: Origin, settings: UpstreamSettings, ticker: Ticker) -> None:
        self.settings = settings
        self.ticker = ticker
        self._dialer = dialer
        self._origin = origin
        self._limit = min(origin.limit or settings.max_connections_per_host, settings.max_connections_per_host)
        self._idle: list[UpstreamConnection] = []
        self._waiters: FairQueue[asyncio.Future[UpstreamConnection | None]] = FairQueue()
        self._repeats: dict[Sink, asyncio.Task[None]] = {}
        self._acquiring = 0
        self.open = 0

    @property
    def unused(self) -> bool:
        """True when nothing would be lost with it."""
        return not (self.open or self._acquiring)

    @property
    def waiting(self) -> int:
        """Calls that wait for a connection or a slot."""
        return len(self._waiters)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that can be used, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def acquire(self, total_deadline: float, caller: str, begin_by: float = NEVER) -> UpstreamConnection:
        """A connection, now or when it is the turn of ``caller`` (whoever shares the upstream fairly: an API key).

        Raises GatewayError: OVERLOADED when too many wait, this one too long, or no more files can be opened,
        UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT when it can't connect or the call's own time is over.
        """
        self._acquiring += 1
        connect_deadline = min(total_deadline, begin_by)
        queue_deadline = min(connect_deadline, self.ticker.now + self.settings.queue_timeout_seconds)
        try:
            while True:
                connection = self.take()
                if connection is not None:
                    return connection
                if self.open < self._limit:
                    self.open += 1
                    return await self._connect(connect_deadline)
                connection = await self._wait(queue_deadline, caller, own=queue_deadline < total_deadline)
                if connection is None:
                    return await self._connect(connect_deadline)
                if connection.usable:
                    return connection
        finally:
            self._acquiring -= 1

    async def _wait(self, deadline: float, caller: str, *, own: bool) -> UpstreamConnection | None:
        """Wait in line; a connection, or None for a slot to open one in. ``own``: the caller has more time."""
        self._make_room(caller)
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.push(caller, waiter)
        try:
            async with asyncio.timeout(max(0.0, deadline - self.ticker.now)):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            # The turn came just as its owner left: it goes to the next.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())
            if isinstance(error, TimeoutError):
                message = "no connection to the upstream became free in time"
                if own:  # it is busy, and that is all that is known of it
                    raise GatewayError(Kind.OVERLOADED, message, retry_after_seconds=RETRY_AFTER_SECONDS) from None
                raise GatewayError(Kind.UPSTREAM_TIMEOUT, message) from None
            raise
        finally:
            self._waiters.discard(caller, waiter)

    def _make_room(self, caller: str) -> None:
        """A full queue refuses the caller who has most in it: one that asks for much leaves room to the others."""
        if len(self._waiters) < self.settings.max_waiting_per_host:
            return
        evicted = self._waiters.pop_longest(caller)
        if evicted is None:
            raise _no_room()
        if not evicted.done():
            evicted.set_exception(_no_room())

    def _pass_on(self, connection: UpstreamConnection | None) -> None:
        """Give a connection, or a free slot, to the next who waits; otherwise keep or free it."""
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self.open -= 1
        elif connection.usable:
            self._idle.append(connection)

    async def _connect(self, total_deadline: float) -> UpstreamConnection:
        """Open a connection in a slot that is already counted; on failure the slot goes on."""
        try:
            connection = await self._dialer.open(self, self._origin, total_deadline)
        except BaseException:
            self._pass_on(None)
            raise
        connection.counted = True
        return connection

    def repeat(
        self, message: bytes, sink: Sink, total_deadline: float, limits: UpstreamSettings, begin_by: float
    ) -> None:
        """Send a request once more on a new connection, in the slot of a kept one that was closed before any answer.

        A kept connection that dies unanswered at once was almost always closed by the upstream's idle timer before it
        saw the request (RFC 9112 9.3.1); the call is repeated once, on a new connection, and never after an answer
        began.
        """

        begun = False

        async def again() -> None:
            nonlocal begun
            begun = True
            try:
                connection = await self._connect(min(total_deadline, begin_by))
            except GatewayError as error:
                sink.fail(error)
                return
            connection.send(message, sink, total_deadline, limits, begin_by)

        def ended(_: asyncio.Task[None]) -> None:
            del self._repeats[sink]
            if not begun:  # given up before its first step: nobody else frees the slot
                self._pass_on(None)

        task = self._repeats[sink] = asyncio.get_running_loop().create_task(again())
        task.add_done_callback(ended)

    def give_up(self, sink: Sink) -> None:
        """Nobody waits for this call any more: close its connection, or do not open the one for its repeat."""
        connection = sink.connection
        if connection is not None and connection.sink is sink:
            connection.abort()
        repeat = self._repeats.get(sink)
        if repeat is not None:
            repeat.cancel()

    def put(self, connection: UpstreamConnection) -> None:
        """Take back a connection whose call is over."""
        if self._waiters.lines:
            self._pass_on(connection)
        else:
            self._idle.append(connection)

    def proven(self, transport: asyncio.Transport) -> None:
        """A new connection's first answer is complete: by now a TLS session has come that the next one can use."""
        remember_session(transport)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.counted:
            connection.counted = False
            self._pass_on(None)

    def close(self) -> None:
        """Close idle connections and give up repeats."""
        for repeat in self._repeats.values():
            repeat.cancel()
        for connection in self._idle[:]:
            connection.abort()


def _no_room() -> GatewayError:
    message = "too many requests wait for this upstream"
    return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=RETRY_AFTER_SECONDS)
