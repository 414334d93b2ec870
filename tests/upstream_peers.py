"""Peers of the upstream client in the test's own event loop: servers, proxies, certificates, and deaf addresses."""

import asyncio
import datetime
import ipaddress
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pointsman.clock import SystemClock
from pointsman.errors import GatewayError
from pointsman.settings import UpstreamSettings
from pointsman.ticker import Ticker
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.origins import Origin

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CLOSING = ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
PATIENCE_S = 10.0

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine on the event loop of production; it may take some seconds."""
    return uvloop.run(asyncio.wait_for(work, 50))


async def until(found: Callable[[], object], what: str) -> None:
    """Come back when ``found`` gives something true; AssertionError that names ``what`` when it takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not found():
        assert loop.time() < deadline, f"no {what}"
        await asyncio.sleep(0.002)


class Seen:
    """One connection as the peer saw it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.data = b""
        self.requests = 0
        self.ended = False
        self.writer = writer
        secured = writer.get_extra_info("ssl_object")
        self.resumed = bool(secured.session_reused) if secured is not None else False
        self.protocol = secured.selected_alpn_protocol() if secured is not None else None
        self.client = writer.get_extra_info("peercert") if secured is not None else None


class Peer:
    """A listener. ``answer`` goes out for each request; None: it listens and says nothing.

    After ``patience`` answers a connection's next request is met with a reset.
    """

    def __init__(self, answer: bytes | None = ANSWER, patience: int = 1_000_000) -> None:
        self.answer = answer
        self.patience = patience
        self.seen: list[Seen] = []
        self.host = ""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        seen = Seen(writer)
        self.seen.append(seen)
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            while data := await reader.read(65536):
                seen.data += data
                while self.answer is not None and seen.data.count(b"\r\n\r\n") > seen.requests:
                    seen.requests += 1
                    if seen.requests > self.patience:
                        writer.transport.abort()
                        break
                    writer.write(self.answer)
                    await writer.drain()
                    if b"connection: close" in self.answer:
                        writer.close()
        seen.ended = True
        writer.close()

    def speak(self) -> None:
        """Answer from now on, at first what was asked while this peer said nothing."""
        self.answer = ANSWER
        for seen in self.seen:
            for _ in range(seen.data.count(b"\r\n\r\n") - seen.requests):
                seen.requests += 1
                seen.writer.write(self.answer)

    def hang_up(self) -> None:
        """Close every connection."""
        for seen in self.seen:
            seen.writer.close()

    @property
    def all_ended(self) -> bool:
        """True when every connection was closed by the other side."""
        return all(seen.ended for seen in self.seen)

    def origin(self, **more: Any) -> Origin:
        """Where it is."""
        fields = {"scheme": "http", "host": self.host, "port": self.port, "allow_private": True}
        return Origin(**{**fields, **more})


@asynccontextmanager
async def listening(peer: Peer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    """``peer`` on a free port."""
    server = await asyncio.start_server(peer.serve, host, peer.port, ssl=tls)
    peer.host, peer.port = server.sockets[0].getsockname()[:2]
    try:
        yield peer
    finally:
        server.close()


class BluntPeer(Peer):
    """Says ``words`` at the first bytes of a connection and hangs up, with ``reset`` by a reset."""

    def __init__(self, words: bytes, *, reset: bool = False) -> None:
        super().__init__()
        self.words = words
        self.reset = reset

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        seen = Seen(writer)
        self.seen.append(seen)
        with suppress(OSError):
            seen.data += await reader.read(65536)
            writer.write(self.words)
            await writer.drain()
            if self.reset:
                writer.transport.abort()
        seen.ended = True
        writer.close()


class ProxyPeer(Peer):
    """A proxy for CONNECT and SOCKS5 that demands ``user:pass``. Every name is the loopback address to it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Shake hands, then pass bytes on, both ways."""
        seen = Seen(writer)
        self.seen.append(seen)
        with suppress(OSError, asyncio.IncompleteReadError):
            port = await (self._connect if self.kind == "http" else self._socks)(reader, writer)
            if port is not None:
                inner, out = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, out), _pump(inner, writer))
        seen.ended = True
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
            return None
        authority = head.split()[1].decode()
        self.asked.append(authority)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        return int(authority.rpartition(":")[2])

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        _, count = await reader.readexactly(2)
        assert 2 in await reader.readexactly(count)
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        if (user, password) != (b"user", b"pass"):
            writer.write(b"\x01\x01")
            return None
        writer.write(b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        return port


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def deaf_address(host: str, port: int = 0) -> Iterator[int]:
    """A port at which connecting never ends: its queue is full, so the kernel lets requests to connect go by."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        with suppress(BlockingIOError):
            filler.connect(listener.getsockname())
        fillers.append(filler)
    try:
        yield listener.getsockname()[1]
    finally:
        for one in (*fillers, listener):
            one.close()


