"""Host names to addresses, kept for a while: a call waits for a look-up only when nothing is known.

The system's resolver gives no lifetime, so ours are settings. An answer past its time is used once more while a new one
is fetched; one look-up at a time is made for each name.
"""

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.open_files import shortage, used_up
from pointsman.settings import UpstreamSettings
from pointsman.ticker import Ticker

MAX_NAMES: Final = 1024
STALE_SECONDS: Final = 300.0  # how long past its time an answer may still be used while a new one is fetched

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]  # as the socket module's own types are


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a name, as the socket module wants it."""

    family: int
    address: SocketAddress


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What a name stood for; none when it can't be resolved. ``fresh_until`` is on the ticker's clock."""

    addresses: tuple[Address, ...]
    fresh_until: float


NOT_ASKED: Final = Resolved(addresses=(), fresh_until=0.0)  # for want of open files: nothing is known of the name


class Resolver:
    """Look-ups with a cache of `MAX_NAMES` names."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: UpstreamSettings, ticker: Ticker) -> None:
        self._loop = loop
        self._settings = settings
        self._ticker = ticker
        self._known: OrderedDict[tuple[str, int], Resolved] = OrderedDict()
        self._lookups: dict[tuple[str, int], asyncio.Task[Resolved]] = {}

    async def resolve(self, host: str, port: int) -> Resolved:
        """The addresses of ``host``, in the order of the system's resolver.

        Raises GatewayError(UPSTREAM_UNAVAILABLE) when there are none; OSError when no more files can be opened.
        """
        literal = _literal(host, port)
        if literal is not None:
            return literal
        name, now = (host, port), self._ticker.now
        known = self._known.get(name)
        if known is not None and known.fresh_until < now:
            known = known if self._may_serve(known) else None
            self._look_up(name)
        if known is None:
            known = await asyncio.shield(self._look_up(name))  # others may wait for the same look-up
        if known is NOT_ASKED:
            raise shortage()
        if not known.addresses:
            raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream's host name can't be resolved")
        return known

    def forget(self, host: str, port: int) -> None:
        """None of its addresses could be reached: the next call looks again."""
        self._known.pop((host, port), None)

    def close(self) -> None:
        """Give up the look-ups that run."""
        for lookup in self._lookups.values():
            lookup.cancel()

    def _look_up(self, name: tuple[str, int]) -> asyncio.Task[Resolved]:
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = self._loop.create_task(self._fetch(name))
            lookup.add_done_callback(lambda _: self._lookups.pop(name, None))
        return lookup

    def _may_serve(self, old: Resolved) -> bool:
        return bool(old.addresses) and self._ticker.now < old.fresh_until + STALE_SECONDS

    async def _fetch(self, name: tuple[str, int]) -> Resolved:
        host, port = name
        seconds = self._settings.dns_ttl_seconds
        try:
            infos = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, ValueError):
            if used_up():  # a resolver tells it in several ways
                return NOT_ASKED
            infos, seconds = [], self._settings.dns_negative_ttl_seconds
        addresses = tuple(Address(family=info[0], address=info[4]) for info in infos)
        before = self._known.get(name)
        if not addresses and before is not None and self._may_serve(before):
            return before  # a resolver that fails takes nothing away yet
        resolved = Resolved(addresses=addresses, fresh_until=self._ticker.now + seconds)
        self._known[name] = resolved
        self._known.move_to_end(name)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        return resolved


def _literal(host: str, port: int) -> Resolved | None:
    """An address that stands in the URL needs no look-up; other spellings of one ("127.1") are the resolver's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        one = Address(family=socket.AF_INET, address=(host, port))
    elif address.scope_id is None:
        one = Address(family=socket.AF_INET6, address=(host, port, 0, 0))
    else:
        return None
    return Resolved(addresses=(one,), fresh_until=float("inf"))
