"""The HTTP/1.1 client of the data plane: the only module that opens outgoing sockets.

Callback-driven inside, one awaitable outside: `UpstreamClient.send` hands a request to a pooled connection and waits
for the sink's future; the bytes of a stream reach the sink by plain calls, with no task or future per chunk. A
cancelled `send` closes its connection, which tells the upstream to stop.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Generator
from typing import Any, Final, Protocol, cast

import httptools
import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.runner import in_task
from pointsman.settings import UpstreamSettings
from pointsman.ticker import NEVER, Ticker
from pointsman.upstream.egress import check_address

# Phases of a call, named in the message of a time-out.
PHASES: Final = ("to connect", "to answer", "to send the first byte", "between two parts of the answer", "in all")
ANSWER, FIRST_BYTE, IDLE, TOTAL = 1, 2, 3, 4


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a connection goes. One pool each; ``allow_private`` is part of it, so that trust is never shared."""

    scheme: str
    host: str
    port: int
    allow_private: bool = False
    limit: int | None = None


class Sink(Protocol):
    """What receives an answer. Awaiting it waits for the end of the call, and raises what `fail` was told.

    ``connection`` is where the call runs, set by the connection that takes it; ``done``: nobody waits any more.
    """

    done: bool
    connection: "UpstreamConnection | None"

    def __await__(self) -> Generator[Any, None, None]: ...

    def head(self, status: int, headers: dict[bytes, bytes], call: "UpstreamConnection") -> bool:
        """The answer's head; True to receive the body in parts through `data`, False to get it whole in `end`."""
        ...

    def data(self, chunk: bytes) -> None:
        """A part of a streamed body."""
        ...

    def end(self, body: bytes) -> None:
        """The answer is complete; ``body`` is empty when it was streamed."""
        ...

    def fail(self, error: GatewayError) -> None:
        """The call failed, before the head or after it."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream: sends a request, feeds the answer to the sink, goes back to its pool."""

    __slots__ = (
        "_answered", "_body", "_head_bytes", "_headers", "_keep", "_message", "_parser", "_paused", "_phase", "_pool",
        "_settings", "_status", "_streamed", "_streaming", "_ticker", "_total_deadline", "_transport", "_uses",
        "closed", "complete", "counted", "deadline", "sink",
    )  # fmt: skip

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._settings = pool.settings
        self._ticker = pool.ticker
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpResponseParser(self)
        self._message = b""
        self._uses = 0
        self._paused = False
        self.sink: Sink | None = None
        self.closed = False
        self.counted = False  # in the pool's count of open connections
        self.deadline = NEVER
        self._total_deadline = NEVER
        self._phase = ANSWER
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._streamed = 0
        self._head_bytes = 0
        self._answered = self._streaming = self._keep = self.complete = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Joins the ticker; the socket already has TCP_NODELAY."""
        self._transport = cast(asyncio.Transport, transport)
        self._ticker.members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends a close-delimited answer, repeats a request on a stale connection, or fails the call."""
        self.closed = True
        self._ticker.members.discard(self)
        sink, self.sink = self.sink, None
        stale = sink is not None and not self._answered and self._uses > 1 and not sink.done
        if stale:
            self.counted = False  # its slot goes to the repeated call
        self._pool.lost(self)
        if sink is None:
            return
        if stale:
            self._pool.repeat(self._message, sink, self._total_deadline)
        elif self._status >= 200 and exc is None and self._is_close_delimited():
            sink.end(b"".join(self._body))
        elif not self._answered:
            sink.fail(GatewayError(Kind.UPSTREAM_ERROR, "the upstream closed the connection without an answer"))
        else:
            sink.fail(GatewayError(Kind.UPSTREAM_ERROR, "the upstream closed the connection in mid-answer"))

    def eof_received(self) -> bool:
        """The upstream ended its side: close."""
        return False

    def data_received(self, data: bytes) -> None:
        """Parses; hands on what became whole, once for each read."""
        if self.sink is None:
            self.abort()  # bytes that nobody asked for: this connection can't be trusted any more
            return
        self._answered = True
        if not self._status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self._spoil(error)
                return
            self._keep = False  # the answer is whole; what came behind it was never asked for
        if not self._status and self._head_bytes > self._settings.max_header_bytes:
            self._break(GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer has too large a head"))
            return
        self._deliver()

    def _spoil(self, error: Exception) -> None:
        cause = error.__context__ or error.__cause__
        if isinstance(error, httptools.HttpParserCallbackError) and isinstance(cause, GatewayError):
            self._break(cause)
            return
        if self._streaming and self._body:
            self._deliver()  # what came before the fault is real
        self._break(_malformed())

    def _deliver(self) -> None:
        sink = self.sink
        if sink is None:
            return
        if self._streaming:
            if self._body:
                chunk = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self._set_deadline(IDLE, self._settings.idle_timeout_seconds)
                sink.data(chunk)
            if self.complete and self.sink is not None:
                self._release()
                sink.end(b"")
        elif self.complete:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._release()
            sink.end(body)
        elif self._body:
            self._set_deadline(IDLE, self._settings.idle_timeout_seconds)

    # the caller's side

    @property
    def usable(self) -> bool:
        """True when a request may be sent on it."""
        return not self.closed and not self._transport.is_closing()

    def send(self, message: bytes, sink: Sink, total_deadline: float) -> None:
        """Start a call with a complete HTTP request; ``total_deadline`` is on the ticker's clock."""
        self.sink = sink
        sink.connection = self
        self._message = message
        self._uses += 1
        self._total_deadline = total_deadline
        self._set_deadline(ANSWER, self._settings.headers_timeout_seconds)
        self._transport.write(message)

    def pause(self) -> None:
        """Stop reading: the client can't take more now."""
        if not self._paused and not self.closed:
            self._paused = True
            self.deadline = self._total_deadline
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self.closed:
            self._paused = False
            self._set_deadline(IDLE, self._settings.idle_timeout_seconds)
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, without a word to the sink: nobody waits for the answer any more."""
        self.sink = None
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def expired(self) -> None:
        """A deadline passed: an idle connection is closed, a call fails with the phase named."""
        sink, self.sink = self.sink, None
        phase = TOTAL if self._total_deadline < self._ticker.now else self._phase
        self.abort()
        if sink is not None:
            sink.fail(GatewayError(Kind.UPSTREAM_TIMEOUT, f"the upstream took too long {PHASES[phase]}"))

    def _set_deadline(self, phase: int, seconds: float) -> None:
        self._phase = phase
        deadline = self._ticker.now + seconds
        self.deadline = deadline if deadline < self._total_deadline else self._total_deadline

    def _break(self, error: GatewayError) -> None:
        sink, self.sink = self.sink, None
        self.abort()
        if sink is not None:
            sink.fail(error)

    def _release(self) -> None:
        self.sink = None
        keep = self._keep and not self.closed
        self._message = b""
        self._reset()
        self._total_deadline = NEVER
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if keep:
            self.deadline = self._ticker.now + self._settings.keepalive_seconds
            self._pool.put(self)
        else:
            self.abort()

    def _is_close_delimited(self) -> bool:
        headers = self._headers
        return b"content-length" not in headers and b"transfer-encoding" not in headers

    # httptools' side

    def on_message_begin(self) -> None:
        """A second answer behind a whole one would be taken for a part of it (response splitting): refused."""
        if self.complete:
            raise _malformed()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; repeated ones are joined as RFC 9110 5.3 says."""
        name = name.lower()
        headers = self._headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        """Judges the head and asks the sink how it wants the body."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        encoding = self._headers.get(b"content-encoding", b"identity").lower()
        if encoding not in (b"identity", b""):
            name = encoding[:32].decode("latin-1")
            raise GatewayError(Kind.UPSTREAM_ERROR, f"the upstream answered with content-encoding '{name}' unasked")
        self._status = status
        self._set_deadline(FIRST_BYTE, self._settings.first_byte_timeout_seconds)
        if self.sink is not None:
            self._streaming = self.sink.head(status, self._headers, self)

    def on_body(self, body: bytes) -> None:
        """A part of the body, kept until the end of this read, or of the answer when it is not streamed."""
        if not self._streaming:
            self._streamed += len(body)
            if self._streamed > self._settings.max_response_bytes:
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is larger than the limit")
        self._body.append(body)

    def on_message_complete(self) -> None:
        """llhttp knows whether the connection can be kept only inside this call."""
        if self._status >= 200:
            self.complete = True
            self._keep = self._parser.should_keep_alive()


def _malformed() -> GatewayError:
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not valid HTTP")


class Pool:
    """The connections to one origin: last in, first out, with a limit and a bounded queue.

    ``open`` counts slots: connections that are open or opening. A slot or a connection that becomes free goes to the
    one who has waited longest, by hand: nobody overtakes.
    """

    def __init__(self, client: "UpstreamClient", origin: Origin) -> None:
        self.settings = client.settings
        self.ticker = client.ticker
        self._client = client
        self._origin = origin
        self._limit = min(
            origin.limit or client.settings.max_connections_per_host, client.settings.max_connections_per_host
        )
        self._idle: list[UpstreamConnection] = []
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = 0

    def take(self) -> UpstreamConnection | None:
        """An idle connection that can be used, or None; None, too, while others wait."""
        while self._idle and not self._waiters:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def acquire(self, total_deadline: float) -> UpstreamConnection:
        """A connection, now or when one is free.

        Raises GatewayError: OVERLOADED when too many wait, UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT when it can't
        connect.
        """
        while True:
            connection = self.take()
            if connection is not None:
                return connection
            if self.open < self._limit and not self._waiters:
                self.open += 1
                return await self._connect(total_deadline)
            connection = await self._wait(total_deadline)
            if connection is None:
                return await self._connect(total_deadline)
            if connection.usable:
                return connection

    async def _wait(self, total_deadline: float) -> UpstreamConnection | None:
        """Wait in line; a connection, or None for a slot to open one in."""
        if len(self._waiters) >= self.settings.max_waiting_per_host:
            raise GatewayError(Kind.OVERLOADED, "too many requests wait for this upstream", retry_after_seconds=1)
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, total_deadline - self.ticker.now)):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter.done() and not waiter.cancelled():  # the turn came just as its owner left: it goes to the next
                self._pass_on(waiter.result())
            if isinstance(error, TimeoutError):
                message = "no connection to the upstream became free in time"
                raise GatewayError(Kind.UPSTREAM_TIMEOUT, message) from None
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _pass_on(self, connection: UpstreamConnection | None) -> None:
        """Give a connection, or a free slot, to the first who waits; otherwise keep or free it."""
        while self._waiters:
            waiter = self._waiters.popleft()
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
            seconds = min(self.settings.connect_timeout_seconds, max(0.0, total_deadline - self.ticker.now))
            async with asyncio.timeout(seconds):
                connection = await self._client.open(self, self._origin)
        except TimeoutError:
            self._pass_on(None)
            raise GatewayError(Kind.UPSTREAM_TIMEOUT, f"the upstream took too long {PHASES[0]}") from None
        except BaseException:
            self._pass_on(None)
            raise
        connection.counted = True
        return connection

    def repeat(self, message: bytes, sink: Sink, total_deadline: float) -> None:
        """Send a request once more on a new connection, in the slot of a kept one that was closed before any answer.

        A kept connection that dies unanswered was almost always closed by the upstream's idle timer before it saw the
        request (RFC 9112 9.3.1); the call is repeated once, on a new connection, and never after an answer began.
        """

        async def again() -> None:
            try:
                connection = await self._connect(total_deadline)
            except GatewayError as error:
                sink.fail(error)
                return
            if sink.done:  # the client left meanwhile
                connection.abort()
            else:
                connection.send(message, sink, total_deadline)

        task = asyncio.get_running_loop().create_task(again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def put(self, connection: UpstreamConnection) -> None:
        """Take back a connection whose call is over."""
        self._pass_on(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.counted:
            connection.counted = False
            self._pass_on(None)

    def close(self) -> None:
        """Close idle connections and give up repeats."""
        for task in self._tasks:
            task.cancel()
        for connection in self._idle[:]:
            connection.abort()


class UpstreamClient:
    """Pools by origin, one TLS context, and the guarded way to a socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: UpstreamSettings, ticker: Ticker) -> None:
        self.settings = settings
        self.ticker = ticker
        self._loop = loop
        self._pools: dict[Origin, Pool] = {}
        self._tls: ssl.SSLContext | None = None

    async def send(self, origin: Origin, message: bytes, sink: Sink) -> None:
        """Send a complete HTTP request and wait until the sink has the whole answer.

        Raises GatewayError as the sink or the connection reports it. On cancellation the upstream connection is closed.
        """
        total_deadline = self.ticker.now + self.settings.total_timeout_seconds
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self, origin)
        connection = pool.take()
        if connection is None:
            await in_task()
            connection = await pool.acquire(total_deadline)
        connection.send(message, sink, total_deadline)
        try:
            await sink
        except asyncio.CancelledError:
            sink.done = True
            if sink.connection is not None and sink.connection.sink is sink:
                sink.connection.abort()
            raise

    async def open(self, pool: Pool, origin: Origin) -> UpstreamConnection:
        """Resolve, judge and connect; the first judged address that answers wins. For `Pool` only."""
        try:
            infos = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream's host name can't be resolved") from None
        addresses = [check_address(str(info[4][0]), allow_private=origin.allow_private) for info in infos]
        context = self._context() if origin.scheme == "https" else None
        for address in addresses:
            try:
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(pool),
                    address,
                    origin.port,
                    ssl=context,
                    server_hostname=origin.host if context is not None else None,
                )
            except ssl.SSLCertVerificationError:
                raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream's TLS certificate is not trusted") from None
            except ssl.SSLError:
                raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the TLS handshake with the upstream failed") from None
            except OSError:
                continue
            return connection
        raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream refused the connection or can't be reached")

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    @property
    def open_connections(self) -> int:
        """Upstream connections that are open or opening."""
        return sum(pool.open for pool in self._pools.values())

    def close(self) -> None:
        """Close every idle connection."""
        for pool in self._pools.values():
            pool.close()
