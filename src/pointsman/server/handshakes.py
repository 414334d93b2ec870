"""TLS handshakes with clients: a connection is the edge's when its handshake is done.

Not `create_server(ssl=...)`: it hides the transport below, in which all that a client has not taken yet waits.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from pointsman.errors import let_go
from pointsman.runner import Runner

if TYPE_CHECKING:
    from pointsman.server.edge import Edge

# Connections have deadlines of their own for their end, which know whether the client still reads; this one does not.
NO_LIMIT_SECONDS: Final = 86_400.0


class Handshake(asyncio.Protocol):
    """One connection until it is encrypted."""

    def __init__(self, edge: "Edge", context: ssl.SSLContext) -> None:
        self._edge = edge
        self._context = context
        self._carrier: asyncio.Transport
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shakes hands at once: bytes that are read now must find somebody who understands them.

        One that is too many is cut: without keys nothing can be said.
        """
        self._carrier = cast(asyncio.Transport, transport)
        self._edge.handshakes.add(self)
        if not self._edge.admit(self):
            self._edge.handshakes.discard(self)
            self._carrier.abort()
            return
        Runner(self._edge.ticker.loop, self._shake(self._carrier)).start()

    def data_received(self, data: bytes) -> None:
        """What was read together with the end of the handshake."""
        self._early += data

    def is_known(self) -> bool:
        """Whose it is nobody can know yet."""
        return False

    def abort(self) -> None:
        """Cut the connection."""
        self._carrier.abort()

    async def _shake(self, carrier: asyncio.Transport) -> None:
        try:
            transport = await self._edge.ticker.loop.start_tls(
                carrier,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._edge.settings.header_timeout_seconds,
                ssl_shutdown_timeout=NO_LIMIT_SECONDS,
            )
        except OSError as error:
            let_go(error)
            return  # refused, too slow, or gone: it is closed already
        finally:
            self._edge.handshakes.discard(self)
            self._edge.newcomers.pop(self, None)
        if transport is None or transport.is_closing():
            return
        connection = self._edge.protocol()
        connection.carrier = carrier
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._early:
            connection.data_received(self._early)