def connecting(host: str, port: int) -> int:
    """How many sockets of this machine are about to connect to ``host`` and ``port`` (SYN-SENT)."""
    packed = int.from_bytes(ipaddress.IPv4Address(host).packed, "little")
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[2] == f"{packed:08X}:{port:04X}" and row[3] == "02" for row in rows)


class Names:
    """A resolver that knows ``table`` and counts its look-ups; an answer comes only while ``free`` is set."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table
        self.lookups = 0
        self.free = asyncio.Event()
        self.free.set()

    async def getaddrinfo(self, host: str, port: int, **more: Any) -> list[Any]:
        """As the event loop's."""
        self.lookups += 1
        await self.free.wait()
        if host not in self.table:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
            for text in self.table[host]
        ]


@asynccontextmanager
async def upstream_client(names: Names | None = None, **settings: Any) -> AsyncIterator[UpstreamClient]:
    """A client on the running loop."""
    loop = asyncio.get_running_loop()
    if names is not None:
        loop.getaddrinfo = names.getaddrinfo  # type: ignore[method-assign, assignment]
    ticker = Ticker(loop, SystemClock())
    ticker.start()
    client = UpstreamClient(loop, UpstreamSettings(**settings), ticker)
    try:
        yield client
    finally:
        client.close()
        ticker.stop()


FAR = {
    f"{name}_timeout_seconds": 1000.0
    for name in ("connect", "tls_handshake", "headers", "first_byte", "idle", "total", "queue")
}


def limited_to(
    setting: str, seconds: float = 0.3, names: Names | None = None, **settings: Any
) -> AbstractAsyncContextManager[UpstreamClient]:
    """A client all of whose limits are far away but this one."""
    return upstream_client(names, **{**FAR, setting: seconds, **settings})


async def get(client: UpstreamClient, origin: Origin, caller: str = "", answer: CollectedAnswer | None = None) -> str:
    """The answer's body, or the message of the GatewayError."""
    answer = answer or CollectedAnswer()
    try:
        await client.send(origin, REQUEST, answer, caller)
    except GatewayError as error:
        return error.message
    return answer.body.decode()


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open no file, and no socket."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


class Authority:
    """A certificate authority with a folder for its files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(self._sign(self._name, self._key.public_key(), [], authority=True))

    def _sign(self, subject: x509.Name, key: Any, hosts: list[str], *, authority: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        hour = datetime.timedelta(hours=1)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), now - hour, now + hour)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, hosts: list[str], password: bytes | None = None) -> tuple[str, str]:
        """Files with a certificate for ``hosts`` and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._sign(subject, key.public_key(), hosts))
        sealing = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing))
        return str(certificate), str(key_file)

    def issue_again(self, name: str, hosts: list[str]) -> str:
        """A certificate for ``hosts`` and the key that `issue` made for ``name``."""
        key = serialization.load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._sign(subject, key.public_key(), hosts).decode("ascii")

    def server_context(self, hosts: list[str], client_authority: Path | None = None) -> ssl.SSLContext:
        """A server's side; with ``client_authority`` it demands a client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", hosts))
        if client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_authority)
        return context


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
