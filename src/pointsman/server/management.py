"""The mount of the management plane: runs an ASGI application for every request that is no data-plane route."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog

from pointsman.errors import GatewayError, Kind
from pointsman.runner import in_task
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import Exchange

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Plane = tuple[AsgiApp, Callable[[bytes], bool]]  # the application, and whether it serves a path
# Written by the edge itself, or meaningless behind it.
OWN_HEADERS = frozenset(
    (b"content-length", b"transfer-encoding", b"connection", b"date", b"content-type", b"x-request-id")
)
log = structlog.get_logger("pointsman.management")


class ManagementMount:
    """Hands requests to an ASGI application that is imported when the first of them comes.

    The import takes some 0.3 s in a thread of its own, and 15 MB that a gateway which only serves inference never pays.
    """

    def __init__(self, load: Callable[[], Plane]) -> None:
        self._load = load
        self._plane: Plane | None = None
        self._loading: asyncio.Task[None] | None = None

    async def __call__(self, exchange: Exchange) -> None:
        """Serve one request; a handler of the edge. The raw path decides: no other spelling is the same route."""
        await in_task()
        if self._plane is None:
            if self._loading is None:
                self._loading = asyncio.get_running_loop().create_task(self._import())
            await asyncio.shield(self._loading)
        if self._plane is None:
            raise GatewayError(Kind.INTERNAL, "the management plane could not be loaded; see the log")
        app, serves = self._plane
        if not serves(exchange.path):
            raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
        await _Call(exchange).run(app)

    async def _import(self) -> None:
        try:
            self._plane = await asyncio.to_thread(self._load)
        except Exception:
            log.exception("management plane failed to load")
        finally:
            self._loading = None


def served_paths(routes: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether a raw path is one of ``routes``, in which ``{name:str}`` stands for one segment of any text."""
    exact: set[bytes] = set()
    patterns: list[str] = []
    for route in routes:
        if "{" in route:
            patterns.append("/".join("[^/]+" if "{" in part else re.escape(part) for part in route.split("/")))
        else:
            exact.add(route.encode())
    one_of = re.compile("|".join(patterns).encode()) if patterns else None
    return lambda path: path in exact or (one_of is not None and one_of.fullmatch(path) is not None)


class _Call:
    """One request in ASGI's terms (ASGI 3.0, HTTP 2.3)."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._state: dict[str, Any] = {}  # what the views of the request share
        self._received = False
        self._head: tuple[int, bytes, bytes] | None = None
        self._gone = asyncio.Event()

    async def run(self, app: AsgiApp) -> None:
        await app(self._scope(), self._receive, self._send)

    def _scope(self) -> Message:
        exchange = self._exchange
        self._state = {
            "request_id": exchange.request_id,
            "errors": error_dialect(exchange),
            "contract": exchange.contract,
        }
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": exchange.method.decode("ascii"),
            "scheme": exchange.scheme,
            "path": exchange.path.decode("latin-1"),
            "raw_path": exchange.path,
            "query_string": exchange.query,
            "root_path": "",
            "headers": list(exchange.headers.items()),
            "client": (exchange.peer, 0),
            "server": None,
            "state": self._state,
        }

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self._exchange.body, "more_body": False}
        await self._gone.wait()  # a client that leaves cancels the whole call
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        exchange = self._exchange
        if message["type"] == "http.response.start":
            headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            content_type = next(
                (value for name, value in headers if name == b"content-type"), b"application/octet-stream"
            )
            extra = b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name not in OWN_HEADERS)
            self._head = (message["status"], content_type, extra)
            if self._state.get("wrong_credential") and message["status"] != HTTPStatus.UNAUTHORIZED:
                exchange.note_guess()
        elif message["type"] == "http.response.body" and self._head is not None:
            status, content_type, extra = self._head
            body, more = message.get("body", b""), message.get("more_body", False)
            if not more and not exchange.responded:
                exchange.respond(status, body, content_type, extra)
                return
            if not exchange.responded:
                exchange.start(status, content_type, extra)
            exchange.write(body)
            if not more:
                exchange.finish()
