"""One request and the way to answer it."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from pointsman.errors import GatewayError, Kind, let_go
from pointsman.policy.authentication import is_credential_sent
from pointsman.server.bodies import ACCEPTED
from pointsman.server.heads import END_OF_HEAD, Sighting, headers_of

if TYPE_CHECKING:
    from pointsman.contracts.operations import Contract
    from pointsman.server.connection import EdgeConnection
    from pointsman.server.routes import Handler
    from pointsman.server.websockets import WebSocket

STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
JSON: Final = b"application/json"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Of a client that waits for a stream: its content type, the comment, and further header lines.
Waiting = tuple[bytes, bytes, Callable[[], bytes] | None]
log = structlog.get_logger("pointsman.edge")
LARGE_BYTES: Final = 64 * 1024
WAITING, STREAMING, DONE = 0, 1, 2  # states of an exchange


class Exchange:
    """One request and the way to answer it. Every answer carries ``x-request-id``.

    Answer with `respond`, or with `start`, `write` ... `finish`. After the client has gone all of them do nothing.
    """

    __slots__ = (
        "_connection", "_edge", "_seen", "_waiting", "api_head", "body", "bytes_out", "contract", "first_byte",
        "headers", "http11", "keep", "limit_head", "method", "path", "peer", "plan_head", "query", "request_id",
        "started", "started_at", "state", "telling", "throttle", "websocket",
    )  # fmt: skip

    def __init__(self, connection: "EdgeConnection", method: bytes, url: bytes, headers: dict[bytes, bytes]) -> None:
        edge = connection.edge
        self._connection = connection
        self._edge = edge
        self.method = method
        self.path, _, self.query = url.partition(b"?")
        self.headers = headers
        self.contract: Contract | None = None  # whose client it comes from, where its host or its path says so
        self.peer = connection.peer
        if connection.behind_proxy and edge.proxies is not None:
            self.peer = edge.proxies.client(connection.peer, headers.get(b"x-forwarded-for"))
        self.keep = self.http11 = True
        self.body = b""
        self.started = edge.clock.monotonic()
        self.started_at = now = edge.clock.now_us()
        self.request_id = edge.clock.new_id("req", now)
        self.state = WAITING
        self.bytes_out = 0
        self.first_byte: float | None = None
        self.api_head = b""  # header lines that the client's API has: its name for the request
        self.limit_head = b""  # header lines about rate limits
        self.plan_head = b""  # header lines about how a target was chosen
        self.telling: Callable[[], bytes] | None = None  # gives the lines about who answers, when somebody does
        self._waiting: Waiting | None = None
        self.throttle: Callable[[bool], None] | None = None
        self.websocket: WebSocket | None = None  # of a request to change to one

    @property
    def scheme(self) -> str:
        """How the client came: https when this server ends TLS itself."""
        return "http" if self._edge.settings.tls_certificate is None else "https"

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
        if self.telling is not None:
            extra += self.telling()
        framing = b"" if status in (204, 304) else b"content-length: %d\r\n" % len(body)  # RFC 9110 8.6
        head = self._head(status, content_type, extra, framing)
        if self.method == b"HEAD":
            self._connection.write(head)
        elif len(body) < LARGE_BYTES:
            self._connection.write(head + body)
        else:
            self._connection.write(head)  # the loop joins both in one call to the kernel, without a copy
            self._connection.write(body)
        self._connection.finished(self)

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer; an HTTP/1.0 client gets it ended by the close of the connection."""
        if self.state == DONE:
            return
        if self.first_byte is None:
            self.first_byte = self._edge.clock.monotonic()
        if self.state == WAITING:
            self._open(status, content_type, extra if self.telling is None else extra + self.telling())

    def _open(self, status: int, content_type: bytes, extra: bytes) -> None:
        self.state = STREAMING
        if not self.http11:
            self.keep = False
        framing = b"transfer-encoding: chunked\r\n" if self.http11 else b""
        self._connection.write(self._head(status, content_type, extra, framing))
        if self.method == b"HEAD":
            self.state = DONE
            self._connection.finished(self)

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

    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = None) -> None:
        """The client waits for a stream: it is told so now and then by ``comment``, in an answer that begins with it.

        ``head`` gives the header lines that the answer would have; no ``comment``: its API has no way to say it.
        """
        if comment and self._edge.settings.stream_silence_seconds:
            self._waiting = (content_type, comment, head)
            self._seen = self.bytes_out
            self._connection.watch()

    @property
    def waits(self) -> bool:
        """True while somebody may have to be told that the answer is still being made."""
        return self._waiting is not None

    def reassure(self) -> None:
        """A while has passed: send the comment if nothing else was sent in it."""
        if self._waiting is None:
            return
        if self.bytes_out == self._seen:
            content_type, _, head = self._waiting
            if self.state == WAITING:
                self._open(200, content_type, (head() if head is not None else b"") + b"cache-control: no-cache\r\n")
            self.comment()
        self._seen = self.bytes_out
        self._connection.watch()

    def comment(self) -> None:
        """Send the comment of a stream that has begun, if its API has one. Writes are whole events: it fits."""
        if self._waiting is not None:
            self.write(self._waiting[1])

    def switch(self, extra: bytes) -> None:
        """Leave HTTP: 101 with these header lines. What follows is not an exchange's business."""
        self.state = STREAMING
        self.keep = False
        request_id = self.request_id.encode()
        self._connection.write(b"HTTP/1.1 101 Switching Protocols\r\n%bx-request-id: %b\r\n\r\n" % (extra, request_id))

    def note_guess(self) -> None:
        """Count a wrong credential of this client's address. An answer with 401 counts by itself: not for those."""
        self._edge.guessing.note(self.peer)

    def error(self, error: GatewayError) -> None:
        """Answer with an error, where nobody knows the dialect better than the edge."""
        refuse(self, self._edge.error_dialect(self), error)

    def cut(self) -> None:
        """Break the connection: the one way left to say that a streamed answer is not whole."""
        self.state = DONE
        self._connection.abort()

    def _head(self, status: int, content_type: bytes, extra: bytes, framing: bytes) -> bytes:
        edge = self._edge
        if status == 401 and is_credential_sent(self.headers):
            self.note_guess()
        if edge.draining:
            self.keep = False
        if edge.cors is not None:
            extra += edge.cors.headers(self.headers)
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
                self.api_head,
                self.limit_head,
                self.plan_head,
                extra,
                framing,
                b"\r\n" if self.keep else b"connection: close\r\n\r\n",
            )
        )


