"""The HTTP/1.1 edge: one object per client connection (connection.py), one `Exchange` per request.

Data-plane routes run as one coroutine per request, without ASGI; every other request goes to the fallback handler (the
management mount).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pointsman.clock import Clock
from pointsman.identity.guessing import Guessing
from pointsman.identity.late_keys import LateKeys
from pointsman.policy.authentication import presented_by
from pointsman.policy.ip_filter import IpFilter
from pointsman.server.arrivals import caller_shown, known_first
from pointsman.server.body_memory import BodyMemory
from pointsman.server.connection import EdgeConnection
from pointsman.server.cors import Cors
from pointsman.server.heads import KnownHeads
from pointsman.server.http_faults import must_wait, narrow_first, refuse_address
from pointsman.server.peers import TrustedProxies
from pointsman.server.routes import Handler, Router
from pointsman.server.targets import check_host
from pointsman.settings import ServerSettings
from pointsman.ticker import Ticker
from pointsman.wire.json_width import LARGE_BYTES

if TYPE_CHECKING:
    from pointsman.server.exchange import ErrorDialect, Exchange
    from pointsman.server.handshakes import Handshake

NEWCOMER_SECONDS: Final = 2.0  # longer than honest clients need for a handshake or a head
MAX_KNOWN_HOSTS: Final = 1024
UPLOADERS: Final = "uploads"  # all who go on with an upload, by the token they were given, not by a key

ErrorDialects = Callable[["Exchange"], "ErrorDialect"]  # for an exchange that has none of its own


class Edge:
    """What all client connections of one process share."""

    def __init__(
        self,
        settings: ServerSettings,
        ticker: Ticker,
        clock: Clock,
        router: Router,
        error_dialect: ErrorDialects,
    ) -> None:
        self.settings = settings
        self.ticker = ticker
        self.clock = clock
        self.router = router
        self.error_dialect = error_dialect
        self.cors = Cors(settings.cors_origins) if settings.cors_origins else None
        self.proxies = TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self.late_keys: LateKeys | None = None
        self.ip_filter: IpFilter | None = None  # of the configuration that is in effect
        self.guessing = Guessing(clock, 0, 60.0)  # nobody has to wait until the settings say so
        self.known_hosts: set[bytes] = set()  # Host values that were found sound
        self.heads = KnownHeads()
        self.body_memory = BodyMemory(settings.max_body_memory_bytes)
        self.connections: set[EdgeConnection] = set()
        self.handshakes: set[Handshake] = set()  # that are no connections yet
        # Those that have sent no whole request, the oldest first, and since when they have not.
        self.newcomers: dict[EdgeConnection | Handshake, float] = {}
        self.active = 0
        self.draining = False
        self._last_request_seconds = 0.0

    def protocol(self) -> EdgeConnection:
        """A new connection's protocol, for `loop.create_server`."""
        return EdgeConnection(self)

    def admit(self, newcomer: "EdgeConnection | Handshake") -> bool:
        """Whether a new one of the connections, or of the handshakes, may stay.

        When there are too many, the one that has waited longest without a whole request is cut instead, if any has for
        a while, and is not a known caller's.
        """
        if len(self.connections) + len(self.handshakes) > self.settings.max_connections and not self._make_room():
            return False
        self.newcomers[newcomer] = self.ticker.now
        return True

    def _make_room(self) -> bool:
        before = self.ticker.now - NEWCOMER_SECONDS
        while self.newcomers:
            longest, since = next(iter(self.newcomers.items()))
            if since > before:
                return False
            del self.newcomers[longest]
            if not longest.is_known():
                longest.abort()
                return True
        return False

    def check_host(self, host: bytes | None) -> None:
        """Refuse a request that has no sound Host; a value that was found sound is remembered."""
        check_host(host)
        if host is not None and len(self.known_hosts) < MAX_KNOWN_HOSTS:
            self.known_hosts.add(host)

    def caller_of(self, target: bytes, headers: dict[bytes, bytes]) -> str | None:
        """Whose request this is, as far as is known: a credential's id, or `UPLOADERS` where it goes on with an upload.

        Raises GatewayError(OVERLOADED) when too many new keys are looked up at once.
        """
        path, _, query = target.partition(b"?")
        caller = caller_shown(self.late_keys, headers, query, self.clock.now_us())
        if caller is None and presented_by(headers) is None:
            more = self.router.body_limits.get(self.router.native_path(path))
            if more is not None and more(headers, query) is not None:
                return UPLOADERS
        return caller

    def handler_for(self, exchange: "Exchange") -> Handler:
        """What answers a request, or refuses it; notes the contract that its host or its mount says."""
        cors = self.cors
        if cors is not None and exchange.method == b"OPTIONS" and cors.is_preflight(exchange.headers):
            handler: Handler = cors.answer_preflight
        else:
            handler = self.router.find(exchange)
            if exchange.websocket is not None:
                handler = self.router.websockets.get(exchange.path, handler)
        if handler not in self.router.seekers:
            handler = known_first(self.late_keys, exchange, handler)
        if len(exchange.body) >= LARGE_BYTES and exchange.path not in self.router.body_limits:
            handler = narrow_first(handler)
        if self.ip_filter is not None and self.ip_filter.is_blocked(exchange.peer, self.clock.now_us()):
            handler = refuse_address
        if self.guessing.locked:
            wait = self.guessing.wait_seconds(exchange.peer)
            handler = must_wait(wait) if wait else handler
        return handler

    def drain(self, last_request_seconds: float) -> None:
        """Every answer from now on ends its connection. Idle ones end in ``last_request_seconds``.

        Not at once: a request may be on its way, sent in the belief that the connection stays open.
        """
        self.draining = True
        self._last_request_seconds = last_request_seconds
        for connection in list(self.connections):
            connection.drain(last_request_seconds)

    def first_request_seconds(self) -> float:
        """How long a new connection may take for the head of its first request."""
        return self._last_request_seconds if self.draining else self.settings.header_timeout_seconds

    def idle_seconds(self) -> float:
        """How long a connection may wait for its next request."""
        return self._last_request_seconds if self.draining else self.settings.keepalive_timeout_seconds

    def abort(self) -> None:
        """Cut whatever is still open."""
        for handshake in list(self.handshakes):
            handshake.abort()
        for connection in list(self.connections):
            connection.abort()
