"""New connections to upstreams: the only module that opens outgoing sockets.

resolve -> judge every address -> connect, two families in a race (RFC 8305) -> talk to a proxy -> TLS. Each step has a
limit of its own below the call's deadline, and a cancelled one leaves no socket behind.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Coroutine, Sequence
from itertools import zip_longest
from typing import Any, Final, TypeVar

import structlog

from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.open_files import is_shortage, shortage
from pointsman.settings import UpstreamSettings
from pointsman.ticker import Ticker
from pointsman.upstream.egress import check_address, check_remote_name
from pointsman.upstream.http1 import UpstreamConnection
from pointsman.upstream.origins import Origin, Proxy, ascii_host
from pointsman.upstream.pool import Pool
from pointsman.upstream.proxies import open_handshake
from pointsman.upstream.resolver import Address, Resolver
from pointsman.upstream.tls import Contexts

STAGGER_SECONDS: Final = 0.25  # RFC 8305 5: before the next address is tried beside the ones under way
# A peer that vanished without a word is noticed after 2 minutes, also while a call waits for a slow model.
KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
MAX_PROXY_READ: Final = 16 * 1024
SILENT_SECONDS: Final = 60.0  # between two lines of the log about the limit of open files

T = TypeVar("T")
log = structlog.get_logger("pointsman.dialing")


class Dialer:
    """Opens connections for pools."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: UpstreamSettings, ticker: Ticker) -> None:
        self._loop = loop
        self._settings = settings
        self._ticker = ticker
        self._resolver = Resolver(loop, settings, ticker)
        self._contexts = Contexts()
        self._silent_until = 0.0  # on the ticker's clock

    async def open(self, pool: Pool, origin: Origin, total_deadline: float) -> UpstreamConnection:
        """A connection to ``origin`` that belongs to ``pool``. ``total_deadline`` is on the ticker's clock.

        Raises GatewayError: UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT, with what failed in its message; OVERLOADED when
        this process may open no more files, which is no fault of the upstream's.
        """
        try:
            return await self._open(pool, origin, total_deadline)
        except OSError as error:
            if not is_shortage(error):
                raise
            raise self._told(error) from None

    def _told(self, error: OSError) -> GatewayError:
        """For the caller; the operator is told now and then."""
        if self._ticker.now >= self._silent_until:
            self._silent_until = self._ticker.now + SILENT_SECONDS
            log.error("calls are refused: no more files can be opened", reason=error.strerror)
        message = "this server has reached its limit of open files: it can't connect to the upstream now"
        return GatewayError(Kind.OVERLOADED, message, retry_after_seconds=1)

    async def _open(self, pool: Pool, origin: Origin, total_deadline: float) -> UpstreamConnection:
        """As `open`. Raises OSError for want of open files, too."""
        connect_deadline = min(total_deadline, self._ticker.now + self._settings.connect_timeout_seconds)
        raw = await self._within(connect_deadline, "the upstream took too long to connect", self._reach(origin))
        try:
            proxy = origin.proxy
            if proxy is not None:
                work = self._pass_proxy(raw, origin, proxy)
                await self._within(connect_deadline, "the proxy took too long to connect to the upstream", work)
            secured = self._attach(raw, pool, origin)
            tls_deadline = min(total_deadline, self._ticker.now + self._settings.tls_handshake_timeout_seconds)
            return await self._within(tls_deadline, "the upstream took too long for the TLS handshake", secured)
        except BaseException:
            raw.close()
            raise

    def close(self) -> None:
        """Give up look-ups."""
        self._resolver.close()

    async def _within(self, deadline: float, complaint: str, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._ticker.now)):
                return await work
        except TimeoutError:
            raise GatewayError(Kind.UPSTREAM_TIMEOUT, complaint) from None

    async def _reach(self, origin: Origin) -> socket.socket:
        """A TCP connection to the upstream, or to the proxy before it."""
        if origin.proxy is None:
            what, host, port = "the upstream", origin.host, origin.port
        else:
            what, host, port = "the proxy", origin.proxy.host, origin.proxy.port
        while True:
            resolved = await self._resolver.resolve(host, port)
            stale = resolved.fresh_until < self._ticker.now
            addresses = judged(resolved.addresses, allow_private=origin.allow_private)
            try:
                return await self._race(addresses)
            except OSError as error:
                if is_shortage(error):
                    raise
                self._resolver.forget(host, port)
            if not stale:
                message = f"{what} refused the connection or can't be reached"
                raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, message)

    async def _race(self, addresses: Sequence[Address]) -> socket.socket:
        """The first connection that comes about; the others are closed. Raises OSError when none does."""
        if len(addresses) == 1:
            return await self._connect(addresses[0])
        rest, short = list(reversed(addresses)), False
        attempts: set[asyncio.Task[socket.socket]] = set()
        try:
            while rest or attempts:
                if rest:
                    attempts.add(self._loop.create_task(self._connect(rest.pop())))
                limit = STAGGER_SECONDS if rest else None
                done, _ = await asyncio.wait(attempts, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    attempts.discard(attempt)
                    error = attempt.exception()
                    if error is None:
                        return attempt.result()
                    short = short or is_shortage(error)
            raise shortage() if short else ConnectionError("no address could be reached")
        finally:
            await _close_all(attempts)

    async def _connect(self, address: Address) -> socket.socket:
        raw = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            raw.setblocking(False)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                raw.setsockopt(socket.IPPROTO_TCP, option, value)
            await self._establish(raw, address)
        except BaseException:
            raw.close()
            raise
        return raw

    async def _establish(self, raw: socket.socket, address: Address) -> None:
        """As ``loop.sock_connect``, which in uvloop looks addresses up once more, behind other look-ups."""
        try:
            raw.connect(address.address)
        except BlockingIOError:
            writable = self._loop.create_future()
            self._loop.add_writer(raw, _wake, writable)
            try:
                await writable
            finally:
                self._loop.remove_writer(raw)
        error = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))

    async def _pass_proxy(self, raw: socket.socket, origin: Origin, proxy: Proxy) -> None:
        """Have the proxy connect to the upstream."""
        host = origin.host
        if proxy.kind == "socks5":
            resolved = await self._resolver.resolve(host, origin.port)
            host = str(judged(resolved.addresses, allow_private=origin.allow_private)[0].address[0])
        else:
            check_remote_name(host, allow_private=origin.allow_private)
        handshake = open_handshake(proxy, host, origin.port)
        outgoing = handshake.feed(b"")
        try:
            while not handshake.done:
                if outgoing:
                    await self._loop.sock_sendall(raw, outgoing)
                data = await self._loop.sock_recv(raw, MAX_PROXY_READ)
                if not data:
                    raise ConnectionError
                outgoing = handshake.feed(data)
        except OSError:
            message = "the proxy closed the connection before the upstream was reached"
            raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, message) from None

    async def _attach(self, raw: socket.socket, pool: Pool, origin: Origin) -> UpstreamConnection:
        """Give the socket to the event loop; for https, shake hands."""
        context = server_name = None
        try:
            if origin.scheme == "https":
                context = self._contexts.get(origin.tls)
                server_name = ascii_host(origin.host)
            _, connection = await self._loop.create_connection(
                lambda: UpstreamConnection(pool), sock=raw, ssl=context, server_hostname=server_name
            )
        except ConfigError as error:
            raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, f"the connection's TLS files: {error}") from None
        except ssl.SSLCertVerificationError:
            raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream's TLS certificate is not trusted") from None
        except (OSError, UnicodeError) as error:
            if is_shortage(error):
                raise
            raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the TLS handshake with the upstream failed") from None
        return connection


def judged(addresses: Sequence[Address], *, allow_private: bool) -> list[Address]:
    """All addresses when all may be reached, families in turn, beginning with the resolver's first (RFC 8305 4).

    Raises GatewayError when one may not: a name that mixes the two kinds is not to be trusted.
    """
    families: dict[int, list[Address]] = {}
    for one in addresses:
        check_address(str(one.address[0]), allow_private=allow_private)
        families.setdefault(one.family, []).append(one)
    return [one for turn in zip_longest(*families.values()) for one in turn if one is not None]


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _close_all(attempts: set[asyncio.Task[socket.socket]]) -> None:
    """Close what came second, and stop what is under way."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()
