"""Bytes of a client into the edge's connection.

Holds for any bytes: no exception but our own errors; every request gets at most one answer, in order, and nothing is
written after the end; what is kept in memory is bounded; the same bytes in other pieces are the same requests; no
request outlives its connection.
"""

import re
from dataclasses import dataclass, field

from fuzz.recording import HandLoop, RecordingTransport, StillClock
from fuzz.splits import Case, case_of
from pointsman.errors import GatewayError
from pointsman.runner import Waiting
from pointsman.server.connection import EdgeConnection
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import Exchange
from pointsman.server.routes import Handler, Routed, Router
from pointsman.settings import ServerSettings
from pointsman.ticker import Ticker

WAIT, STREAM, HALF_CLOSE, SMALL, SLOW = 1, 2, 4, 8, 16  # options
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")
REQUEST_ID = re.compile(rb"^x-request-id: (req_\d+)\r$", re.MULTILINE)
SMALL_LIMITS = ServerSettings(max_body_bytes=64, max_header_bytes=256, max_header_count=4)
# Far above any input: two readings of the same bytes may differ near a limit, which looks at whole reads.
LARGE_LIMITS = ServerSettings()


class WatchedConnection(EdgeConnection):
    """An edge connection that tells which exceptions its parser's callbacks raise; the parser hides them."""

    strangers: list[BaseException]

    def _watched(self, name: str, *arguments: bytes) -> None:
        try:
            getattr(EdgeConnection, name)(self, *arguments)
        except GatewayError:
            raise
        except BaseException as error:
            self.strangers.append(error)
            raise

    def on_url(self, url: bytes) -> None:
        """Watched."""
        self._watched("on_url", url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Watched."""
        self._watched("on_header", name, value)

    def on_headers_complete(self) -> None:
        """Watched."""
        self._watched("on_headers_complete")

    def on_body(self, body: bytes) -> None:
        """Watched."""
        self._watched("on_body", body)

    def on_message_complete(self) -> None:
        """Watched."""
        self._watched("on_message_complete")


class OneHandler(Router):
    """Every request has one handler, also ``OPTIONS *``, to which a router has an answer of its own."""

    def find(self, request: Routed) -> Handler:
        """The one, whatever is found."""
        super().find(request)
        return self._fallback


@dataclass
class Run:
    """One connection with all that happened on it."""

    case: Case
    loop: HandLoop = field(default_factory=HandLoop)
    transport: RecordingTransport = field(default_factory=RecordingTransport)
    requests: list[tuple[bytes, ...]] = field(default_factory=list)
    running: list[Exchange] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = SMALL_LIMITS if self.case.options & SMALL else LARGE_LIMITS
        clock = StillClock()
        self.edge = Edge(limits, Ticker(self.loop, clock), clock, OneHandler(self.handle), error_dialect)  # type: ignore[arg-type]
        self.connection = WatchedConnection(self.edge)
        self.connection.strangers = []
        self.connection.connection_made(self.transport)

    async def handle(self, exchange: Exchange) -> None:
        """Note the request, then answer as the options say."""
        headers = b"\n".join(name + b"=" + value for name, value in sorted(exchange.headers.items()))
        method, path, query = exchange.method, exchange.path, exchange.query
        self.requests.append((method, path, query, headers, exchange.body, b"1.1" if exchange.http11 else b"1.0"))
        self.running.append(exchange)
        try:
            if self.case.options & WAIT:
                turn = Waiting()
                self.waiting.append(turn)
                await turn
            if self.case.options & STREAM:
                exchange.start(200, b"text/event-stream")
                exchange.write(b"data: 1\n\n")
                exchange.finish()
            else:
                exchange.respond(200, b'{"answer":1}')
        finally:
            self.running.remove(exchange)

    def answer_next(self) -> None:
        """Let the first request that waits be answered."""
        self.waiting.pop(0).finish()
        self.loop.run()

    def play(self, parts: list[bytes]) -> "Run":
        """Feed the parts, answer what waits, end the connection."""
        for part in parts:
            while self.transport.paused and self.waiting:
                self.answer_next()
            if self.transport.closed or self.transport.paused:
                break
            self.connection.data_received(part)
            self.loop.run()
            self.check_memory(len(part))
        if self.case.options & HALF_CLOSE and not self.transport.closed and not self.connection.eof_received():
            self.transport.close()
        self.finish()
        return self

    def finish(self) -> None:
        """Answer all, or leave them to be cancelled; then the client is gone."""
        while self.waiting and not self.case.options & SLOW:
            self.answer_next()
        if self.case.options & SLOW and not self.transport.closed:
            self.connection.pause_writing()
            self.connection.resume_writing()
            self.connection.expired()
        self.connection.connection_lost(None)
        self.loop.run()

    def check_memory(self, read: int) -> None:
        """What the connection holds of an unfinished request is within the limits, but for the ``read`` last bytes."""
        limits, connection = self.edge.settings, self.connection
        if connection._closing or connection._fault is not None:
            return  # nothing more is taken in
        kept = len(connection._url) + sum(len(k) + len(v) for k, v in connection._headers.items())
        assert kept <= limits.max_header_bytes + read, "a head grows beyond its limit"
        pieces = connection._body.pieces if connection._body is not None else []
        assert sum(map(len, pieces)) <= limits.max_body_bytes, "a body grows beyond its limit"

    def answers(self) -> list[bytes]:
        """The statuses of all answers, interim ones too."""
        return [found[1] for found in HEAD.finditer(self.transport.output)]

    def check(self) -> None:
        """What holds for one connection by itself."""
        assert not self.connection.strangers, f"raised inside: {self.connection.strangers!r}"
        assert not self.transport.breaches, self.transport.breaches
        assert not self.running, "a request outlived its connection"
        assert self.edge.active == 0, f"{self.edge.active} requests are still counted"
        assert not self.edge.connections, "the connection is still counted"
        assert (self.edge.body_memory.held, self.edge.body_memory.held_by) == (0, {}), "a body is still counted"
        ids = [found[1] for found in REQUEST_ID.finditer(self.transport.output)]
        assert len(ids) == len(set(ids)), "a request was answered twice"
        assert ids == sorted(ids, key=lambda one: int(one[4:])), "answers are out of order"
        finals = [found for found in HEAD.finditer(self.transport.output) if found[1] != b"100"]
        assert len(finals) == len(ids), "an answer without an id"
        assert len(ids) <= len(self.requests) + 1, "more answers than requests"
        if not self.case.options & SLOW and not self.transport.aborted:
            assert len(ids) >= len(self.requests), "a request was left without an answer"


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    if not case.parts:
        return
    whole, cut = Run(case).play([case.data]), Run(case).play(case.parts)
    whole.check()
    cut.check()
    if case.options & SMALL:
        return
    if case.options & WAIT:  # a fault behind a request in flight breaks it off, and what was served by then differs
        shorter = min(len(whole.requests), len(cut.requests))
        assert whole.requests[:shorter] == cut.requests[:shorter], "other pieces, other requests"
    else:
        assert whole.requests == cut.requests, f"other pieces, other requests: {whole.requests!r} {cut.requests!r}"
        # Which of two faults is named first is the parser's choice, and it reports a header when the next one begins.
        assert whole.answers() == cut.answers(), f"other pieces, other answers: {whole.answers()} {cut.answers()}"
