"""Which handler answers which request, decided on the raw path; anything unlisted goes to the fallback.

Authorisation never depends on a normalised path: what isn't byte for byte a listed path isn't that route.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pointsman.contracts.operations import BASES, MOUNTS, Contract, is_path_of
from pointsman.errors import GatewayError, Kind
from pointsman.settings import ServerSettings

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange

ANY_METHOD = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"  # `OPTIONS *`: what some path here answers to

Handler = Callable[["Exchange"], Coroutine[Any, Any, None]]


class Routed(Protocol):
    """What a router looks at."""

    method: bytes
    path: bytes
    contract: Contract | None  # whose client it comes from, where its host or its path says so

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By lower-case name."""
        ...


class Router:
    """Exact paths first, then prefixes (longest first), then mounts, then the fallback.

    Below a mount stand the paths of one contract: ``/openrouter/api/v1/models`` is ``/api/v1/models`` for a client of
    OpenRouter's. A host can mean a contract too. Either way it is the same handler with the same rights.
    """

    def __init__(self, fallback: Handler, hosts: Mapping[bytes, Contract] | None = None) -> None:
        """``hosts``: what a Host header, with or without its port, says of the client; names in lower case."""
        self._hosts = hosts or {}
        self._exact: dict[bytes, dict[bytes, Handler]] = {}
        self._prefixes: list[tuple[bytes, dict[bytes, Handler]]] = []
        self._fallback = fallback
        # How large a body may be where that is more than elsewhere: by path, told the headers and the query.
        self.body_limits: dict[bytes, Callable[[dict[bytes, bytes], bytes], int | None]] = {}
        self.seekers: set[Handler] = set()  # who have keys looked up themselves; for others it is done before they run
        self.websockets: dict[bytes, Handler] = {}  # what answers a GET that asks to change to a WebSocket, by path

    def add(self, method: str, path: str, handler: Handler, *, seeks: bool = False) -> None:
        """Serve ``method`` on ``path``; a path that ends in ``/*`` takes everything below it. See `seekers`."""
        verb = method.encode()
        if seeks:
            self.seekers.add(handler)
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
        """The handler for a request; never None. Notes the contract that its host or its mount says."""
        if self._hosts:
            host = request.headers.get(b"host", b"").lower()
            request.contract = self._hosts.get(host) or self._hosts.get(host.rpartition(b":")[0])
        table = self._exact.get(request.path)
        if table is None:
            table = self._below(request.path)
            if table is None:
                if request.path == b"*":
                    return _options(ANY_METHOD)
                return self._mounted(request)
        return _of_method(table, request.method)

    def native_path(self, path: bytes) -> bytes:
        """A path without its mount, if it has one."""
        name, slash, rest = path[1:].partition(b"/")
        return slash + rest if name in MOUNTS else path

    def _below(self, path: bytes) -> dict[bytes, Handler] | None:
        for prefix, table in self._prefixes:
            if path.startswith(prefix) and len(path) > len(prefix):
                return table
        return None

    def _mounted(self, request: Routed) -> Handler:
        """For a path that is no route: one below a mount, or the fallback's.

        Below a mount an inference path needs no more than the contract's base; what manages anything must be the
        contract's own.
        """
        contract = MOUNTS.get(request.path[1:].partition(b"/")[0])
        if contract is None or request.contract is not None:
            return self._fallback
        request.contract, request.path = contract, self.native_path(request.path)
        table = self._exact.get(request.path) or self._below(request.path)
        if table is not None and request.path.startswith(BASES[contract]):
            return _of_method(table, request.method)
        return self._fallback if table is None and is_path_of(contract, request.path) else _unknown


def contract_hosts(settings: ServerSettings) -> Mapping[bytes, Contract]:
    """``server.hosts`` as `Router` wants them."""
    return {host.lower().encode("ascii", "replace"): contract for host, contract in settings.hosts.items()}


def _of_method(table: dict[bytes, Handler], method: bytes) -> Handler:
    handler = table.get(method)
    if handler is None and method == b"HEAD":
        handler = table.get(b"GET")
    if handler is None and method == b"OPTIONS":
        return _options(_allowed(table))
    return handler or _not_allowed(table)


async def _unknown(exchange: "Exchange") -> None:
    raise GatewayError(Kind.NOT_FOUND, "there is no such path here")


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
