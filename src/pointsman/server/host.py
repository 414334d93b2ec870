"""The process's listening side: takes connections, handles signals, drains.

Our own few lines rather than uvicorn: see docs/decisions/0002-data-plane.md. How several workers share a port:
docs/decisions/0007-workers.md.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence, Sized
from typing import Final

import structlog

from pointsman.errors import ConfigError
from pointsman.server.edge import Edge
from pointsman.server.handshakes import Handshake
from pointsman.server.listeners import BACKLOG, open_door, queue_length, shut_door
from pointsman.server.tls import ServerCertificate

POLL_SECONDS: Final = 0.02
DOOR_SECONDS: Final = 0.1  # handshakes under way at the end of listening get this long
LAST_REQUEST_SECONDS: Final = 1.0  # connections without a request get this long for a last one that is on its way
log = structlog.get_logger("pointsman.host")


class Host:
    """Listens for an edge until it is told to stop, then lets requests in flight finish."""

    def __init__(
        self,
        edge: Edge,
        host: str,
        port: int,
        grace_seconds: float,
        certificate: ServerCertificate | None = None,
        lone: Sized = (),
    ) -> None:
        """``lone`` are calls that go on without a connection: they get the grace, and are cut by whoever has them."""
        self._edge = edge
        self._lone = lone
        self._certificate = certificate
        self._host = host
        self._port = port
        self.grace_seconds = grace_seconds
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._handed_over = False
        self._let_go: Callable[[], None] | None = None

    async def listen(self) -> int:
        """Bind; gives the port (useful with port 0). Raises ConfigError when the address can't be had."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(self._protocol, self._host, self._port, backlog=BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"can't listen on {self._host}:{self._port}: {reason}") from error
        self._servers.append(server)
        bound: socket.socket = server.sockets[0]
        return int(bound.getsockname()[1])

    def _protocol(self) -> asyncio.Protocol:
        """Of a new connection."""
        if self._certificate is None:
            return self._edge.protocol()
        return Handshake(self._edge, self._certificate.context)

    async def take_from(self, listeners: Sequence[socket.socket]) -> list[asyncio.Server]:
        """Take connections from sockets that others may hold too; closing what is given ends only our part."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            open_door(listener.fileno())
        servers = [
            await loop.create_server(self._protocol, sock=listener.dup(), backlog=BACKLOG) for listener in listeners
        ]
        self._servers += servers
        return servers

    def stop(self, *, handed_over: bool = False, let_go: Callable[[], None] | None = None) -> None:
        """Begin to drain. ``handed_over``: another process goes on to take connections from the same sockets.

        ``let_go`` is called when no more connections are taken: the sockets of `take_from` are needed no longer.
        """
        self._handed_over = handed_over
        self._let_go = let_go
        self._stop.set()

    def cut(self) -> None:
        """Wait no longer for requests in flight."""
        self._hurry.set()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self.cut()
        self.stop()

    async def serve(self) -> None:
        """Serve until SIGTERM or SIGINT; a second signal cuts what is still open. SIGHUP reloads TLS."""
        loop = asyncio.get_running_loop()
        signals = [signal.SIGTERM, signal.SIGINT]
        for number in signals:
            loop.add_signal_handler(number, self._on_signal)
        if self._certificate is not None:
            signals.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self._certificate.reload)
        try:
            await self.serve_until_stopped()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def serve_until_stopped(self) -> None:
        """Serve until `stop`, whoever calls it."""
        await self._stop.wait()
        await self._drain()

    async def _drain(self) -> None:
        edge, now = self._edge, asyncio.get_running_loop().time
        end = now() + self.grace_seconds
        log.info("draining", requests_in_flight=edge.active, lone_calls=len(self._lone))
        edge.drain(min(LAST_REQUEST_SECONDS, self.grace_seconds))
        await self._stop_listening(end)
        shaken = now() + LAST_REQUEST_SECONDS  # then handshakes are connections, with a time each
        while now() < end and not self._hurry.is_set():
            if not (edge.connections or self._lone or (edge.handshakes and now() < shaken)):
                break
            await asyncio.sleep(POLL_SECONDS)
        if edge.active or self._lone:
            log.warning("requests cut off at shutdown", requests=edge.active, lone_calls=len(self._lone))
        edge.drain(0.0)
        for _ in range(25):  # what was answered last still has to leave the buffers
            if not edge.connections:
                break
            await asyncio.sleep(POLL_SECONDS)
        edge.abort()
        await asyncio.sleep(0)  # cancelled requests settle
        await asyncio.sleep(0)

    async def _stop_listening(self, end: float) -> None:
        """Take in whoever has connected already, and close; at ``end``, on the loop's clock, whoever still waits.

        What is handed over needs no care: its queue stays.
        """
        servers = [server for server in self._servers if server.is_serving()]
        if not self._handed_over:
            doors = [listener.fileno() for server in servers for listener in server.sockets]
            for door in doors:
                shut_door(door)
            await asyncio.sleep(min(DOOR_SECONDS, self.grace_seconds))
            loop = asyncio.get_running_loop()
            while any(queue_length(door) for door in doors):  # a busy machine may have kept us from accepting
                if loop.time() >= end:
                    break
                await asyncio.sleep(POLL_SECONDS)
        for server in servers:
            server.close()
        if self._let_go is not None:
            self._let_go()
        # Whoever was accepted in this very turn of the loop is no connection of the edge's before the next one.
        await asyncio.sleep(POLL_SECONDS)
