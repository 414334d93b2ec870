"""The egress guard: which addresses an outgoing connection may reach.

A name is resolved once, every address is judged, and the connection goes to a judged address: no second look-up that
could answer differently (DNS rebinding). An address passes when it is global unicast; forms that carry an IPv4 one
(IPv4-mapped, 6to4, NAT64, Teredo) are judged by what they carry.
"""

import ipaddress
import socket
from typing import Final

from pointsman.errors import GatewayError, Kind
from pointsman.upstream.origins import ascii_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # RFC 4291 2.4: all that IANA has given out lies in it
DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")  # RFC 9637; Python 3.11 does not know it
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291 2.5.5.1, deprecated
RELAY_ANYCAST: Final = ipaddress.IPv4Network("192.88.99.0/24")  # RFC 7526
# Never an upstream, whatever the operator allows: cloud metadata services hand out credentials.
METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # Amazon ECS
        "169.254.170.23",  # Amazon EKS
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "169.254.0.23",  # Tencent
    )
)
METADATA_NAMES: Final = frozenset({"metadata.google.internal", "metadata.goog"})


def is_public(address: Address) -> bool:
    """True when ``address`` is global unicast, also after looking into IPv4-carrying IPv6 forms."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = carried_ipv4(address)
        if carried is not None:
            return address not in COMPATIBLE and is_public(carried)
        inside = address in GLOBAL_UNICAST and address not in DOCUMENTATION
        return inside and address.scope_id is None and address.is_global
    return address.is_global and not address.is_multicast and address not in RELAY_ANYCAST


def carried_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, IPv4-compatible, 6to4, NAT64 or Teredo address, else None."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or (address in COMPATIBLE and int(address) > 0xFFFF):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def check_address(text: str, *, allow_private: bool) -> str:
    """Judge one resolved address and give it back.

    Raises GatewayError(UPSTREAM_UNAVAILABLE) for a metadata service, and for a non-public address unless
    ``allow_private`` is on.
    """
    address = ipaddress.ip_address(text)
    inner = (carried_ipv4(address) or address) if isinstance(address, ipaddress.IPv6Address) else address
    if inner in METADATA or address in METADATA:
        raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream's address is a metadata service: never allowed")
    if not allow_private and not is_public(address):
        raise GatewayError(
            Kind.UPSTREAM_UNAVAILABLE,
            "the upstream's address is private or local; set allow_private on the connection if that is meant",
        )
    return text


def check_remote_name(host: str, *, allow_private: bool) -> None:
    """Judge a host that a proxy will resolve, as far as its spelling tells; what a name stands for, the proxy decides.

    Raises GatewayError as `check_address` does, for every spelling of an IPv4 address that system resolvers take.
    """
    name = ascii_host(host).removesuffix(".").lower()
    if name in METADATA_NAMES:
        raise GatewayError(Kind.UPSTREAM_UNAVAILABLE, "the upstream's address is a metadata service: never allowed")
    if name == "localhost" or name.endswith(".localhost"):
        name = "127.0.0.1"
    try:
        text = str(ipaddress.ip_address(name))
    except ValueError:
        try:
            text = socket.inet_ntoa(socket.inet_aton(name))
        except (OSError, UnicodeError, ValueError):
            return
    check_address(text, allow_private=allow_private)
