"""Bytes of an upstream into the client's connection, with the sinks that the gateway really uses.

Holds for any bytes: no exception but our own errors; a sink gets one head, then data, then exactly one end or failure
and nothing after it; a connection that goes back to its pool is clean; the same bytes in other pieces are the same
answer; what is kept in memory is bounded.
"""

from dataclasses import dataclass, field

from fuzz.recording import HandLoop, RecordingTransport, StillClock
from fuzz.splits import Case, case_of, one_blank_line
from pointsman.dialects.openai_chat import render_stream_error
from pointsman.errors import GatewayError
from pointsman.providers.openai import StreamReader
from pointsman.settings import UpstreamSettings
from pointsman.ticker import NEVER, Ticker
from pointsman.upstream.answers import CollectedAnswer, StreamedAnswer
from pointsman.upstream.http1 import UpstreamConnection
from pointsman.upstream.origins import Origin
from pointsman.upstream.pool import Pool

STREAMED, RESET, SMALL, PAUSE = 1, 2, 4, 8  # options
MESSAGE = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
SMALL_LIMITS = UpstreamSettings(max_response_bytes=64, max_header_bytes=256)
LARGE_LIMITS = UpstreamSettings()


class NoDialer:
    """Opens nothing: the pool is only ever given back what it lent."""

    async def open(self, pool: Pool, origin: Origin, total_deadline: float) -> UpstreamConnection:
        """Never called."""
        raise AssertionError("a fuzzed input opened a connection")


class WatchedUpstream(UpstreamConnection):
    """An upstream connection that tells which exceptions its parser's callbacks raise; the parser hides them."""

    strangers: list[BaseException]

    def _watched(self, name: str, *arguments: bytes) -> None:
        try:
            getattr(UpstreamConnection, name)(self, *arguments)
        except GatewayError:
            raise
        except BaseException as error:
            self.strangers.append(error)
            raise

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


class Receiver:
    """The client's side of a relayed stream."""

    def __init__(self) -> None:
        self.throttle = None
        self.events: list[str] = []
        self.body = b""

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """The answer begins."""
        self.events.append("start")

    def write(self, data: bytes) -> None:
        """A part of it."""
        self.body += data
        self.events += ["write"] if self.events[-1:] != ["write"] else []

    def finish(self) -> None:
        """Its end."""
        self.events.append("finish")


@dataclass
class Run:
    """One call on one connection with all that the sink was told."""

    case: Case
    calls: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # told after the end
    over: bool = False
    transport: RecordingTransport = field(default_factory=RecordingTransport)
    receiver: Receiver = field(default_factory=Receiver)

    def __post_init__(self) -> None:
        limits = SMALL_LIMITS if self.case.options & SMALL else LARGE_LIMITS
        ticker = Ticker(HandLoop(), StillClock())  # type: ignore[arg-type]
        self.pool = Pool(NoDialer(), Origin(scheme="http", host="x", port=80), limits, ticker)
        self.connection = WatchedUpstream(self.pool)
        self.connection.strangers = []
        self.connection.connection_made(self.transport)
        self.connection.counted = True
        self.pool.open = 1
        self.sink = self.make_sink()

    def make_sink(self) -> CollectedAnswer:
        """The real sink, whose calls are noted on their way in."""
        run = self
        kind: type[CollectedAnswer] = StreamedAnswer if self.case.options & STREAMED else CollectedAnswer

        class Noted(kind):  # type: ignore[misc, valid-type]
            def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
                run.note(f"head {status} {sorted(headers.items())!r}")
                return bool(kind.head(self, status, headers, call))

            def data(self, chunk: bytes) -> None:
                run.note("data")
                kind.data(self, chunk)

            def end(self, body: bytes) -> None:
                run.note(f"end {body!r}")
                run.over = True
                kind.end(self, body)

            def fail(self, error: GatewayError) -> None:
                run.note(f"fail {error.message}")
                run.over = True  # it fails itself from inside `data` or `end`, too
                kind.fail(self, error)

        if kind is CollectedAnswer:
            return Noted()
        return Noted(self.receiver, StreamReader(1), self.settle, lambda error: render_stream_error(error, "req_1"))

    def note(self, call: str) -> None:
        """Note what the sink was told; parts of the body are one."""
        if self.over and not (call.startswith("fail") and self.calls[-1].startswith("end")):
            self.late.append(call)
        if call != "data" or self.calls[-1:] != ["data"]:
            self.calls.append(call)

    def settle(self, error: GatewayError | None, last: int) -> None:
        """Note the settlement."""
        self.settled.append(error.message if error is not None else "ok")

    def play(self, parts: list[bytes]) -> "Run":
        """Send, feed the parts, end the connection unless that was done already."""
        self.connection.send(MESSAGE, self.sink, NEVER)
        for part in parts:
            if self.transport.closed:
                break
            if self.case.options & PAUSE:
                self.connection.pause()
                self.connection.resume()
            self.connection.data_received(part)
            self.check_memory()
        self.connection.connection_lost(ConnectionResetError() if self.case.options & RESET else None)
        return self

    def check_memory(self) -> None:
        """What is held of an unfinished answer is within the limits."""
        held = sum(map(len, self.connection._body))
        assert held <= self.pool.settings.max_response_bytes + len(self.case.data) * self.connection._streaming

    def check(self) -> None:
        """What holds for one call by itself."""
        assert not self.connection.strangers, f"raised inside: {self.connection.strangers!r}"
        assert not self.transport.breaches, self.transport.breaches
        heads = [call for call in self.calls if call.startswith("head")]
        assert len(heads) <= 1, f"two answers to one request: {heads!r}"
        assert not self.late, f"told something after the end: {self.calls!r}"
        assert self.over, f"never ended: {self.calls!r}"
        assert self.sink.done, "nobody tells the waiting request"
        assert self.pool.open == 0, f"{self.pool.open} connections are still counted"
        assert len(self.settled) <= 1, "settled twice"
        if "finish" in self.receiver.events:
            assert self.settled, "finished and not settled"
            assert self.receiver.events == ["start", "write", "finish"], self.receiver.events


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    if not case.parts:
        return
    whole, cut = Run(case).play([case.data]), Run(case).play(case.parts)
    whole.check()
    cut.check()
    if not case.options & SMALL:
        assert whole.calls == cut.calls, f"other pieces, another answer: {whole.calls!r} {cut.calls!r}"
        assert whole.settled == cut.settled, f"settled otherwise: {whole.settled!r} {cut.settled!r}"
        bodies = [one_blank_line(run.receiver.body) for run in (whole, cut)]
        assert bodies[0] == bodies[1], f"other pieces, other bytes: {bodies!r}"
