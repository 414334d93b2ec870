"""The HTTP/1.1 edge: one object per client connection, one `Exchange` per request.

Data-plane routes run as one coroutine per request, without ASGI; every other request goes to the fallback handler (the
management mount). A client that leaves cancels its request's task at once. Reading stops while a pipelined request
waits, writing is held back to the client's pace, and every wait has a deadline on the shared ticker.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

import httptools
import structlog

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.runner import Runner
from pointsman.server.routes import Handler, Router
from pointsman.settings import ServerSettings
from pointsman.ticker import NEVER, Ticker

STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON: Final = b"application/json"
TCP_CLOSE: Final = 7  # linux/include/net/tcp_states.h
FIRST_LOOK_SECONDS: Final = 0.005
LONGEST_LOOK_SECONDS: Final = 0.25
LINGER_SECONDS: Final = 2.0
WAITING, STREAMING, DONE = 0, 1, 2  # states of an exchange
# Given twice, these would let two readers of one request disagree about who asks for what.
SINGULAR: Final = frozenset((b"authorization", b"x-api-key", b"host", b"content-length", b"content-type"))

ErrorRenderer = Callable[[GatewayError, str], bytes]
log = structlog.get_logger("pointsman.edge")


class Edge:
    """What all client connections of one process share."""

    def __init__(
        self,
        settings: ServerSettings,
        ticker: Ticker,
        clock: Clock,
        router: Router,
        render_error: ErrorRenderer,
    ) -> None:
        self.settings = settings
        self.ticker = ticker
        self.clock = clock
        self.router = router
        self.render_error = render_error
        self.connections: set[EdgeConnection] = set()
        self.active = 0
        self.draining = False

    def protocol(self) -> "EdgeConnection":
        """A new connection's protocol, for `loop.create_server`."""
        return EdgeConnection(self)

    def drain(self) -> None:
        """Take no further request: idle connections close now, busy ones after their answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """Cut whatever is still open."""
        for connection in list(self.connections):
            connection.abort()


class Exchange:
    """One request and the way to answer it. Every answer carries ``x-request-id``.

    Answer with `respond`, or with `start`, `write` ... `finish`. After the client has gone all of them do nothing.
    """

    __slots__ = (
        "_connection", "_edge", "body", "bytes_out", "first_byte", "headers", "http11", "keep", "limit_head", "method",
        "path", "peer", "query", "request_id", "started", "started_at", "state", "throttle",
    )  # fmt: skip

    def __init__(self, connection: "EdgeConnection", method: bytes, url: bytes, headers: dict[bytes, bytes]) -> None:
        edge = connection.edge
        self._connection = connection
        self._edge = edge
        self.method = method
        self.path, _, self.query = url.partition(b"?")
        self.headers = headers
        self.peer = connection.peer
        self.keep = self.http11 = True
        self.body = b""
        self.started = edge.clock.monotonic()
        self.started_at = now = edge.clock.now_us()
        self.request_id = edge.clock.new_id("req", now)
        self.state = WAITING
        self.bytes_out = 0
        self.first_byte: float | None = None
        self.limit_head = b""  # header lines about rate limits
        self.throttle: Callable[[bool], None] | None = None

    @property
    def responded(self) -> bool:
        """True once any part of an answer was given."""
        return self.state != WAITING

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """The whole answer. ``extra`` is further header lines, each ended by CRLF."""
        if self.state != WAITING:
            return
        self.state = DONE
        self.bytes_out = len(body)
        head = self._head(status, content_type, extra, b"content-length: %d\r\n" % len(body))
        self._connection.write(head + body if self.method != b"HEAD" else head)
        self._connection.finished(self)

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer; an HTTP/1.0 client gets it ended by the close of the connection."""
        if self.state != WAITING:
            return
        self.state = STREAMING
        self.first_byte = self._edge.clock.monotonic()
        if not self.http11:
            self.keep = False
        framing = b"transfer-encoding: chunked\r\n" if self.http11 else b""
        self._connection.write(self._head(status, content_type, extra, framing))

    def write(self, data: bytes) -> None:
        """A part of a streamed answer."""
        if self.state == STREAMING and data:
            self.bytes_out += len(data)
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self.http11 else data)

    def finish(self) -> None:
        """End a streamed answer."""
        if self.state == STREAMING:
            self.state = DONE
            if self.http11:
                self._connection.write(b"0\r\n\r\n")
            self._connection.finished(self)

    def error(self, error: GatewayError) -> None:
        """Answer with an error in the edge's default dialect."""
        self.respond(error.status, self._edge.render_error(error, self.request_id), JSON, error_headers(error))

    def cut(self) -> None:
        """Break the connection: the one way left to say that a streamed answer is not whole."""
        self.state = DONE
        self._connection.abort()

    def _head(self, status: int, content_type: bytes, extra: bytes, framing: bytes) -> bytes:
        edge = self._edge
        if edge.draining:
            self.keep = False
        return b"".join(
            (
                STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status,
                b"content-type: ",
                content_type,
                b"\r\n",
                edge.ticker.date_header,
                b"x-request-id: ",
                self.request_id.encode(),
                b"\r\n",
                self.limit_head,
                extra,
                framing,
                b"\r\n" if self.keep else b"connection: close\r\n\r\n",
            )
        )