def error_headers(error: GatewayError) -> bytes:
    """The header lines that belong to an error: Allow, Accept-Encoding, Upgrade, or Retry-After in whole seconds."""
    if error.allow is not None:
        return b"allow: %b\r\n" % error.allow.encode("ascii")
    if error.kind is Kind.UNSUPPORTED_ENCODING:
        return b"accept-encoding: %b\r\n" % ACCEPTED
    if error.param == "sec-websocket-version":
        return b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    if error.status == HTTPStatus.UPGRADE_REQUIRED:
        return b"upgrade: HTTP/1.1\r\n"
    if error.retry_after_seconds is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, -int(-error.retry_after_seconds // 1))


class ErrorDialect(Protocol):
    """What is needed of a dialect to tell an error; it may have a ``status_of`` of its own."""

    def render_error(self, error: GatewayError, request_id: str) -> bytes:
        """The body of an error."""
        ...


def own_status(error: GatewayError) -> int:
    """The status of an error in APIs that give its kind no other."""
    return error.status


def refuse(exchange: Exchange, dialect: ErrorDialect, error: GatewayError) -> None:
    """Tell an error in the client's dialect, where no request was entered in the books."""
    status = getattr(dialect, "status_of", own_status)(error)
    exchange.respond(status, dialect.render_error(error, exchange.request_id), extra=error_headers(error))


def refusal(exchange: Exchange, error: GatewayError) -> bytes:
    """The whole answer to a request that can't be read on, in its client's dialect: the last of its connection."""
    edge = exchange._edge
    edge.router.find(exchange)  # notes whose client it is, where the host or the mount says so
    dialect = edge.error_dialect(exchange)
    status = getattr(dialect, "status_of", own_status)(error)
    payload = dialect.render_error(error, exchange.request_id)
    exchange.keep = False
    exchange.state = STREAMING
    log.info(
        "request refused", request_id=exchange.request_id, kind=error.kind.value, status=status, peer=exchange.peer
    )
    return exchange._head(status, JSON, error_headers(error), b"content-length: %d\r\n" % len(payload)) + payload


def known_exchange(connection: "EdgeConnection", data: bytes, sighting: Sighting) -> Exchange:
    """A whole request whose head is known: no parser has seen it."""
    end, digits, _, known = sighting
    assert known is not None, "the head is not known"
    start, stop = known.target
    exchange = Exchange(connection, known.method, data[start:stop], headers_of(data, end, digits, known))
    exchange.body = data[end + len(END_OF_HEAD) :]
    return exchange


async def run_handler(exchange: Exchange, handler: "Handler") -> None:
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
    finally:
        exchange.telling = exchange._waiting = None  # they hold what holds the exchange: a ring


def _end_badly(exchange: Exchange, error: GatewayError) -> None:
    if exchange.responded:
        exchange.cut()
    else:
        exchange.error(error)
    let_go(error)
