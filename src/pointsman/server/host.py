"""The process's listening side: binds the port, handles signals, drains.

Our own few lines rather than uvicorn: see docs/decisions/0002-data-plane.md.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

import structlog

from pointsman.errors import ConfigError
from pointsman.server.edge import Edge
from pointsman.server.tls import ServerCertificate

BACKLOG: Final = 4096
POLL_SECONDS: Final = 0.02
TLS_SHUTDOWN_SECONDS: Final = 2.0
log = structlog.get_logger("pointsman.host")


class Host:
    """Listens for an edge until it is told to stop, then lets requests in flight finish."""

    def __init__(
        self, edge: Edge, host: str, port: int, grace_seconds: float, certificate: ServerCertificate | None = None
    ) -> None:
        self._edge = edge
        self._certificate = certificate
        self._host = host
        self._port = port
        self._grace_seconds = grace_seconds
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Bind; gives the port (useful with port 0). Raises ConfigError when the address can't be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._edge.protocol, self._host, self._port, backlog=BACKLOG, **self._tls_options()
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"can't listen on {self._host}:{self._port}: {reason}") from error
        bound: socket.socket = self._server.sockets[0]
        return int(bound.getsockname()[1])

    def _tls_options(self) -> dict[str, Any]:
        if self._certificate is None:
            return {}
        return {
            "ssl": self._certificate.context,
            "ssl_handshake_timeout": self._edge.settings.header_timeout_seconds,
            "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
        }

    def stop(self) -> None:
        """Begin to drain; a second call stops waiting for requests in flight."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def serve(self, on_drain: Callable[[], None] | None = None) -> None:
        """Serve until SIGTERM, SIGINT or `stop`; a second signal cuts what is still open. SIGHUP reloads TLS."""
        loop = asyncio.get_running_loop()
        signals = [signal.SIGTERM, signal.SIGINT]
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        if self._certificate is not None:
            signals.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self._certificate.reload)
        try:
            await self._stop.wait()
            if on_drain is not None:
                on_drain()
            await self._drain()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def _drain(self) -> None:
        edge = self._edge
        if self._server is not None:
            self._server.close()
        log.info("draining", requests_in_flight=edge.active)
        edge.drain()
        waited = 0.0
        while edge.active and waited < self._grace_seconds and not self._hurry.is_set():
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
        if edge.active:
            log.warning("requests cut off at shutdown", requests=edge.active)
        for _ in range(25):  # what was answered last still has to leave the buffers
            if not edge.connections:
                break
            await asyncio.sleep(POLL_SECONDS)
        edge.abort()
        await asyncio.sleep(0)  # cancelled requests settle
        await asyncio.sleep(0)