def _origin_form(target: bytes) -> bytes:
    """The path and query of a target in absolute form (RFC 9112 3.2.2); anything else as it is."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    slash = rest.find(b"/")
    return rest[slash:] if slash >= 0 else b"/"


def error_headers(error: GatewayError) -> bytes:
    """The header lines that belong to an error: Allow, or Retry-After in whole seconds, rounded up."""
    if error.allow is not None:
        return b"allow: %b\r\n" % error.allow.encode("ascii")
    if error.retry_after_seconds is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, -int(-error.retry_after_seconds // 1))


class EdgeConnection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_begun",
        "_body",
        "_closing",
        "_eof",
        "_exchange",
        "_headers",
        "_in_head",
        "_lingering",
        "_parser",
        "_paused",
        "_queue",
        "_runner",
        "_size",
        "_transport",
        "_unframed",
        "_url",
        "_wants_continue",
        "deadline",
        "edge",
        "peer",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.peer = ""
        self.deadline = NEVER
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._runner: Runner | None = None
        self._queue: deque[Exchange] | None = None
        self._closing = self._eof = self._lingering = self._paused = False
        self._unframed = 0  # bytes since the last that belonged to a body
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._in_head = True
        self._begun = False  # a first byte of the next request has come
        self._wants_continue = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection in, or answers 503 when there are too many."""
        edge = self.edge
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        edge.connections.add(self)
        edge.ticker.members.add(self)
        self.deadline = edge.ticker.now + edge.settings.header_timeout_seconds
        if len(edge.connections) > edge.settings.max_connections:
            self._refuse(GatewayError(Kind.OVERLOADED, "too many connections", retry_after_seconds=1))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: its request is cancelled, which aborts the upstream call."""
        self._closing = True
        self.edge.connections.discard(self)
        self.edge.ticker.members.discard(self)
        self._queue = None
        exchange, self._exchange = self._exchange, None
        runner, self._runner = self._runner, None
        if exchange is not None:
            exchange.state = DONE
            self.edge.active -= 1
            if runner is not None:
                runner.cancel()

    def eof_received(self) -> bool:
        """Half-close: a request that is complete is still answered, if its client is still there."""
        self._eof = True
        if self._exchange is None or self._lingering:
            return False
        self._probe(self._exchange)
        return True

    def _probe(self, exchange: Exchange) -> None:
        """Find out whether the client has only closed its sending side, or is gone: a FIN looks the same.

        A harmless piece is sent: an interim answer, or an empty comment in a stream. Who is gone answers it with RST,
        which nobody reads any more after the end of input, so the socket's state is looked at until the answer is out.
        """
        if exchange.state == STREAMING:
            self._transport.write(b"3\r\n:\n\n\r\n" if exchange.http11 else b":\n\n")
        elif exchange.http11:
            self._transport.write(CONTINUE)
        self.edge.ticker.loop.call_later(FIRST_LOOK_SECONDS, self._look, FIRST_LOOK_SECONDS)

    def _look(self, delay: float) -> None:
        if self._exchange is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE:
            self._transport.abort()
        else:
            delay = min(delay * 2, LONGEST_LOOK_SECONDS)
            self.edge.ticker.loop.call_later(delay, self._look, delay)

    def data_received(self, data: bytes) -> None:
        """Parses what arrived; faults are answered and the connection closed."""
        if self._closing:
            return
        self._unframed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(GatewayError(Kind.UNSUPPORTED, "protocol upgrades are not served here", status=426))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__ or error.__cause__
            self._refuse(cause if isinstance(cause, GatewayError) else _malformed())
        except httptools.HttpParserError:
            self._refuse(_malformed())
        else:
            if self._unframed > self.edge.settings.max_header_bytes and (self._in_head or self._size):
                self._refuse(_head_too_large())  # a head, a chunk's head or a trailer without end

    def pause_writing(self) -> None:
        """The client reads too slowly: the source of the stream is told to wait."""
        self._paused = True
        self.deadline = self.edge.ticker.now + self.edge.settings.write_timeout_seconds
        if self._exchange is not None and self._exchange.throttle is not None:
            self._exchange.throttle(True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._paused = False
        self.deadline = NEVER if self._exchange is not None else self._idle_deadline()
        if self._exchange is not None and self._exchange.throttle is not None:
            self._exchange.throttle(False)

    def expired(self) -> None:
        """A deadline passed: slow head or body is told 408, an idle or stuck connection is closed."""
        if self._closing or self._paused:
            self._transport.abort()
        elif not self._begun:
            self._transport.close()
        else:
            self._refuse(GatewayError(Kind.CLIENT_TIMEOUT, "the request did not arrive in time"))

    # httptools' side

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begun = True

    def on_url(self, url: bytes) -> None:
        """The request target, possibly in parts."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; names are lower-cased, repeated fields joined, except where that would be ambiguous."""
        if not self._in_head:
            return  # a trailer: never a header (RFC 9110 6.5.1)
        name = name.lower()
        headers = self._headers
        if name not in headers:
            headers[name] = value
            if name == b"expect":
                self._wants_continue = value.lower() == b"100-continue"
            elif len(headers) > self.edge.settings.max_header_count:
                raise _head_too_large()
        elif name in SINGULAR:
            raise GatewayError(Kind.INVALID_REQUEST, f"the header {name.decode('latin-1')} is given twice")
        else:
            headers[name] += b", " + value

    def on_headers_complete(self) -> None:
        """The head is whole: refuse what can't be taken before its body is sent."""
        self._in_head = False
        limits = self.edge.settings
        headers = self._headers
        if self._unframed > limits.max_header_bytes:
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > limits.max_header_bytes:
                raise _head_too_large()
        self._unframed = 0
        length = headers.get(b"content-length")
        if length is not None and int(length) > limits.max_body_bytes:
            raise _body_too_large(limits.max_body_bytes)
        encoding = headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() not in (b"identity", b""):
            name = encoding[:32].decode("latin-1")
            raise GatewayError(
                Kind.UNSUPPORTED_ENCODING,
                f"the request body is encoded with '{name}': send it as it is",
                param="content-encoding",
            )
        if self._exchange is None:
            self.deadline = self.edge.ticker.now + limits.body_timeout_seconds
            if self._wants_continue:
                self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the request body."""
        self._size += len(body)
        self._unframed = 0
        if self._size > self.edge.settings.max_body_bytes:
            raise _body_too_large(self.edge.settings.max_body_bytes)
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole request: serve it, or queue it behind the one in flight."""
        parser = self._parser
        url = self._url
        if not url.startswith(b"/"):
            url = _origin_form(url)
        exchange = Exchange(self, parser.get_method(), url, self._headers)
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise GatewayError(Kind.INVALID_REQUEST, "the request is not HTTP/1.1 or HTTP/1.0")
            exchange.http11 = False
        exchange.keep = exchange.http11 and parser.should_keep_alive()
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._begin()
        if self._closing:
            return
        if self._exchange is None:
            self._serve(exchange)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(exchange)
        self._transport.pause_reading()  # no more than what was already read

    # answering

    def _serve(self, exchange: Exchange) -> None:
        edge = self.edge
        self.deadline = NEVER
        self._exchange = exchange
        edge.active += 1
        self._runner = runner = Runner(edge.ticker.loop, _run(exchange, edge.router.find(exchange)))
        runner.start()

    def write(self, data: bytes) -> None:
        """Bytes to the client, held by the transport while it is slow."""
        if not self._closing:
            self._transport.write(data)

    def finished(self, exchange: Exchange) -> None:
        """The answer is complete: close, wait for the next request, or serve the one that waits."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self._runner = None
        self.edge.active -= 1
        if not exchange.keep or self._eof or self.edge.draining:
            self._closing = True
            self.deadline = self.edge.ticker.now + self.edge.settings.write_timeout_seconds
            self._transport.close()
            return
        if self._queue:
            self._exchange = self._queue.popleft()  # nothing that arrives now may overtake it
            self.edge.ticker.loop.call_soon(self._serve_queued)
        elif not self._paused:
            self.deadline = self._idle_deadline()
            if self._wants_continue and not self._in_head:
                self._transport.write(CONTINUE)  # its head came while the last request was in flight

    def _serve_queued(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not self._closing:
            if not self._queue:
                self._transport.resume_reading()
            self._serve(exchange)

    def _idle_deadline(self) -> float:
        limits = self.edge.settings
        fresh = not self._begun
        return self.edge.ticker.now + (limits.keepalive_timeout_seconds if fresh else limits.header_timeout_seconds)

    def _refuse(self, error: GatewayError) -> None:
        """Answer a request that can't be read on, then close; the rest of what the client sends is thrown away.

        Closing with unread bytes would make the kernel send RST, which can destroy the answer before it is read
        (RFC 9112 9.6): so the sending side is closed first and the receiving side a little later.
        """
        if self._closing:
            return
        if self._exchange is not None:  # a fault behind a request in flight: that one is broken off
            self.abort()
            return
        exchange = Exchange(self, b"", b"", {})
        exchange.keep = False
        payload = self.edge.render_error(error, exchange.request_id)
        exchange.state = STREAMING
        framing = b"content-length: %d\r\n" % len(payload)
        self._transport.write(exchange._head(error.status, JSON, error_headers(error), framing) + payload)
        log.info("request refused", request_id=exchange.request_id, kind=error.kind.value, status=error.status)
        self._closing = self._lingering = True
        self.deadline = self.edge.ticker.now + LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def drain(self) -> None:
        """Close now when idle; otherwise after the answer."""
        if self._exchange is None and not self._closing:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        self._transport.abort()


async def _run(exchange: Exchange, handler: Handler) -> None:
    """The last line: whatever a handler lets through becomes an answer, never silence and never a stack trace."""
    try:
        await handler(exchange)
    except GatewayError as error:
        _end_badly(exchange, error)
    except asyncio.CancelledError:
        exchange.cut()
        raise
    except Exception:
        log.exception("request failed", request_id=exchange.request_id)
        _end_badly(
            exchange, GatewayError(Kind.INTERNAL, "an internal error occurred; it was logged with this request id")
        )
    else:
        if exchange.state != DONE:
            log.error("request left without an answer", request_id=exchange.request_id)
            _end_badly(exchange, GatewayError(Kind.INTERNAL, "the request was left without an answer"))


def _end_badly(exchange: Exchange, error: GatewayError) -> None:
    if exchange.responded:
        exchange.cut()
    else:
        exchange.error(error)


def _malformed() -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, "the request is not valid HTTP/1.1")


def _head_too_large() -> GatewayError:
    return GatewayError(Kind.HEADERS_TOO_LARGE, "the request's head is larger than the limit")


def _body_too_large(limit_bytes: int) -> GatewayError:
    return GatewayError(Kind.TOO_LARGE, f"the request body is larger than the limit of {limit_bytes} bytes")
