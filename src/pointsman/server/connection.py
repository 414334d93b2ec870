"""One client connection of the edge: HTTP/1.1 in, answers out, each request one `Exchange`.

A client that leaves cancels its request at once. Reading stops while a pipelined request waits, writing is held back
to the client's pace, and every wait has a deadline on the shared ticker.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast

import httptools

from pointsman.errors import GatewayError, Kind, let_go
from pointsman.runner import Runner
from pointsman.server.bodies import IncomingBody
from pointsman.server.exchange import CONTINUE, DONE, Exchange, known_exchange, refusal, run_handler
from pointsman.server.half_close import probe
from pointsman.server.heads import SINGULAR, has_many
from pointsman.server.http_faults import check_head, check_size, check_transfer, head_too_large, raised_in_parser
from pointsman.server.pipeline import Pipeline
from pointsman.server.switching import decline, may_switch, switch
from pointsman.server.targets import is_http11, read_target
from pointsman.server.unread import unread_bytes, waiting_bytes
from pointsman.ticker import NEVER

if TYPE_CHECKING:
    from pointsman.server.edge import Edge
    from pointsman.server.websockets import WebSocket

LAST_LOOK_SECONDS: Final = 0.01
LINGER_SECONDS: Final = 2.0
WRITE_HIGH_WATER: Final = 64 * 1024  # bytes that wait for a slow reader before the source of a stream has to
PIECE_BYTES: Final = 4096  # in which a read of many requests is taken, until one has to wait


class EdgeConnection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_begun", "_body", "_closing", "_declined", "_eof", "_exchange", "_fault", "_headers", "_http11",
        "_in_head", "_lingering", "_new", "_parser", "_paused", "_queue", "_repeated", "_repeats", "_runner",
        "_transport", "_tunnel", "_unframed", "_unread", "_url", "_wants_continue", "behind_proxy",
        "carrier", "deadline", "edge", "peer",
    )  # fmt: skip

    def __init__(self, edge: "Edge") -> None:
        self.edge = edge
        self.peer = ""
        self.deadline = NEVER
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.carrier: asyncio.Transport | None = None  # below TLS
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._runner: Runner | None = None
        self._queue = Pipeline()
        self._tunnel: WebSocket | None = None  # what takes all bytes once a request asked for it
        self._closing = self._eof = self._lingering = self._paused = self.behind_proxy = False
        self._new = True  # no whole request has come
        self._fault: GatewayError | None = None  # what to say once those before it are answered
        self._unframed = 0  # bytes since the last that belonged to a body
        self._unread = 0  # bytes that a slow client had not taken when it was last looked at, and what came since
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeats = self._repeated = 0  # header lines whose name came before, and the bytes of their names
        self._body: IncomingBody | None = None
        self._in_head = self._http11 = True
        self._begun = False  # a first byte of the next request has come
        self._wants_continue = False
        self._declined = b""  # the head of a request to change the protocol, as it is read again without that wish

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection in, or answers 503 when there are too many."""
        edge = self.edge
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.behind_proxy = edge.proxies is not None and self.peer in edge.proxies
        edge.connections.add(self)
        edge.ticker.members.add(self)
        self.deadline = edge.ticker.now + edge.first_request_seconds()
        if not edge.admit(self):
            self._refuse(GatewayError(Kind.OVERLOADED, "too many connections", retry_after_seconds=1))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: its request is cancelled, which aborts the upstream call."""
        self._closing = True
        self.edge.connections.discard(self)
        self.edge.newcomers.pop(self, None)
        self.edge.ticker.members.discard(self)
        if self._body is not None:
            self._body.drop()
        self._queue.drop()
        self._parser = cast(httptools.HttpRequestParser, None)  # it holds this object's methods: a ring
        exchange, self._exchange = self._exchange, None
        runner, self._runner = self._runner, None
        if self._tunnel is not None:
            self._tunnel.lost()
        if exchange is not None:
            exchange.state = DONE
            exchange.throttle = None
            if runner is not None:  # else it was the next one, and had not begun
                self.edge.active -= 1
                runner.cancel()

    def eof_received(self) -> bool:
        """Half-close: a request that is complete is still answered, if its client is still there.

        TLS has no half-close here: the transport closes, and a request in flight is cancelled.
        """
        self._eof = True
        if self._lingering:
            return False
        if self._exchange is None or self._tunnel or self.carrier is not None:
            self._closing = True  # behind what the client has not read yet, which it may never do
            self._await_reader()
            return False
        probe(self._transport, self._exchange, self.edge.ticker.loop, lambda: self._exchange is not None)
        return True

    def data_received(self, data: bytes) -> None:
        """Parses what arrived; faults are answered and the connection closed."""
        if self._closing or self._fault is not None:
            return
        if self._tunnel is not None:
            self._tunnel.received(data)
            return
        sighting = None
        if self._exchange is None and not (self._begun or self._unframed or self._paused or self._queue):
            sighting = self.edge.heads.look(data)
            if sighting is not None and sighting[3] is not None and len(data) <= self.edge.settings.max_body_bytes:
                self._serve(known_exchange(self, data, sighting))  # the parser stands where the next one begins
                return
        if sighting is None and len(data) > PIECE_BYTES and not self._is_awaited_body(data) and has_many(data):
            self._take_many(data)
            return
        self._unframed += len(data)
        body = self._body
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(raised_in_parser(error))
            let_go(error)
        else:
            if self._unframed > self.edge.settings.max_header_bytes and (self._in_head or self._received()):
                self._refuse(head_too_large())  # a head, a chunk's head or a trailer without end
            elif body is not None and body is self._body:
                if body.is_overframed(len(data)):
                    self._refuse(head_too_large())
            elif sighting is not None and not self._begun and not self._closing:
                self.edge.heads.learn(data, sighting)

    def _take_many(self, data: bytes) -> None:
        """A read that holds many requests: what is behind one that has to wait stays as it came, for its size."""
        for start in range(0, len(data), PIECE_BYTES):
            end = start + PIECE_BYTES
            self.data_received(data[start:end])
            if self._queue:
                self._queue.rest = data[end:]
                return

    def _feed(self, data: bytes) -> None:
        """Let the parser read. It stops behind the head of a request to change the protocol, its body unread."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return
            if self._tunnel is None:
                head = self._declined
                self._begin()
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)
            elif data:
                self._tunnel.received(data)
                return

    def pause_writing(self) -> None:
        """The client reads too slowly: the source of the stream is told to wait."""
        self._paused = True
        self._await_reader()
        if self._exchange is not None and self._exchange.throttle is not None:
            self._exchange.throttle(True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._paused = False
        if not self._closing:
            if self._exchange is None:
                self._go_on()
            if self._exchange is not None:
                self.deadline = NEVER
                self.watch()
        if self._exchange is not None and self._exchange.throttle is not None:
            self._exchange.throttle(False)

    def expired(self) -> None:
        """A deadline passed: slow head or body is told 408, an idle or stuck connection is closed."""
        if self._lingering:
            self._lingering = False
            self.hang_up()
        elif self._closing or self._paused:
            if unread_bytes(self._transport, self.carrier) < self._unread:
                self._await_reader()  # it takes what it gets, slowly
            else:
                self._transport.abort()
        elif self._tunnel is not None:
            self._tunnel.expired()
        elif self._exchange is not None:
            self._exchange.reassure()
        elif not self._begun:
            self.edge.ticker.loop.call_later(LAST_LOOK_SECONDS, self._close_idle)
        else:
            self._refuse(GatewayError(Kind.CLIENT_TIMEOUT, "the request did not arrive in time"))

    def _await_reader(self) -> None:
        """The client has some time to take a part of what waits for it, and a moment to hang up behind all of it."""
        self._unread = unread_bytes(self._transport, self.carrier)
        waits = waiting_bytes(self._transport, self.carrier) > 0
        seconds = self.edge.settings.write_timeout_seconds if waits else LINGER_SECONDS
        self.deadline = self.edge.ticker.now + seconds

    def _close_idle(self) -> None:
        """Close unless a request has come: when the loop was late, it may have lain in the socket all the time."""
        if self._exchange is None and not (self._begun or self._closing):
            self.hang_up()

    # httptools' side

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begun = True
        if self._is_awaited():
            self.deadline = self.edge.ticker.now + self.edge.settings.header_timeout_seconds

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
        elif name in SINGULAR:
            raise GatewayError(Kind.INVALID_REQUEST, f"the header {name.decode('latin-1')} is given twice")
        else:
            self._repeats += 1
            self._repeated += len(name)
            if self._repeats > self.edge.settings.max_header_count:
                raise head_too_large()  # before it is joined: each time all of the value is copied
            headers[name] += b", " + value

    def on_headers_complete(self) -> None:
        """The head is whole: refuse what can't be taken before its body is sent."""
        self._in_head = False
        edge, headers = self.edge, self._headers
        limits = edge.settings
        if len(headers) + self._repeats > limits.max_header_count:
            raise head_too_large()
        if self._unframed > limits.max_header_bytes:
            check_head(self._url, headers, self._repeated, limits.max_header_bytes)
        self._unframed = 0
        if b"expect" in headers:
            self._wants_continue = headers[b"expect"].lower() == b"100-continue"
        if b"connection" in headers or not self._parser.should_keep_alive():
            self._http11 = is_http11(self._parser.get_http_version(), headers.get(b"host"), edge.check_host)
            self._wants_continue = self._wants_continue and self._http11
        elif headers.get(b"host") not in edge.known_hosts:  # HTTP/1.1: what else stays open without being asked to
            edge.check_host(headers.get(b"host"))
        if self._parser.should_upgrade() and not (  # CONNECT, or Upgrade that Connection names
            self._http11
            and self._exchange is None
            and may_switch(edge.router, self._parser.get_method(), self._url, headers)
        ):
            self._declined = decline(self._parser.get_method(), self._url, headers, http11=self._http11)
            return
        length = headers.get(b"content-length")
        if length is not None and int(length) > limits.max_body_bytes:
            check_size(edge.router, self._url, headers, int(length), limits.max_body_bytes)
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            check_transfer(coding, http11=self._http11)
        encoding = headers.pop(b"content-encoding", None)  # whoever reads the body gets it decoded
        if encoding is not None or coding is not None:
            self._body = IncomingBody(edge, self._url, headers, encoding, chunked=coding is not None)
        if self._is_awaited():
            self.deadline = edge.ticker.now + limits.body_timeout_seconds
            if self._wants_continue:
                self._transport.write(CONTINUE)

    def _is_awaited(self) -> bool:
        """Whether what comes now is all that the connection waits for: else the deadline is another's."""
        return self._exchange is None and not (self._paused or self._closing)

    def on_body(self, body: bytes) -> None:
        """A part of the request body."""
        self._unframed = 0
        if self._body is None:
            self._body = IncomingBody(self.edge, self._url, self._headers)
        self._body.add(body)

    def _is_awaited_body(self, data: bytes) -> bool:
        """Whether a read is nothing but a part of the body that its head has announced."""
        length = self._headers.get(b"content-length") if not self._in_head else None
        return length is not None and len(data) <= int(length) - self._received()

    def _received(self) -> int:
        """Bytes of the request's body that have come."""
        return self._body.size if self._body is not None else 0

    def on_message_complete(self) -> None:
        """A whole request: serve it, or queue it behind the one in flight."""
        if self._declined:
            return  # nothing but its head: see `_feed`
        parser = self._parser
        method, url = parser.get_method(), self._url
        if not url.startswith(b"/"):
            url = read_target(method, url, self._headers)
        if b"#" in url:
            raise GatewayError(Kind.INVALID_REQUEST, "the request target holds a fragment")
        exchange = Exchange(self, method, url, self._headers)
        exchange.http11 = self._http11
        exchange.keep = self._http11 and parser.should_keep_alive()
        share, waits = None, not self._closing and (self._exchange is not None or self._paused)
        if self._body is not None:
            if waits:
                self._body.count_small()
            exchange.body, share = self._body.whole(), self._body.share
        if parser.should_upgrade():
            self._tunnel = switch(self, exchange)
        self._begin()
        if waits:
            self._queue.add(exchange, share)
            self._transport.pause_reading()  # no more than what was already read
            return
        if share is not None:
            share.give_back()
        if not self._closing:
            self._serve(exchange)

    # answering

    def _serve(self, exchange: Exchange) -> None:
        edge = self.edge
        if self._new:
            self._new = False
            edge.newcomers.pop(self, None)
        self.deadline = NEVER
        handler = edge.handler_for(exchange)
        self._exchange = exchange  # not before: whatever fails till here leaves nothing begun
        edge.active += 1
        self._runner = runner = Runner(edge.ticker.loop, run_handler(exchange, handler))
        runner.start()

    def watch(self) -> None:
        """Look after a while whether the client of the request in flight was sent something."""
        if self._exchange is not None and self._exchange.waits and not self._paused and not self._closing:
            self.deadline = self.edge.ticker.now + self.edge.settings.stream_silence_seconds

    def write(self, data: bytes) -> None:
        """Bytes to the client, held by the transport while it is slow."""
        if not self._closing:
            if self._paused:
                self._unread += len(data)
            self._transport.write(data)

    def finished(self, exchange: Exchange) -> None:
        """The answer is complete: close, wait for the next request, or serve the one that waits."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self._runner = None
        self.edge.active -= 1
        if not exchange.keep:
            self._close()
        elif not (self._paused or self._closing):  # else no answer is made until the client has read those before it
            self._go_on()

    def _close(self) -> None:
        """Close behind the last answer, the sending side first: see `_refuse`."""
        self._closing = True
        if self._transport.can_write_eof() and not self._eof:
            self._linger()
        else:
            self.hang_up()

    def _linger(self) -> None:
        self._lingering = True
        self.deadline = self.edge.ticker.now + LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _go_on(self) -> None:
        """Nothing is in flight, and the client reads: what comes next."""
        if self._queue:
            self._exchange = self._queue.take()  # nothing that arrives now may overtake it
            self.edge.ticker.loop.call_soon(self._serve_queued)
        elif self._fault is not None:
            self._refuse(self._fault)
        elif self._eof:
            self._close()
        else:
            self.deadline = self._idle_deadline()
            if self._wants_continue and not self._in_head:
                self._transport.write(CONTINUE)  # its head came while nothing more could be taken

    def _serve_queued(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not self._closing:
            if not self._queue and not self._queue.rest:
                self._transport.resume_reading()
            self._serve(exchange)
            if self._queue.rest and not self._queue:
                self.data_received(self._queue.take_rest())
                if not self._queue and not self._transport.is_closing():
                    self._transport.resume_reading()

    def _idle_deadline(self) -> float:
        edge = self.edge
        if not self._begun:
            seconds = edge.idle_seconds()
        elif self._in_head:
            seconds = edge.settings.header_timeout_seconds
        else:
            seconds = edge.settings.body_timeout_seconds
        return edge.ticker.now + seconds

    def _refuse(self, error: GatewayError) -> None:
        """Answer a request that can't be read on, then close; the rest of what the client sends is thrown away.

        Requests before it are answered first, so that the same bytes get the same answers however they were split.
        Closing with unread bytes would make the kernel send RST, which can destroy the answer before it is read
        (RFC 9112 9.6): so the sending side is closed first and the receiving side a little later. TLS can't close one
        side: there the client has some time to read the answer and to hang up.
        """
        if self._closing:
            return
        if self._body is not None:
            self._body.drop()
        if self._exchange is not None or self._queue:
            self._fault = error
            return
        known = self._url.startswith(b"/") and len(self._url) <= self.edge.settings.max_header_bytes
        exchange = Exchange(self, b"", self._url if known else b"", self._headers)
        self._transport.write(refusal(exchange, error))
        self._closing = True
        self._linger()

    def hold(self, wait: bool) -> None:
        """Read nothing more from the client until it is told to go on."""
        if wait:
            self._transport.pause_reading()
        elif not self._closing:
            self._transport.resume_reading()

    def hang_up(self) -> None:
        """Close behind what was written, which a client that reads on gets; a request in flight is cancelled then."""
        self._closing = True
        self._transport.close()
        self._await_reader()

    def drain(self, last_request_seconds: float) -> None:
        """Close when no request begins within these seconds; otherwise after the answer. Sockets are told to go."""
        if self._tunnel is not None:
            self._tunnel.drain()
            return
        if self._exchange is not None or self._queue or self._closing or self._begun or self._paused:
            return
        if last_request_seconds > 0:
            self.deadline = min(self.deadline, self.edge.ticker.now + last_request_seconds)
        else:
            self.hang_up()

    def is_known(self) -> bool:
        """Whether a known caller's body is under way."""
        try:
            return not self._in_head and self.edge.caller_of(self._url, self._headers) is not None
        except GatewayError:  # too many keys are looked up
            return False

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        self._transport.abort()
