"""The egress guard: which addresses an outgoing connection may reach.

A name is resolved once, every address is judged, and the connection goes to a judged address: no second look-up that
could answer differently (DNS rebinding). An address passes when it is global unicast; forms that carry an IPv4 one
(IPv4-mapped, 6to4, NAT64, Teredo) are judged by what they carry.
"""

import ipaddress
from typing import Final

from pointsman.errors import GatewayError, Kind

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
# Never an upstream, whatever the operator allows: cloud metadata services hand out credentials.
METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200")
)


def is_public(address: Address) -> bool:
    """True when ``address`` is global unicast, also after looking into IPv4-carrying IPv6 forms."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        carried = carried_ipv4(address)
        if carried is not None:
            return is_public(carried)
        return address.is_global and not address.is_multicast and not address.is_site_local
    return address.is_global and not address.is_multicast


def carried_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, 6to4, NAT64 or Teredo address, else None."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in NAT64):
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
