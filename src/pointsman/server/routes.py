"""Which handler answers which request, decided on the raw path; anything unlisted goes to the fallback.

Authorisation never depends on a normalised path: what isn't byte for byte a listed path isn't that route.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from pointsman.errors import GatewayError, Kind

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange

ANY_METHOD = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"  # `OPTIONS *`: what some path here answers to

Handler = Callable[["Exchange"], Coroutine[Any, Any, None]]


class Routed(Protocol):
    """What a router looks at."""

    method: bytes
    path: bytes


class Router:
    """Exact paths first, then prefixes (longest first), then the fallback."""

    def __init__(self, fallback: Handler) -> None:
        self._exact: dict[bytes, dict[bytes, Handler]] = {}
        self._prefixes: list[tuple[bytes, dict[bytes, Handler]]] = []
        self._fallback = fallback
        # How large a body may be where that is more than elsewhere: by path, told the headers and the query.
        self.body_limits: dict[bytes, Callable[[dict[bytes, bytes], bytes], int | None]] = {}
        self.websockets: dict[bytes, Handler] = {}  # what answers a GET that asks to change to a WebSocket, by path

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve ``method`` on ``path``; a path that ends in ``/*`` takes everything below it."""
        verb = method.encode()
        if path.endswith("/*"):
            prefix = path[:-1].encode()
            table = next((table for known, table in self._prefixes if known == prefix), None)
            if table is None:
                table = {}
                self._prefixes.append((prefix, table))
                self._prefixes.sort(key=lambda row: -len(row[0]))
            table[verb] = handler
        else:
            self._exact.setdefault(path.encode(), {})[verb] = handler

    def find(self, request: Routed) -> Handler:
        """The handler for a request; never None."""
        table = self._exact.get(request.path)
        if table is None:
            for prefix, candidate in self._prefixes:
                if request.path.startswith(prefix) and len(request.path) > len(prefix):
                    table = candidate
                    break
            else:
                return _options(ANY_METHOD) if request.path == b"*" else self._fallback
        handler = table.get(request.method)
        if handler is None and request.method == b"HEAD":
            handler = table.get(b"GET")
        if handler is None and request.method == b"OPTIONS":
            return _options(_allowed(table))
        return handler or _not_allowed(table)


def _allowed(table: dict[bytes, Handler]) -> str:
    verbs = {verb.decode() for verb in table} | {"OPTIONS"}
    if b"GET" in table:
        verbs.add("HEAD")
    return ", ".join(sorted(verbs))


def _options(allowed: str) -> Handler:
    async def tell(exchange: "Exchange") -> None:
        exchange.respond(200, b"", b"text/plain", b"allow: %b\r\n" % allowed.encode())

    return tell


def _not_allowed(table: dict[bytes, Handler]) -> Handler:
    served = ", ".join(sorted(verb.decode() for verb in table))
    allowed = _allowed(table)

    async def refuse(exchange: "Exchange") -> None:
        raise GatewayError(Kind.METHOD_NOT_ALLOWED, f"this path answers to {served} only", allow=allowed)

    return refuse
