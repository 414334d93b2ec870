"""One client connection of a simulator: parses requests, plays transmissions byte for byte on their schedule.

A player is driven by one timer and the transport's back-pressure: no task per stream, no task per event.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import httptools

from .reply import Request
from .request_log import Outcome, ReceivedRequest, RequestLog
from .transmission import Ending, Transmission

# A part due within this time goes out now: uvloop's timers count whole milliseconds.
_SLACK_S: Final = 0.0005
_BATCH_BYTES: Final = 65_536
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

Responder = Callable[[Request], tuple[Transmission, ReceivedRequest]]


class Player:
    """Writes one transmission to a transport, then calls ``on_end``; ``received.sent_bytes`` counts along.

    The schedule is fixed when the request comes: a late part does not delay those after it.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        transmission: Transmission,
        received: ReceivedRequest,
        on_end: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._received = received
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._parts = transmission.parts
        self._next: bytes | None = transmission.head
        self._due = self._loop.time() + transmission.head_after_s
        self._timer: asyncio.Handle | None = None
        self._paused = False

    def pause(self) -> None:
        """Write nothing more until ``play``: the client reads slower than it is sent to."""
        self._paused = True

    def resume(self) -> None:
        """Undo ``pause``."""
        self._paused = False
        if self._timer is None:
            self.play()

    def stop(self) -> None:
        """Never write again and never call ``on_end``."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def play(self) -> None:
        """Write every part that is due, then wait for the next one's time, for the client, or end."""
        self._timer = None
        batch = bytearray()
        until = self._loop.time() + _SLACK_S
        while not self._paused:
            if self._next is None:
                self._write(batch)
                self._on_end()
                return
            if self._due > until:
                self._write(batch)
                self._timer = self._loop.call_at(self._due, self.play)
                return
            batch += self._next
            self._fetch()
            if len(batch) >= _BATCH_BYTES:
                self._write(batch)
                self._timer = self._loop.call_soon(self.play)  # the other connections get their turn
                return
        self._write(batch)

    def _fetch(self) -> None:
        part = next(self._parts, None)
        if part is None:
            self._next = None
        else:
            self._due += part[0]
            self._next = part[1]

    def _write(self, batch: bytearray) -> None:
        if batch:
            self._received.sent_bytes += len(batch)
            self._transport.write(batch)


class Connection(asyncio.Protocol):
    """HTTP/1.1 server side of one socket: keep-alive, pipelining, chunked requests, 100-continue.

    A client that closes its sending half is taken to have gone, as every provider does.
    """

    def __init__(self, respond: Responder, log: RequestLog, connections: set["Connection"]) -> None:
        self._respond = respond
        self._log = log
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._player: Player | None = None
        self._received: ReceivedRequest | None = None
        self._ending = Ending.KEEP
        self._faulty = False
        self._lost_as = Outcome.CLIENT_DISCONNECTED
        self._path = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is no HTTP gets a 400 and the connection closes."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:  # ours, not the client's: the loop reports it
            self._transport.abort()
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._received is None and not self._transport.is_closing():
                self._transport.write(_BAD_REQUEST)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note who ended the request in progress."""
        self._connections.discard(self)
        self._waiting.clear()
        if self._player is not None:
            self._player.stop()
        if self._received is not None:
            self._log.end(self._received, self._lost_as)

    def pause_writing(self) -> None:
        """Back-pressure from the client."""
        if self._player is not None:
            self._player.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._player is not None:
            self._player.resume()

    def abort(self) -> None:
        """Drop the connection because the simulator stops."""
        self._lost_as = Outcome.STOPPED
        self._transport.abort()

    def on_message_begin(self) -> None:
        """httptools: a request starts."""
        self._path = b""
        self._headers = []
        self._body = []

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request target."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """httptools: the body may follow, once the client has been told to go on."""
        if any(name == "expect" and value.lower() == "100-continue" for name, value in self._headers):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: a request is complete; answer it, or queue it behind the one being answered."""
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            path=self._path.decode("latin-1"),
            headers=tuple(self._headers),
            body=b"".join(self._body),
            http_version=self._parser.get_http_version(),
            keep_alive=self._parser.should_keep_alive(),
        )
        self._waiting.append(request)
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        if self._received is not None or not self._waiting or self._transport.is_closing():
            return
        transmission, self._received = self._respond(self._waiting.popleft())
        self._ending = transmission.ending
        self._faulty = transmission.faulty
        self._player = Player(self._transport, transmission, self._received, self._transmitted)
        self._player.play()

    def _transmitted(self) -> None:
        received = self._received
        if self._ending is Ending.HANG or received is None:
            return
        self._player = self._received = None
        self._log.end(received, Outcome.FAULT if self._faulty else Outcome.COMPLETED)
        if self._ending is Ending.RESET:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._transport.abort()
        elif self._ending is Ending.CLOSE:
            self._transport.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_waiting)  # a direct call could nest without end
