"""Requests to change to a WebSocket: which of them may, and what becomes of their connection."""

from typing import TYPE_CHECKING

from pointsman.policy import shared_calls
from pointsman.server.exchange import Exchange
from pointsman.server.routes import Router

if TYPE_CHECKING:
    from pointsman.server.connection import EdgeConnection
    from pointsman.server.websockets import WebSocket


def may_switch(router: Router, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> bool:
    """True for a request without a body to change to a WebSocket, where there is one."""
    known = router.native_path(target.partition(b"?")[0]) in router.websockets
    bare = b"content-length" not in headers and b"transfer-encoding" not in headers
    return known and method == b"GET" and bare and headers.get(b"upgrade", b"").lower() == b"websocket"


def switch(connection: "EdgeConnection", exchange: Exchange) -> "WebSocket":
    """What takes all bytes of the connection from now on."""
    from pointsman.server.websockets import WebSocket, WebSocketLimits  # wsproto: imported by the first of them

    exchange.keep = False
    limits = WebSocketLimits(max_message_bytes=connection.edge.settings.max_body_bytes)
    for name in shared_calls.HEADERS:  # they are about one call, and a socket has many
        exchange.headers.pop(name, None)
    exchange.websocket = WebSocket(connection, exchange, limits)
    return exchange.websocket
