"""``POST /api/translator/send``: a body in a connection's own API, sent there as it is, and its answer as it comes."""

from typing import Any

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.errors import GatewayError, Kind
from pointsman.flow import serve
from pointsman.gateway import Gateway
from pointsman.hub.translator import FORMATS
from pointsman.policy.authentication import authenticate
from pointsman.server.exchange import Exchange, error_headers, own_status
from pointsman.server.inference import Speaking, dialect_named
from pointsman.wire.json_faults import describe

_encode = msgspec.json.Encoder().encode


class SendRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent, and by which connection."""

    provider: str
    body: msgspec.Raw


class _Sending(Speaking):
    """The connection's own dialect, with OmniRoute's shape of errors."""

    def __init__(self, dialect: Any, call: ClientCall, provider: str) -> None:
        super().__init__(dialect, call, provider)
        self.render_error = render_failure
        self.status_of = own_status


def render_failure(error: GatewayError, request_id: str) -> bytes:
    """``{success, error, details}``; the details are the upstream's own answer where it may be shown."""
    details = msgspec.Raw(error.upstream_body) if error.upstream_body is not None else None
    return _encode({"success": False, "error": error.message, "details": details, "requestId": request_id})


class TranslatorSend:
    """The handler."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def send(self, exchange: Exchange) -> None:
        """Unpack the body and serve it as a call of the connection's own API: counted and recorded like any other."""
        try:
            authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
            speaking = self._unpack(exchange)
        except GatewayError as error:
            exchange.respond(error.status, render_failure(error, exchange.request_id), extra=error_headers(error))
            return
        await serve(self._gateway, speaking, exchange)

    def _unpack(self, exchange: Exchange) -> _Sending:
        try:
            asked = msgspec.json.decode(exchange.body, type=SendRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise describe(error, exchange.body) from None
        endpoint = self._gateway.snapshot.endpoints.get(asked.provider)
        module = next(
            (one.dialect for one in FORMATS.values() if endpoint is not None and one.wire == endpoint.wire), None
        )
        if endpoint is None or module is None:
            message = f"there is no active connection '{asked.provider[:100]}' that takes a body of its own API"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="provider")
        exchange.body = bytes(asked.body)
        model = _model_of(exchange.body)
        return _Sending(dialect_named(module), ClientCall(model=model, headers=exchange.headers), asked.provider)


def _model_of(body: bytes) -> str | None:
    """The model that a body names, for APIs that have it in the path."""
    try:
        named = msgspec.json.decode(body)
        model = named.get("model") if isinstance(named, dict) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return model if isinstance(model, str) else None
