"""WebSockets on the edge (RFC 6455): the opening handshake, text messages both ways, pings, limits, the close.

Framing is wsproto's; nothing of it touches a socket. Extensions are not offered: a compressed frame could be a bomb.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import deque
from hashlib import sha1
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from pointsman.errors import GatewayError, Kind
from pointsman.runner import Waiting
from pointsman.ticker import NEVER

if TYPE_CHECKING:
    from asyncio import Handle

    from pointsman.server.connection import EdgeConnection
    from pointsman.server.exchange import Exchange

VERSION: Final = b"13"
MAX_WAITING: Final = 16  # messages that nobody has taken yet; then the client has to wait
MAX_EARLY_BYTES: Final = 64 * 1024  # sent before the handshake was answered
MIN_FRAGMENT_BYTES: Final = 128  # what a fragment counts for at least: a message of empty ones has an end, too
MAX_CONTROL_FRAMES: Final = 1000  # pings and pongs of a client within the seconds below
CONTROL_SECONDS: Final = 10.0
FRAMES_AT_ONCE: Final = 128  # then all others have their turn: a frame costs some microseconds
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
GOING_AWAY, UNACCEPTABLE, TOO_MANY, TOO_BIG = 1001, 1003, 1008, 1009  # RFC 6455 7.4.1


class WebSocketLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a message; seconds of silence after which the client is pinged, and after which it is given up."""

    max_message_bytes: int
    ping_seconds: float = 20.0
    idle_seconds: float = 3600.0


class SocketClosedError(Exception):
    """The client has closed its socket, or was told to."""


