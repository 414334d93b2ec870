"""OmniRoute's chat over a WebSocket: several requests at once, each answered by frames that carry its id.

A request is served as if it had come by HTTP, and is recorded like any other. Source: what OmniRoute's server sends and
takes, as of 2026-11.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog

from pointsman.errors import GatewayError
from pointsman.runner import in_task
from pointsman.server.exchange import Exchange
from pointsman.server.inner_exchange import QuietExchange
from pointsman.server.websockets import SocketClosedError, WebSocket
from pointsman.wire.json_width import refuse_wide

MAX_RUNNING: Final = 32  # requests of one socket at a time
MAX_ID: Final = 200
DEFAULT_ENDPOINT: Final = "/v1/chat/completions"
ENDPOINTS: Final = re.compile(r"(?:/api)?/v1/(?:chat/completions|completions|messages|responses)")

Serve = Callable[[QuietExchange], Coroutine[Any, Any, None]]
NewExchange = Callable[[Exchange, bytes, bytes], QuietExchange]  # like that one, with a body, for a path
log = structlog.get_logger("pointsman.socket")
Fields = dict[str, msgspec.Raw]
_fields: Final = msgspec.json.Decoder(Fields)
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class ProtocolError(Exception):
    """A frame that can't be taken; the socket stays open. ``args`` are OmniRoute's code, the message, and the id."""


class ChatSocket:
    """One client's socket."""

    def __init__(self, socket: WebSocket, exchange: Exchange, serve: Serve, new_exchange: NewExchange) -> None:
        """``serve`` answers a request; it raises nothing but CancelledError and faults of our own."""
        self._socket = socket
        self._exchange = exchange
        self._serve = serve
        self._new_exchange = new_exchange
        self._running: dict[str, asyncio.Task[None]] = {}
        self._running_bytes = 0  # of their bodies
        self._sending = asyncio.Lock()
        self._over = False

    async def run(self, descriptor: dict[str, Any]) -> None:
        """Serve requests until the client closes; those that are running then are cancelled."""
        await in_task()
        try:
            await self._send("session.ready", None, sessionId=self._exchange.request_id, **descriptor)
            while (message := await self._socket.receive()) is not None:
                try:
                    await self._take(message)
                except ProtocolError as error:
                    code, message, identity = error.args
                    await self._send("protocol.error", None, code=code, id=identity, message=message)
        except SocketClosedError:
            pass
        finally:
            self._over = True
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, data: bytes) -> None:
        frame = _frame(data)
        kind, identity = _member(frame, "type"), _member(frame, "id")
        named = isinstance(identity, str) and 0 < len(identity) <= MAX_ID
        if kind == "ping":
            await self._send("pong", None, sessionId=self._exchange.request_id)
        elif kind == "cancel":
            if not named:
                raise ProtocolError("invalid_cancel", "to cancel, name the request with 'id', a text", None)
            task = self._running.get(str(identity))
            if task is None:
                raise ProtocolError("unknown_request", "no request with this id is running", identity)
            task.cancel()
        elif kind == "request":
            if not named:
                message = f"a request needs an 'id': a text of at most {MAX_ID} characters"
                raise ProtocolError("invalid_request_id", message, None)
            self._begin(str(identity), frame)
        else:
            raise ProtocolError("unsupported_type", "messages are of type request, cancel or ping", None)

    def _begin(self, identity: str, frame: Fields) -> None:
        endpoint, body = _member(frame, "endpoint") or DEFAULT_ENDPOINT, _body(frame.get("payload"))
        if identity in self._running:
            raise ProtocolError("duplicate_request", "a request with this id is running", identity)
        if body is None:
            raise ProtocolError("invalid_payload", "a request needs a 'payload', an object", identity)
        if not isinstance(endpoint, str) or ENDPOINTS.fullmatch(endpoint) is None:
            message = "'endpoint' must be one of chat/completions, completions, messages, responses below /v1"
            raise ProtocolError("invalid_endpoint", message, identity)
        if len(self._running) >= MAX_RUNNING:
            message = f"{MAX_RUNNING} requests are running on this socket; wait for one to end"
            raise ProtocolError("too_many_requests", message, identity)
        if self._running and self._running_bytes + len(body) > self._socket.limits.max_message_bytes:
            message = f"requests of one socket have {self._socket.limits.max_message_bytes} bytes at a time"
            raise ProtocolError("too_many_requests", f"{message}; wait for one to end", identity)
        quiet = self._new_exchange(self._exchange, body, endpoint.encode())
        self._running_bytes += len(body)
        self._socket.busy = True
        task = self._running[identity] = asyncio.ensure_future(self._answer(identity, quiet))
        task.add_done_callback(lambda _: self._ended(identity, len(body)))

    async def _answer(self, identity: str, quiet: QuietExchange) -> None:
        try:
            await self._pass_on(identity, quiet)
        except SocketClosedError:
            pass
        except asyncio.CancelledError:
            if self._over:
                raise
            await self._close_request("response.cancelled", identity, "client_cancelled", "the request was cancelled")
        except Exception:
            log.exception("request failed", request_id=quiet.request_id)
            await self._close_request("response.error", identity, "request_failed", "the request failed")

    def _ended(self, identity: str, size: int) -> None:
        self._running.pop(identity, None)
        self._running_bytes -= size
        self._socket.busy = bool(self._running)

    async def _pass_on(self, identity: str, quiet: QuietExchange) -> None:
        begun = False
        async with aclosing(quiet.parts(self._serve(quiet), whole=True)) as parts:
            async for data in parts:
                if not begun:
                    begun = True
                    await self._start(identity, quiet, 200, quiet.content_type)
                await self._send("response.chunk", identity, chunk=data.decode("utf-8", "replace"))
        if quiet.broken:
            await self._send("response.error", identity, code="request_failed", message="the answer broke off")
            return
        status = 200
        if quiet.refusal is not None:
            status, body = quiet.refusal
            await self._start(identity, quiet, status, quiet.content_type)
            kind = "response.output" if status < HTTPStatus.BAD_REQUEST else "response.error"
            await self._send(kind, identity, **_told(status), body=_value(body))
        await self._send("response.completed", identity, **_told(status))

    async def _start(self, identity: str, quiet: QuietExchange, status: int, content_type: bytes) -> None:
        await self._send(
            "response.start",
            identity,
            **_told(status),
            contentType=content_type.decode("latin-1"),
            endpoint=quiet.path.decode("ascii"),
            requestId=quiet.request_id,
        )

    async def _close_request(self, kind: str, identity: str, code: str, message: str) -> None:
        try:
            await self._send(kind, identity, code=code, message=message)
        except SocketClosedError:
            return

    async def _send(self, kind: str, identity: str | None, **members: Any) -> None:
        """One frame. Requests take turns: of a slow client's socket only one may wait."""
        named = {} if identity is None else {"id": identity}
        async with self._sending:
            await self._socket.send(_encode({"type": kind, **named, **members}).decode())


def _told(status: int) -> dict[str, Any]:
    return {"status": status, "ok": status < HTTPStatus.BAD_REQUEST}


def _frame(message: bytes) -> Fields:
    try:
        refuse_wide(message)
        return _fields.decode(message)
    except GatewayError as error:
        raise ProtocolError("message_too_large", error.message, None) from None
    except msgspec.ValidationError:
        raise ProtocolError("invalid_envelope", "a message must be a JSON object", None) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise ProtocolError("invalid_json", "a message must be valid JSON", None) from None


def _member(frame: Fields, name: str) -> Any:
    return _value(bytes(frame[name])) if name in frame else None


def _body(payload: msgspec.Raw | None) -> bytes | None:
    """A request's body: its members as they came, and ``stream`` unless it says otherwise; None: no object."""
    try:
        members = _fields.decode(payload) if payload is not None else None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    if payload is None or members is None:
        return None
    if bytes(members.get("stream", b"null")) != b"null":
        return bytes(payload)
    return _encode({**members, "stream": True})


def _value(body: bytes) -> Any:
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return body.decode("utf-8", "replace")
