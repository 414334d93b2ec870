"""Handshakes with proxies, from bytes to bytes: HTTP CONNECT (RFC 9110 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).

Give a handshake what the proxy said, send what it answers, until ``done``; the first `feed` takes no bytes.
"""

import base64
import ipaddress
import re
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.upstream.origins import PROXY_KINDS, Proxy, ProxyKind, ascii_host

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_TEXT_BYTES: Final = 255  # of a name, user or password in SOCKS5
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r\n")
SOCKS_REPLIES: Final = {2: "does not allow it", 3: "can't reach its network", 4: "can't reach it", 5: "was refused"}
DEFAULT_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}


class Handshake(Protocol):
    """A conversation with a proxy, before the upstream's own."""

    done: bool

    def feed(self, data: bytes) -> bytes:
        """Take what the proxy said; gives what to send. Raises GatewayError(UPSTREAM_UNAVAILABLE) on a refusal."""
        ...


class ConnectHandshake:
    """An HTTP proxy's tunnel to ``host`` and ``port``."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.done = False
        self._buffer = b""
        authority = (f"[{host}]" if ":" in host else ascii_host(host)) + f":{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if proxy.username is not None:
            pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {pair}")
        self._opening = "\r\n".join([*lines, "", ""]).encode("ascii")

    def feed(self, data: bytes) -> bytes:
        """See `Handshake`."""
        if self._opening:
            opening, self._opening = self._opening, b""
            return opening
        self._buffer += data
        while not self.done:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if len(head) > MAX_HEAD_BYTES:
                raise _refused("the proxy's answer has too large a head")
            if not end:
                return b""
            self._judge(head + b"\r\n", rest)
        return b""

    def _judge(self, head: bytes, rest: bytes) -> None:
        found = STATUS_LINE.match(head)
        if found is None:
            raise _refused("the proxy's answer is not valid HTTP")
        status = int(found[1])
        if status == 407:
            raise _refused("the proxy does not accept our credentials")
        if 100 <= status < 200 and status != 101:
            self._buffer = rest
            return
        if not 200 <= status < 300:
            raise _refused(f"the proxy did not connect to the upstream: it answered {status}")
        if rest:
            raise _refused("the proxy sent more than it was asked for")
        self.done = True


class SocksHandshake:
    """A SOCKS5 proxy's way to ``host``, a name or an address, and ``port``."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.done = False
        self._buffer = bytearray()
        self._user = proxy.username.encode() if proxy.username is not None else None
        self._password = proxy.password.encode()
        self._request = b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big")
        self._state = self._greet

    def feed(self, data: bytes) -> bytes:
        """See `Handshake`."""
        self._buffer += data
        sent = b""
        while not self.done:
            state = self._state
            sent += state()
            if self._state == state:
                break
        if self.done and self._buffer:
            raise _refused("the proxy sent more than it was asked for")
        return sent

    def _take(self, count: int) -> bytes | None:
        if len(self._buffer) < count:
            return None
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _greet(self) -> bytes:
        self._state = self._choose
        return b"\x05\x02\x00\x02" if self._user is not None else b"\x05\x01\x00"

    def _choose(self) -> bytes:
        choice = self._take(2)
        if choice is None:
            return b""
        if choice == b"\x05\x00":
            self._state = self._answer
            return self._request
        if choice == b"\x05\x02" and self._user is not None:
            self._state = self._authenticated
            user, password = self._user, self._password
            return b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
        if choice == b"\x05\xff":
            raise _refused("the proxy wants another kind of credentials")
        raise _refused("the proxy does not speak SOCKS5")

    def _authenticated(self) -> bytes:
        reply = self._take(2)
        if reply is None:
            return b""
        if reply != b"\x01\x00":
            raise _refused("the proxy does not accept our credentials")
        self._state = self._answer
        return self._request

    def _answer(self) -> bytes:
        head = bytes(self._buffer[:5])
        if len(head) < 2:
            return b""
        if head[0] != 5:
            raise _refused("the proxy does not speak SOCKS5")
        if head[1] != 0:
            what = SOCKS_REPLIES.get(head[1], f"reply {head[1]}")
            raise _refused(f"the proxy did not connect to the upstream: {what}")
        if len(head) < 5:
            return b""
        lengths = {1: 4, 3: 1 + head[4], 4: 16}
        if head[3] not in lengths:
            raise _refused("the proxy does not speak SOCKS5")
        if self._take(4 + lengths[head[3]] + 2) is not None:
            self.done = True
        return b""


def open_handshake(proxy: Proxy, host: str, port: int) -> Handshake:
    """The handshake that ``proxy`` speaks."""
    return ConnectHandshake(proxy, host, port) if proxy.kind == "http" else SocksHandshake(proxy, host, port)


def parse_proxy(text: str, place: str) -> Proxy:
    """A proxy from ``kind://user:password@host:port``. Raises ConfigError that names ``place`` and quotes nothing."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        ascii_host(host)
    except ValueError:
        raise ConfigError(f"{place}: is not a URL with a valid host and port") from None
    if parts.scheme not in PROXY_KINDS:
        raise ConfigError(f"{place}: must begin with http://, socks5:// or socks5h://")
    if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"{place}: must be kind://user:password@host:port")
    if any(character.isspace() or character < " " for character in text):
        raise ConfigError(f"{place}: must not hold blanks or control characters")
    username = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password or "")
    if max(len((username or "").encode()), len(password.encode())) > MAX_TEXT_BYTES:
        raise ConfigError(f"{place}: user and password may have {MAX_TEXT_BYTES} bytes each")
    if parts.scheme == "http" and ":" in (username or ""):
        raise ConfigError(f"{place}: the user must not hold a colon")
    if username is not None and parts.scheme != "http" and not (username and password):
        raise ConfigError(f"{place}: SOCKS5 needs both a user and a password, or neither")
    kind: ProxyKind = parts.scheme  # type: ignore[assignment]  # one of PROXY_KINDS
    return Proxy(kind=kind, host=host, port=port or DEFAULT_PORTS[kind], username=username, password=password)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = ascii_host(host).encode("ascii")
        return b"\x03" + bytes([len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _refused(message: str) -> GatewayError:
    return GatewayError(Kind.UPSTREAM_UNAVAILABLE, message)