class WebSocket:
    """One client's socket, made when its request has come. `accept` it, or answer the request otherwise.

    A ping that is not answered until the next one is due ends the connection. So does a client that sends no message
    for ``idle_seconds`` while nothing is being sent to it, whatever other frames it sends.
    """

    def __init__(self, connection: "EdgeConnection", exchange: "Exchange", limits: WebSocketLimits) -> None:
        self._connection = connection
        self._exchange = exchange
        self.limits = limits
        self._frames = Connection(ConnectionType.SERVER)
        self._early = bytearray()
        self._accepted = self.closed = self._busy = self._leaving = False
        self._parts = bytearray()  # of the message that is coming; pieces of one byte must not cost more than it
        self._frame_start = 0  # where the frame that is coming begins in them
        self._padding = 0  # what its fragments count for beyond their bytes
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._held = False  # nothing is read
        self._full = False  # for nobody takes the messages
        self._behind = False  # there may be frames that came and were not looked at
        self._turn: Handle | None = None  # when they will be
        self._control_frames = 0
        self._control_since = 0.0
        self._arrival: Waiting | None = None
        self._drain: Waiting | None = None
        self._pinged = False
        self._spoke_at = 0.0

    def accept(self) -> None:
        """Answer the handshake: from now on there are messages. Raises INVALID_REQUEST when it is none."""
        key = handshake_key(self._exchange.headers)
        self._accepted = True
        self._exchange.throttle = self._throttle
        self._exchange.switch(b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %b\r\n" % key)
        self._spoke_at = self._connection.edge.ticker.now
        self._rearm()
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.received(early)

    async def receive(self) -> bytes | None:
        """The next text message, in UTF-8; None when the socket is closed."""
        while not self._messages:
            if self.closed:
                return None
            self._arrival = Waiting()
            await self._arrival
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        self._hold()
        return message

    async def send(self, text: str) -> None:
        """Send a text message; waits while the client reads too slowly. Raises SocketClosedError."""
        while self._drain is not None and not self.closed:
            await self._drain
        if self.closed:
            raise SocketClosedError
        self._spoke_at = self._connection.edge.ticker.now
        self._write(TextMessage(data=text))

    def close(self, code: int, reason: str = "") -> None:
        """Tell the client that it is over, and end the connection. ``reason`` has at most 123 bytes."""
        if self._accepted and not self.closed:
            self._write(CloseConnection(code=code, reason=reason))
            self._end()

    @property
    def busy(self) -> bool:
        """True while an answer is being sent: a gateway that is to stop waits for its end."""
        return self._busy

    @busy.setter
    def busy(self, value: bool) -> None:
        self._busy = value
        if self._leaving and not value:
            self.drain()

    # the edge's side

    def drain(self) -> None:
        """The gateway is being stopped: close, at once or behind the answer."""
        self._leaving = True
        if not self._busy:
            self.close(GOING_AWAY, "the gateway is being stopped")

    def received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.closed:
            return
        if not self._accepted:
            self._early += data
            if len(self._early) > MAX_EARLY_BYTES:
                self._connection.abort()
            return
        self._frames.receive_data(data)
        if not self._behind:
            self._take_frames()

    def expired(self) -> None:
        """A deadline has passed: the client is pinged, or given up."""
        now = self._connection.edge.ticker.now
        if self._pinged:
            self._end(abort=True)
        elif self._is_idle():
            self.close(GOING_AWAY, "idle")
        else:
            self._pinged = True
            self._write(Ping())
            self._connection.deadline = now + self.limits.ping_seconds

    def lost(self) -> None:
        """The connection is gone."""
        self.closed = True
        if self._turn is not None:
            self._turn.cancel()
        for waiting in (self._arrival, self._drain):
            if waiting is not None:
                waiting.finish()

    def _take_frames(self) -> None:
        """Act upon some of the frames that have come. The rest waits for the loop's next turn, or for room."""
        self._turn = None
        left = FRAMES_AT_ONCE
        for event in islice(self._frames.events(), FRAMES_AT_ONCE):
            left -= 1
            if not self._take(event):
                return
        self._behind = left == 0
        if self._is_idle():  # whatever came, no message was in it
            self.close(GOING_AWAY, "idle")
        else:
            self._hold()
            self._rearm()

    def _is_idle(self) -> bool:
        return not self._busy and self._connection.edge.ticker.now - self._spoke_at > self.limits.idle_seconds

    def _take(self, event: Event) -> bool:
        """Act upon an event; False when the socket is closed by it."""
        match event:
            case Ping() | Pong() if self._is_flooded():
                self.close(TOO_MANY, f"at most {MAX_CONTROL_FRAMES} pings and pongs in {CONTROL_SECONDS:g} seconds")
            case TextMessage():
                self._take_text(event)
            case BytesMessage():
                self.close(UNACCEPTABLE, "messages are JSON in text frames")
            case Ping():
                if self._drain is None:  # who reads nothing gets no more to read
                    self._write(event.response())
            case CloseConnection():
                self._write(event.response())
                self._end()
            case Message() | Pong():
                pass
        self._pinged = False
        return not self.closed

    def _is_flooded(self) -> bool:
        """Count a ping or a pong; whether there are more of them than a client has reason to send."""
        now = self._connection.edge.ticker.now
        if now - self._control_since > CONTROL_SECONDS:
            self._control_frames, self._control_since = 0, now
        self._control_frames += 1
        return self._control_frames > MAX_CONTROL_FRAMES

    def _take_text(self, event: TextMessage) -> None:
        self._parts += event.data.encode()
        if event.frame_finished and not event.message_finished:
            self._padding += max(0, MIN_FRAGMENT_BYTES - (len(self._parts) - self._frame_start))
            self._frame_start = len(self._parts)
        if len(self._parts) + self._padding > self.limits.max_message_bytes:
            self.close(TOO_BIG, f"messages have at most {self.limits.max_message_bytes} bytes")
            return
        if not event.message_finished:
            return
        self._frame_start = self._padding = 0
        self._spoke_at = self._connection.edge.ticker.now
        self._messages.append(bytes(self._parts))
        self._waiting_bytes += len(self._parts)
        self._parts = bytearray()
        if self._arrival is not None:
            self._arrival.finish()

    def _hold(self) -> None:
        """Read on only while there is room: behind a message that waits, for as many bytes as one may have."""
        if self.closed:
            return
        size = self._waiting_bytes + len(self._parts)
        full = len(self._messages) >= MAX_WAITING or (bool(self._messages) and size >= self.limits.max_message_bytes)
        if self._behind and not full and self._turn is None:
            self._turn = self._connection.edge.ticker.loop.call_soon(self._take_frames)
        if (full or self._behind) != self._held:
            self._held = not self._held
            self._connection.hold(self._held)
        if full != self._full:
            self._full = full
            self._rearm()

    def _throttle(self, wait: bool) -> None:
        """The client reads too slowly, or has caught up."""
        if wait:
            self._drain = Waiting()
        else:
            drain, self._drain = self._drain, None
            if drain is not None:
                drain.finish()
            self._rearm()

    def _rearm(self) -> None:
        """Ping later; never while nothing is read, for the answer to a ping would not be seen."""
        if self._drain is None and not self.closed:
            self._pinged = False
            wait = self.limits.ping_seconds
            self._connection.deadline = NEVER if self._full else self._connection.edge.ticker.now + wait

    def _write(self, event: Event) -> None:
        try:
            self._connection.write(self._frames.send(event))
        except ProtocolError:
            self._end(abort=True)  # already closing

    def _end(self, *, abort: bool = False) -> None:
        self._connection.deadline = NEVER
        self.lost()
        if abort:
            self._connection.abort()
        else:
            self._connection.hang_up()


def handshake_key(headers: dict[bytes, bytes]) -> bytes:
    """The answer to a client's key (RFC 6455 4.2.2). Raises INVALID_REQUEST when the handshake is wrong."""
    if headers.get(b"sec-websocket-version") != VERSION:
        message = "WebSocket version 13 is spoken here"
        raise GatewayError(Kind.INVALID_REQUEST, message, param="sec-websocket-version", status=426)
    key = headers.get(b"sec-websocket-key", b"")
    try:
        if len(b64decode(key, validate=True)) != 16:
            raise ValueError
    except (Base64Error, ValueError):
        message = "'sec-websocket-key' must be 16 bytes in base64"
        raise GatewayError(Kind.INVALID_REQUEST, message, param="sec-websocket-key") from None
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
