"""Who comes from this machine itself. A proxy on it makes all look so, but its header lines tell that there is one."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

# Besides all that begin with "x-forwarded". Whether what they say is true does not matter here.
PROXY_HEADERS: Final = frozenset(
    (
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"fastly-client-ip",
        b"fly-client-ip",
    )
)


def is_of_this_machine(address: str, headers: Iterable[bytes]) -> bool:
    """Whether a request came from a loopback address, and by no proxy. ``headers``: their names, in small letters."""
    return _is_loopback(address) and not any(
        name in PROXY_HEADERS or name.startswith(b"x-forwarded") for name in headers
    )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
