"""``/v1/ws`` and ``/api/v1/ws``: OmniRoute's chat over a WebSocket, and what a GET without an upgrade is told."""

from typing import Any, Final, cast

import msgspec

from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.policy.authentication import authenticate, is_credential_sent
from pointsman.server.arrivals import stay_known
from pointsman.server.exchange import DONE, Exchange, refuse
from pointsman.server.inference import BASES, query_of
from pointsman.server.inner_exchange import QuietExchange
from pointsman.server.routes import Router

QUERY_KEYS: Final = ("api_key", "token", "access_token")  # for clients that can't set headers, such as browsers
_encode: Final = msgspec.json.Encoder().encode


class ChatSocketRoutes:
    """The handlers. Nobody gets a socket without a key."""

    def __init__(self, gateway: Gateway, router: Router) -> None:
        """``router`` has the handlers of the requests that come as frames."""
        self._gateway = gateway
        self._router = router

    def add_to(self, router: Router) -> None:
        """Serve the paths."""
        for base in BASES:
            router.add("GET", f"{base}/ws", self.describe)
            router.websockets[f"{base}/ws".encode()] = self.open

    async def describe(self, exchange: Exchange) -> None:
        """With ``?handshake=1`` how to use the socket; else 426."""
        if query_of(exchange).get("handshake") != "1":
            upgrade = b"upgrade: websocket\r\n"
            _deny(exchange, 426, "upgrade_required", "this is for WebSockets: send Upgrade: websocket", upgrade)
        elif self._is_known(exchange):
            exchange.respond(200, _encode(descriptor(exchange)))

    async def open(self, exchange: Exchange) -> None:
        """A request to change to a WebSocket."""
        from pointsman.server.chat_socket import ChatSocket  # wsproto: imported by the first of them

        socket = exchange.websocket
        if socket is None or not self._is_known(exchange):
            return
        socket.accept()
        described = {name: value for name, value in descriptor(exchange).items() if name not in ("ok", "protocol")}
        await ChatSocket(socket, exchange, self._serve, self._new_exchange).run(described)
        exchange.state = DONE

    async def _serve(self, quiet: QuietExchange) -> None:
        exchange = cast(Exchange, quiet)
        try:
            await stay_known(self._gateway.late_keys, exchange, quiet.started_at)
            await self._router.find(quiet)(exchange)
        except GatewayError as error:
            if quiet.responded:
                quiet.cut()
            else:
                refuse(exchange, openai_chat, error)

    def _new_exchange(self, like: Exchange, body: bytes, path: bytes) -> QuietExchange:
        clock = self._gateway.clock
        quiet = QuietExchange(like, body, clock.new_id("req"), path)
        quiet.started, quiet.started_at = clock.monotonic(), clock.now_us()
        return quiet

    def _is_known(self, exchange: Exchange) -> bool:
        """True for a caller with a key; others are answered here. A key in the query counts like a header's."""
        headers = exchange.headers
        if not is_credential_sent(headers):
            query = query_of(exchange)
            key = next((query[name] for name in QUERY_KEYS if query.get(name)), None)
            if key is None or not key.isascii():
                _deny(exchange, 401, "ws_auth_required", "send the key as 'Authorization: Bearer <key>' or ?api_key=")
                return False
            headers[b"authorization"] = b"Bearer " + key.strip().encode()
        try:
            authenticate(headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
        except GatewayError as error:
            if error.kind is Kind.UNAUTHENTICATED:
                exchange.note_guess()
            _deny(exchange, 403, "ws_auth_invalid", error.message)
            return False
        return True


def descriptor(exchange: Exchange) -> dict[str, Any]:
    """How to use the socket, as OmniRoute tells it."""
    return {
        "ok": True,
        "path": exchange.path.decode("ascii"),
        "wsAuth": True,
        "authenticated": True,
        "authType": "api_key",
        "protocol": {
            "request": {"type": "request", "id": "string", "payload": {"model": "string", "messages": []}},
            "cancel": {"type": "cancel", "id": "string"},
        },
    }


def _deny(exchange: Exchange, status: int, code: str, message: str, extra: bytes = b"") -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    exchange.respond(status, _encode({"error": error}), extra=extra)
