"""The two ways an answer is received: collected whole, or relayed as it comes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pointsman.errors import GatewayError, Kind
from pointsman.runner import Waiting
from pointsman.upstream.endpoints import StreamReader
from pointsman.upstream.http1 import UpstreamConnection

MAX_HELD_BYTES: Final = 256 * 1024  # of a stream's beginning: no real one is as long
ERROR_INSIDE: Final = "the upstream reported an error in its stream"


class CollectedAnswer(Waiting):
    """A sink that keeps the whole answer: ``status``, ``headers``, ``body``. Await it for its end."""

    connection: UpstreamConnection | None = None
    status = 0
    headers: dict[bytes, bytes]  # there is none before `head`
    body = b""
    look: Callable[[Mapping[bytes, bytes]], None] | None = None  # told the headers

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """Keep the head, and ask for the body in one piece."""
        self.status = status
        self.headers = headers
        if self.look is not None:
            self.look(headers)
        return False

    def data(self, chunk: bytes) -> None:
        """Never called: the body comes in one piece."""

    def end(self, body: bytes) -> None:
        """The answer is whole."""
        self.body = body
        self.finish()

    def fail(self, error: GatewayError) -> None:
        """No whole answer came."""
        self.break_off(error)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.done = True


class Receiver(Protocol):
    """The client's side of a relay: an exchange of the edge."""

    throttle: Callable[[bool], None] | None

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer. ``extra`` are header lines."""
        ...

    def write(self, data: bytes) -> None:
        """A part of a streamed answer."""
        ...

    def finish(self) -> None:
        """End a streamed answer."""
        ...

    def cut(self) -> None:
        """Break the connection: the one way left to say that a streamed answer is not whole."""
        ...


class StreamedAnswer(CollectedAnswer):
    """A sink that relays an event stream to the client byte for byte, in whole events, at the client's pace.

    ``settle(error, last)`` is called exactly once, before the ``last`` bytes go to the client. The client's answer
    begins with the first event that has content, or some seconds after the first one of all: what comes before is held
    back. A failure before that is an ordinary error answer, or another target's turn; one after it an error event.
    An answer that is no event stream is collected instead (``streaming`` stays False).
    """

    _held: list[bytes] | None = None
    _timer: asyncio.TimerHandle | None = None

    def __init__(
        self,
        receiver: Receiver,
        reader: StreamReader,
        settle: Callable[[GatewayError | None, int], None],
        render_error: Callable[[GatewayError], bytes],
    ) -> None:
        self._receiver = receiver
        self._reader = reader
        self._settle = settle
        self._render_error = render_error
        self._settled = False
        self.started = False
        self.streaming = False

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """Relay a 200 event stream; collect anything else."""
        super().head(status, headers, call)
        self.streaming = status == 200 and headers.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        if self.streaming:
            self._receiver.throttle = self._throttle
        return self.streaming

    def data(self, chunk: bytes) -> None:
        """Forward the whole events that ``chunk`` completes."""
        try:
            events = self._reader.feed(chunk)
        except GatewayError as error:
            if self.connection is not None:
                self.connection.abort()
            self.fail(error)
            return
        if events:
            self._forward(events)
        elif not self.started and not self.done and self.connection is not None:
            self.connection.await_content()

    def end(self, body: bytes) -> None:
        """The upstream ended its answer cleanly; whether it is complete is the reader's to say."""
        if not self.streaming:
            super().end(body)
            return
        try:
            rest = self._reader.finish()
        except GatewayError as error:
            self.fail(error)
            return
        if rest:
            self._forward(rest)
        if not self.started and self._held and not self.done and self._reader.done:
            self._release()  # whole, and without any content
        self._complete()

    def fail(self, error: GatewayError) -> None:
        """The call broke: an error event, unless the answer was complete already or had not begun."""
        if self.done:
            return
        if not self.started:
            self.break_off(error)
        elif self._reader.done or self._reader.failed:
            self._complete()
        else:
            event = self._render_error(error)
            self._settle_once(error, len(event))
            self._receiver.write(event)
            self._finish()

    def _forward(self, events: bytes) -> None:
        if not self.started:
            events = self._hold(events)
            if not events:
                return
            self._begin()
        if self._reader.done:
            self._settle_once(self._verdict(), len(events))  # some hosts end with [DONE] what broke, too
        self._receiver.write(events)

    def _hold(self, events: bytes) -> bytes:
        """All events up to the first content; none while there is no content."""
        reader, held = self._reader, self._held
        try:
            begun = reader.has_content(events)
        except GatewayError as error:
            self._give_up(error)
            return b""
        if reader.failed and not begun:
            told = self._verdict() or GatewayError(Kind.UPSTREAM_ERROR, ERROR_INSIDE)
            self._give_up(told.of(told.status, self.headers, b""))  # a refusal, though the head said otherwise
            return b""
        if begun:
            self._forget_timer()
            if held is None:
                return events
            self._held = None
            return b"".join((*held, events))
        connection = self.connection
        if connection is not None:
            connection.await_content()
        if held is None:
            held = self._held = []
            self._timer = connection.after_hold(self._release) if connection is not None else None
        held.append(events)
        if sum(map(len, held)) > MAX_HELD_BYTES:
            self._forget_timer()
            self._release()
        return b""

    def _release(self) -> None:
        """Long enough: the client gets what there is."""
        self._timer = None
        held, self._held = self._held, None
        if held and not self.started and not self.done:
            self._begin()
            self._receiver.write(b"".join(held))

    def _give_up(self, error: GatewayError) -> None:
        """It failed before the client knows of it."""
        if self.connection is not None:
            self.connection.abort()
        self.fail(error)

    def abandon(self) -> None:
        """The client is gone."""
        self._forget_timer()
        super().abandon()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def break_off(self, error: BaseException) -> None:
        """No answer: nothing that was held back is for the client."""
        self._forget_timer()
        self._held = None
        self._receiver.throttle = None  # a cycle, which only the garbage collector would find
        super().break_off(error)

    def _begin(self) -> None:
        self.started = True
        self._receiver.start(200, b"text/event-stream; charset=utf-8", b"cache-control: no-cache\r\n")

    def _verdict(self) -> GatewayError | None:
        """How the answer broke, by the reader's account."""
        if self._reader.failed:
            return self._reader.error or GatewayError(Kind.UPSTREAM_ERROR, ERROR_INSIDE)
        return None

    def _complete(self) -> None:
        if self.done:
            return
        if not self.started:
            self.break_off(GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream was empty"))
            return
        self._settle_once(self._verdict(), 0)
        self._finish()

    def _finish(self) -> None:
        self._receiver.throttle = None  # a cycle, which only the garbage collector would find
        self._receiver.finish()
        self.finish()

    def _settle_once(self, error: GatewayError | None, last: int) -> None:
        if not self._settled:
            self._settled = True
            self._settle(error, last)

    def _throttle(self, slow: bool) -> None:
        if self.connection is not None:
            if slow:
                self.connection.pause()
            else:
                self.connection.resume()
