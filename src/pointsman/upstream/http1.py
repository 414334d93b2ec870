"""One HTTP/1.1 connection to an upstream: writes a request, reads the answer, hands it to a sink.

The bytes of a stream reach the sink by plain calls, with no task or future per chunk. The same bytes mean the same
however the network cuts them.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol, cast

import httptools

from pointsman.errors import GatewayError, Kind
from pointsman.settings import UpstreamSettings
from pointsman.ticker import NEVER, Ticker

# A kept connection that closes unanswered so soon was closed before the request came. Later, that may be worked on.
STALE_SECONDS: Final = 2.0
# Phases of a call, named in the message of a time-out.
PHASES: Final = ("to answer", "to send the first byte", "between two parts of the answer", "in all")
ANSWER, FIRST_BYTE, IDLE, TOTAL = 0, 1, 2, 3


class Home(Protocol):
    """What a connection belongs to (pool.py)."""

    settings: UpstreamSettings
    ticker: Ticker

    def put(self, connection: "UpstreamConnection") -> None:
        """The call is over, and the connection can be used again."""
        ...

    def proven(self, transport: asyncio.Transport) -> None:
        """The first answer on this transport is complete."""
        ...

    def lost(self, connection: "UpstreamConnection") -> None:
        """The connection is gone."""
        ...

    def repeat(
        self, message: bytes, sink: "Sink", total_deadline: float, limits: UpstreamSettings, begin_by: float
    ) -> None:
        """The connection was stale: send the request on another."""
        ...


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

    def abandon(self) -> None:
        """Whoever waited has gone: the call is being ended."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream: sends a request, feeds the answer to the sink, goes back to its pool."""

    __slots__ = (
        "_answered", "_begin_by", "_body", "_fields", "_first_by", "_head_bytes", "_headers", "_keep", "_limits",
        "_message", "_parser", "_paused", "_phase", "_pool", "_retire_at", "_sent_at", "_settings", "_status",
        "_streamed", "_streaming", "_ticker", "_total_deadline", "_transport", "_uses", "_was_streamed", "closed",
        "complete", "counted", "deadline", "sink",
    )  # fmt: skip

    def __init__(self, pool: Home) -> None:
        self._pool = pool
        self._settings = self._limits = pool.settings
        self._ticker = pool.ticker
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpResponseParser(self)
        self._fields: dict[bytes, bytes] = {}  # of the last final head
        self._message = b""
        self._uses = 0
        self._retire_at = NEVER
        self._paused = False
        self.sink: Sink | None = None
        self.closed = False
        self.counted = False  # in the pool's count of open connections
        self.deadline = NEVER
        self._total_deadline = self._begin_by = NEVER
        self._phase = ANSWER
        self._first_by = NEVER
        self._sent_at = 0.0  # on the ticker's clock
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._streamed = 0  # bytes of a body that is not streamed, so far
        self._was_streamed = 0  # the same, at the end of the read before
        self._head_bytes = 0  # of everything before the body, or since the last part of it
        self._answered = self._streaming = self._keep = self.complete = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Joins the ticker; the socket already has TCP_NODELAY."""
        self._transport = cast(asyncio.Transport, transport)
        self._retire_at = self._ticker.now + self._settings.max_connection_age_seconds
        self._ticker.members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends a close-delimited answer, repeats a request on a stale connection, or fails the call."""
        self.closed = True
        self._parser = cast(httptools.HttpResponseParser, None)  # it holds this object's methods: a ring
        self._ticker.members.discard(self)
        sink, self.sink = self.sink, None
        stale = sink is not None and not self._answered and self._uses > 1 and not sink.done and self._is_fresh()
        if stale:
            self.counted = False  # its slot goes to the repeated call
        self._pool.lost(self)
        if sink is None:
            return
        if stale:
            self._pool.repeat(self._message, sink, self._total_deadline, self._limits, self._begin_by)
        elif self._status and exc is None and self._is_close_delimited():
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
            if self._head_bytes > self._settings.max_header_bytes:
                self._feed_long_head(data)
                return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fault(error)
            return
        self._deliver(data)

    def _feed_long_head(self, data: bytes) -> None:
        """Parse a read that goes beyond the limit of a head: the head must end before that."""
        allowed = len(data) - (self._head_bytes - self._settings.max_header_bytes)
        try:
            self._parser.feed_data(data[:allowed])
            if self.sink is not None and not self._status:
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer has too large a head")
            self._parser.feed_data(data[allowed:])
        except GatewayError as error:
            self._break(error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fault(error)
        else:
            self._deliver(data)

    def _fault(self, error: Exception) -> None:
        """The parser stopped: what came before the fault is real, and an answer that was complete stays so."""
        if self.complete:
            self._keep = False  # what follows was not asked for
            self._deliver(b"")
            return
        if self._streaming and self._body:
            self._deliver(b"")
        cause = error.__context__ or error.__cause__
        self._break(cause if isinstance(cause, GatewayError) else _malformed())

    def _deliver(self, read: bytes) -> None:
        """Hand on what this read made whole."""
        sink = self.sink
        if sink is None:
            return
        if self._streaming:
            if self._body:
                chunk = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self._head_bytes = 0
                self._set_deadline(IDLE, self._limits.idle_timeout_seconds)
                sink.data(chunk)
            elif self._status and not self.complete:
                self._idle_talk(len(read))
            if self.complete and self.sink is not None:
                self._release()
                sink.end(b"")
        elif self.complete:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._release()
            sink.end(body)
        elif self._streamed > self._was_streamed:
            self._was_streamed = self._streamed
            self._head_bytes = 0
            self._set_deadline(IDLE, self._limits.idle_timeout_seconds)
        elif self._status:
            self._idle_talk(len(read))

    def _idle_talk(self, read: int) -> None:
        """Bytes that are no body: chunk extensions and trailers have no length of their own, so they get a limit."""
        self._head_bytes += read
        if self._head_bytes > 2 * self._settings.max_header_bytes:  # the read that ended the head counts, too
            self._break(_malformed())

    # the caller's side

    @property
    def usable(self) -> bool:
        """True when a request may be sent on it."""
        return not self.closed and not self._transport.is_closing()

    def send(
        self,
        message: bytes,
        sink: Sink,
        total_deadline: float,
        limits: UpstreamSettings | None = None,
        begin_by: float = NEVER,
    ) -> None:
        """Start a call with a complete HTTP request. ``limits`` have the times of its phases, when they are not those
        of all calls; its end and, of its answer, head and first part must come by the two times (the ticker's clock).
        """
        self.sink = sink
        sink.connection = self
        self._message = message
        self._uses += 1
        self._sent_at = self._ticker.now
        self._total_deadline = total_deadline
        self._begin_by = begin_by
        self._limits = limits = limits or self._settings
        self._set_deadline(ANSWER, limits.headers_timeout_seconds)
        if begin_by < self.deadline:
            self.deadline = begin_by
        self._transport.write(message)

    def pause(self) -> None:
        """Stop reading: the client can't take more now. Nothing when the call is over: what is read is another's."""
        if self.sink is not None and not self._paused and not self.closed:
            self._paused = True
            self.deadline = self._total_deadline
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self.closed:
            self._paused = False
            self._set_deadline(IDLE, self._limits.idle_timeout_seconds)
            self._transport.resume_reading()

    def await_content(self) -> None:
        """What has come so far is only the beginning of a stream, without content: that has still to come in time."""
        self._phase = FIRST_BYTE
        self.deadline = min(self.deadline, self._first_by)

    def after_hold(self, release: Callable[[], None]) -> asyncio.TimerHandle:
        """Have ``release`` called when the beginning of a stream has been held back for long enough."""
        return self._ticker.loop.call_later(self._settings.hold_seconds, release)

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
        keep = self._keep and not self.closed and self._ticker.now < self._retire_at
        self._message = b""
        self._reset()
        self._total_deadline = NEVER
        if self._uses == 1:
            self._pool.proven(self._transport)
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if keep:
            self.deadline = self._ticker.now + self._settings.keepalive_seconds
            self._pool.put(self)
        else:
            self.abort()

    def _is_fresh(self) -> bool:
        """Whether the call was sent only now."""
        return self._ticker.now - self._sent_at <= STALE_SECONDS

    def _is_close_delimited(self) -> bool:
        return b"content-length" not in self._fields and b"transfer-encoding" not in self._fields

    # httptools' side

    def on_message_begin(self) -> None:
        """One answer for each request."""
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
            if status < 100:
                raise _malformed()
            self._headers = {}
            return
        headers, self._headers = self._headers, _TRAILERS
        if len(headers) > self._settings.max_header_count:
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer has too many header fields")
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise _unasked("transfer-encoding", coding)
        encoding = headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() not in (b"identity", b""):
            raise _unasked("content-encoding", encoding)
        self._fields = headers
        self._status = status
        self._head_bytes = 0
        self._set_deadline(FIRST_BYTE, self._limits.first_byte_timeout_seconds)
        if self._begin_by < self.deadline:
            self.deadline = self._begin_by
        self._first_by = self.deadline
        if self.sink is not None:
            self._streaming = self.sink.head(status, headers, self)

    def on_body(self, body: bytes) -> None:
        """A part of the body, kept until the end of this read, or of the answer when it is not streamed."""
        if not self._streaming:
            self._streamed += len(body)
            if self._streamed > self._settings.max_response_bytes:
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is larger than the limit")
        self._body.append(body)

    def on_message_complete(self) -> None:
        """llhttp knows whether the connection can be kept only inside this call."""
        if self._status:
            self.complete = True
            self._keep = self._parser.should_keep_alive()


def _malformed() -> GatewayError:
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not valid HTTP")


def _unasked(field: str, value: bytes) -> GatewayError:
    name = value[:32].decode("latin-1")
    return GatewayError(Kind.UPSTREAM_ERROR, f"the upstream answered with {field} '{name}' unasked")


class _Trailers(dict[bytes, bytes]):
    """Where fields after a body go: they are not kept (RFC 9110 6.5.1 lets a recipient discard them)."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        """Nothing."""


_TRAILERS: Final = _Trailers()
