"""Who really sent a request: a listed reverse proxy is believed about its client's address, nobody else is."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAX_HOPS = 32


class TrustedProxies:
    """Addresses and networks, e.g. ``10.0.0.1`` or ``10.0.0.0/8``, whose X-Forwarded-For is believed."""

    def __init__(self, networks: list[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and self._trusts(parsed)

    def client(self, peer: str, forwarded_for: bytes | None) -> str:
        """The nearest address that isn't a trusted proxy's; ``peer`` is the connection's own, a trusted one.

        Read from the right, because each proxy adds on the right what it saw itself; what stands left of an unknown
        address is hearsay.
        """
        if forwarded_for is None:
            return peer
        client = peer
        for text in reversed(forwarded_for.decode("latin-1").split(",")[-MAX_HOPS:]):
            address = _parse(text.strip())
            if address is None:
                return client
            client = str(address)
            if not self._trusts(address):
                return client
        return client

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
