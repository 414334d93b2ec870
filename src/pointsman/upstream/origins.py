"""Where a connection goes and by which way: the key of a pool."""

from typing import Final, Literal
from urllib.parse import SplitResult

import msgspec

ProxyKind = Literal["http", "socks5", "socks5h"]
PROXY_KINDS: Final = ("http", "socks5", "socks5h")


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy on the way; ``socks5`` has names resolved here, the others by the proxy. It never shows its password."""

    kind: ProxyKind
    host: str
    port: int
    username: str | None = None
    password: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.kind}://{self.host}:{self.port})"


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM form: whom to trust instead of the system's authorities, and who we are.

    ``authorities`` is such a file's content, for connections that came over the API.
    """

    ca_file: str | None = None
    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """Where a connection goes. One pool each; ``allow_private`` is part of it, so that trust is never shared.

    ``owner`` keeps a limit to the connection that has it: two accounts at one host do not share theirs.
    """

    scheme: str
    host: str
    port: int
    allow_private: bool = False
    limit: int | None = None
    owner: str | None = None
    proxy: Proxy | None = None
    tls: TlsFiles | None = None


def ascii_host(host: str) -> str:
    """A host as it goes over the wire: what IDNA takes for a digit, a letter or a dot is one then.

    Raises UnicodeError, a ValueError.
    """
    return host if ":" in host else host.encode("idna").decode("ascii")


def standard_port(scheme: str) -> int:
    """The port of a scheme: 443 of https, 80 of http (RFC 9110 4.2)."""
    return 443 if scheme == "https" else 80


def port_of(address: SplitResult) -> int:
    """The port of an address; its scheme's when it names none. Raises ValueError for one that is none."""
    return address.port or standard_port(address.scheme)
