"""Requests to change the protocol: to a WebSocket where there is one; what else is wished for is ignored or refused."""

from typing import TYPE_CHECKING, Final

from pointsman.policy import shared_calls
from pointsman.server.exchange import Exchange
from pointsman.server.http_faults import no_upgrade
from pointsman.server.routes import Router

if TYPE_CHECKING:
    from pointsman.server.connection import EdgeConnection
    from pointsman.server.websockets import WebSocket

# What makes a wish; an option of Connection without its field means nothing (RFC 9110 7.6.1).
_WISHES: Final = frozenset((b"upgrade", b"http2-settings"))


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


def decline(method: bytes, target: bytes, headers: dict[bytes, bytes], *, http11: bool) -> bytes:
    """The head of a request without its wish to change the protocol, which a server may ignore (RFC 9110 7.8).

    Java's HTTP client wishes for HTTP/2 (``h2c``) with each first request. All else that the head says is kept, so that
    whoever reads it again judges it as any other. Raises GatewayError (426) for CONNECT, and for a WebSocket where
    there is none: its client would not know what to do with an answer to the request that is left.
    """
    if method == b"CONNECT" or (http11 and b"websocket" in headers.get(b"upgrade", b"").lower()):
        raise no_upgrade()
    lines = [b"%b: %b\r\n" % field for field in headers.items() if field[0] not in _WISHES]
    version = b"1.1" if http11 else b"1.0"
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, b"".join(lines))
