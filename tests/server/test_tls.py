"""TLS for clients: certificates, their replacement, and the same conduct as without."""

import asyncio
import datetime
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.errors import ConfigError
from pointsman.server import edge as edges
from pointsman.server import host, tls
from pointsman.server.connection import LINGER_SECONDS
from pointsman.server.exchange import Exchange
from pointsman.server.host import Host
from pointsman.server.management import ManagementMount, served_paths
from pointsman.server.tls import ServerCertificate
from pointsman.settings import parse_settings
from pointsman.testing import RunningSimulator
from pointsman.ticker import INTERVAL_SECONDS
from raw_client import CHAT, Connection, chat, read_slowly, request
from serve_process import serving, toml
from upstream_peers import until


def mint(directory: Path, serial: int, *, keep_key: bool = False) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 with this serial number, and its key, which may be the one before."""
    files = directory / "certificate.pem", directory / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    if keep_key:
        known = serialization.load_pem_private_key(files[1].read_bytes(), None)
        assert isinstance(known, ec.EllipticCurvePrivateKey)
        key = known
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files[0].write_bytes(certificate.public_bytes(pem))
    if not keep_key:
        files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


class TlsConnection(Connection):
    """A client over TLS that takes any certificate."""

    def __init__(self, port: int, *, receive_buffer: int | None = None, alpn: tuple[str, ...] = ("http/1.1",)) -> None:
        super().__init__(port, receive_buffer=receive_buffer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(list(alpn))
        self.plain = self.socket
        self.socket = self.tls = context.wrap_socket(self.plain, suppress_ragged_eofs=False)

    def serial(self) -> int:
        """The serial number of the server's certificate."""
        der = self.tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate and key of the module's gateway."""
    return mint(tmp_path_factory.mktemp("tls"), 1)


@pytest.fixture(scope="module")
def gateway(
    shared_simulator: RunningSimulator, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """A gateway that speaks https."""
    row = {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY}
    server = {"tls_certificate": str(files[0]), "tls_key": str(files[1]), "header_timeout_seconds": 0.5}
    settings = {"server": {**server, "max_body_bytes": 100_000}, "connections": [row]}
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running


def serial(port: int) -> int:
    """The certificate that a new connection sees."""
    with TlsConnection(port) as connection:
        return connection.serial()


def test_requests_are_served_over_tls_with_alpn(gateway: RunningGateway) -> None:
    assert gateway.address.startswith("https://")
    with TlsConnection(gateway.port, alpn=("h2", "http/1.1")) as connection:
        assert connection.tls.selected_alpn_protocol() == "http/1.1"
        assert connection.tls.version() in ("TLSv1.2", "TLSv1.3")
        for stream in (False, True, False):
            assert connection.ask(chat(stream=stream)).text == "echo: one two three"
        connection.send(chat() + request("GET", "/health") + chat(stream=True))
        assert [connection.answer().status for _ in range(3)] == [200] * 3


def test_an_asgi_application_is_told_the_scheme(gateway: RunningGateway) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    gateway.server.edge.router.add("GET", "/scheme", ManagementMount(lambda: (application, served_paths(["/scheme"]))))
    with TlsConnection(gateway.port) as connection:
        assert connection.ask(request("GET", "/scheme")).body == b"https"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_before_1_2_are_refused(gateway: RunningGateway) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain)


def test_plain_http_on_the_tls_port_gets_nothing(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request("GET", "/health"))
        assert not connection.socket.recv(1000).startswith(b"HTTP/")


def test_a_handshake_that_never_comes_is_cut(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        assert connection.is_closed()


def test_handshakes_count_as_connections_and_the_oldest_makes_room_for_a_new_one(
    tmp_path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "NEWCOMER_SECONDS", 0.0)
    limits = {"max_connections": 5, "header_timeout_seconds": 60.0}
    with large_answers(tmp_path, files, **limits) as gateway, ExitStack() as stack:
        edge = gateway.server.edge
        connected = stack.enter_context(TlsConnection(gateway.port))
        assert connected.ask(request("GET", "/health")).status == 200
        silent = []
        for number in range(1, 5):
            silent.append(stack.enter_context(Connection(gateway.port)))
            wait_until(lambda: gateway.read(lambda: len(edge.handshakes)) == number, "handshake")  # noqa: B023
        with TlsConnection(gateway.port) as another:
            assert silent[0].is_closed()
            assert another.ask(request("GET", "/health")).status == 200
            assert gateway.read(lambda: (len(edge.connections), len(edge.handshakes))) == (2, 3)
        assert connected.ask(request("GET", "/health")).status == 200


def test_a_tls_connection_that_is_one_too_many_is_cut(tmp_path: Path, files: tuple[Path, Path]) -> None:
    with large_answers(tmp_path, files, max_connections=1) as gateway, TlsConnection(gateway.port) as connected:
        assert connected.ask(request("GET", "/health")).status == 200
        with Connection(gateway.port) as one_too_many:
            assert one_too_many.is_closed()
        assert connected.ask(request("GET", "/health")).status == 200


def test_a_refusal_over_tls_can_be_read_while_the_body_is_still_sent(gateway: RunningGateway) -> None:
    with TlsConnection(gateway.port) as connection:
        connection.send(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n".encode())
        for _ in range(50):
            connection.send(b"x" * 100_000)
        assert connection.answer().status == 413


def test_connection_close_over_tls_ends_with_a_close_notify(gateway: RunningGateway) -> None:
    with TlsConnection(gateway.port) as connection:
        assert connection.ask(chat("", "connection: close")).status == 200
        assert connection.is_closed()  # a cut without close_notify would raise SSLEOFError


def test_a_slow_reader_over_tls_holds_the_upstream_back_and_gets_all(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    with TlsConnection(gateway.port, receive_buffer=16384) as connection:
        connection.send(chat("tokens=100000", stream=True))  # some 27 MB
        connection.read_until(b"\n\n")
        [received] = simulator.wait_for_requests(1)
        seen = [-1]

        def stopped() -> bool:
            before, seen[0] = seen[0], received.sent_bytes
            time.sleep(0.1)
            return before == seen[0] == received.sent_bytes > 0

        wait_until(stopped, "pause of the upstream")
        assert received.sent_bytes < 16_000_000
        held = gateway.read(lambda: max(c._transport.get_write_buffer_size() for c in gateway.server.edge.connections))
        assert held < 2_000_000
        assert connection.read_until(b"data: [DONE]\n\n").count(b'"content":') >= 100_000


LARGE = bytes(16_000_000)  # more than the kernel holds


@contextmanager
def large_answers(directory: Path, files: tuple[Path, Path] | None, **limits: float) -> Iterator[RunningGateway]:
    """A gateway with something large to read; over TLS with a certificate."""
    server = dict(zip(("tls_certificate", "tls_key"), map(str, files or ()), strict=False))

    async def answer(exchange: Exchange) -> None:
        exchange.respond(200, LARGE, b"text/plain")

    with running_gateway(directory, {"server": {**server, **limits}}) as running:
        running.read(lambda: running.server.edge.router.add("GET", "/large", answer))
        yield running


def let_pass(gateway: RunningGateway, seconds: float) -> None:
    """Time of the gateway's own clock, in which its deadlines have passed."""
    until = gateway.read(lambda: gateway.server.ticker.now) + seconds + 2 * INTERVAL_SECONDS
    wait_until(lambda: gateway.read(lambda: gateway.server.ticker.now) > until, "time to pass")


def rest_of(connection: Connection) -> bytes:
    """Everything until the server closes."""
    parts = [connection._unread]
    while data := connection.socket.recv(262_144):
        parts.append(data)
    return b"".join(parts)


def is_left(gateway: RunningGateway) -> bool:
    return not gateway.read(lambda: len(gateway.server.edge.connections))


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("why", ["asked to", "drained"])
def test_an_answer_that_is_read_late_comes_whole_before_its_connection_is_closed(
    tmp_path: Path, files: tuple[Path, Path], secured: bool, why: str
) -> None:
    with large_answers(tmp_path, files if secured else None) as gateway:
        kind = TlsConnection if secured else Connection
        with kind(gateway.port, receive_buffer=65536) as connection:
            connection.send(request("GET", "/large", b"", *(["connection: close"] if why == "asked to" else [])))
            connection.peek(b"\r\n\r\n")
            if why == "drained":
                gateway.read(lambda: gateway.server.edge.drain(0.1))
            let_pass(gateway, LINGER_SECONDS + 1.0)
            assert len(rest_of(connection).partition(b"\r\n\r\n")[2]) == len(LARGE)


@pytest.mark.parametrize("closing", [False, True], ids=["kept", "closed behind it"])
def test_a_slow_reader_over_tls_that_goes_on_reading_is_not_cut(
    tmp_path: Path, files: tuple[Path, Path], closing: bool
) -> None:
    allowed = 1.5
    with (
        large_answers(tmp_path, files, write_timeout_seconds=allowed, keepalive_timeout_seconds=0.5) as gateway,
        TlsConnection(gateway.port, receive_buffer=8192) as connection,
    ):
        connection.send(request("GET", "/large", b"", *(["connection: close"] if closing else [])))
        read_slowly(connection, len(LARGE), allowed)


@pytest.mark.parametrize("how", ["waits", "close_notify"])
def test_a_tls_client_that_takes_nothing_of_its_answer_is_cut(
    tmp_path: Path, files: tuple[Path, Path], how: str
) -> None:
    with (
        large_answers(tmp_path, files, write_timeout_seconds=0.5) as gateway,
        TlsConnection(gateway.port, receive_buffer=8192) as connection,
    ):
        connection.send(request("GET", "/large", b"", *(["connection: close"] if how == "waits" else [])))
        connection.peek(b"\r\n\r\n")
        if how == "close_notify":
            connection.tls.settimeout(0.001)
            with suppress(TimeoutError, OSError):
                connection.tls.unwrap()
        wait_until(lambda: is_left(gateway), "end of the connection")


def test_a_tls_client_that_has_its_answer_and_does_not_hang_up_is_left_soon(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    with large_answers(tmp_path, files) as gateway, TlsConnection(gateway.port) as connection:
        assert connection.ask(request("GET", "/health", b"", "connection: close", key=None)).status == 200
        wait_until(lambda: is_left(gateway), "end of the connection")  # long before the time to write is over


def test_a_handshake_under_way_is_waited_for_at_the_end_of_listening(
    tmp_path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "LAST_REQUEST_SECONDS", 20.0)
    with large_answers(tmp_path, files) as gateway, socket.socket() as plain:
        server, edge = gateway.server, gateway.server.edge
        other = gateway.read(lambda: Host(edge, "127.0.0.1", 0, 20.0, server._certificate()))
        port = gateway.call(other.listen())
        plain.settimeout(20)
        plain.connect(("127.0.0.1", port))
        wait_until(lambda: gateway.read(lambda: bool(edge.handshakes)), "handshake")
        ending = asyncio.run_coroutine_threadsafe(other._drain(), gateway._loop)
        with pytest.raises(FutureTimeoutError):
            ending.result(1.0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as secured:
            secured.sendall(request("GET", "/health", b"", "connection: close", key=None))
            assert secured.recv(1000).startswith(b"HTTP/1.1 200 ")
        ending.result(20)
        assert not gateway.read(lambda: bool(edge.handshakes))


@pytest.mark.parametrize("how", ["close_notify", "fin"])
def test_a_tls_client_that_leaves_cancels_its_call(
    gateway: RunningGateway, simulator: RunningSimulator, how: str
) -> None:
    before = len(gateway.journal.records())
    with TlsConnection(gateway.port) as connection:
        connection.send(chat("tokens=10000,pace_ms=10", stream=True))
        connection.read_until(b"\n\n")
        if how == "close_notify":
            connection.tls.settimeout(0.001)
            with suppress(TimeoutError, OSError):
                connection.tls.unwrap()
        connection.socket.close()
        wait_until(lambda: len(gateway.journal.records()) > before, "record")
    assert gateway.journal.records()[before].outcome.value == "client_closed"


def test_a_new_certificate_is_taken_and_a_broken_one_is_not(
    gateway: RunningGateway, files: tuple[Path, Path], simulator: RunningSimulator
) -> None:
    with TlsConnection(gateway.port) as open_before:
        assert open_before.serial() == 1
        assert open_before.ask(chat()).status == 200
        open_before.send(chat("tokens=300,pace_ms=5", stream=True))
        open_before.read_until(b"\n\n")
        mint(files[0].parent, 2)
        wait_until(lambda: serial(gateway.port) == 2, "new certificate")
        open_before.read_until(b"data: [DONE]\n\n")
        assert "TLS certificate loaded" in gateway.log_text()
    files[1].write_text("broken")
    wait_until(lambda: "the new TLS certificate can't be used" in gateway.log_text(), "complaint")
    assert serial(gateway.port) == 2
    mint(files[0].parent, 3)
    wait_until(lambda: serial(gateway.port) == 3, "repaired certificate")
    mint(files[0].parent, 4, keep_key=True)
    wait_until(lambda: serial(gateway.port) == 4, "new certificate for the same key")


def test_sighup_reloads_and_keeps_open_connections(tmp_path: Path) -> None:
    certificate, key = mint(tmp_path, 7)
    server = {"server": {"tls_certificate": str(certificate), "tls_key": str(key)}}
    with serving(tmp_path / "data", toml([], server)) as running, TlsConnection(running.port) as open_before:
        assert open_before.ask(request("GET", "/health")).status == 200
        mint(tmp_path, 8)
        running.signal(signal.SIGHUP)
        wait_until(lambda: serial(running.port) == 8, "new certificate")
        assert open_before.serial() == 7
        assert open_before.ask(request("GET", "/health")).status == 200
        started = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert time.monotonic() - started < 6


def test_several_workers_serve_tls_and_all_of_them_take_a_new_certificate(
    tmp_path: Path, shared_simulator: RunningSimulator
) -> None:
    certificate, key = mint(tmp_path, 7)
    row = {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY}
    server = {"workers": 2, "tls_certificate": str(certificate), "tls_key": str(key)}
    with serving(tmp_path / "data", toml([row], {"server": server})) as running, ExitStack() as stack:
        open_before = [stack.enter_context(TlsConnection(running.port)) for _ in range(20)]
        for connection in open_before:
            assert connection.ask(chat()).text == "echo: one two three"
            assert connection.serial() == 7
        written = [path.stat().st_size for path in (tmp_path / "data" / "journal").glob("*.journal")]
        assert len(written) == 2  # each worker has some of the connections
        assert all(written)

        mint(tmp_path, 8)
        wait_until(lambda: running.log.count("TLS certificate loaded") == 2, "new certificate in both workers")
        assert {serial(running.port) for _ in range(8)} == {8}
        for connection in open_before:
            assert connection.serial() == 7
            assert connection.ask(chat()).status == 200

        mint(tmp_path, 9)
        running.signal(signal.SIGHUP)
        wait_until(lambda: "rolling restart done" in running.log, "rolling restart", 10)
        assert {serial(running.port) for _ in range(8)} == {9}
        with TlsConnection(running.port) as fresh:
            assert fresh.ask(chat(stream=True)).text == "echo: one two three"
        running.signal(signal.SIGTERM)
        assert running.wait(10) == 0


def test_each_change_of_the_files_is_read_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "WATCH_SECONDS", 0.001)
    certificate, key = mint(tmp_path, 1)

    async def main() -> list[str]:
        kept = ServerCertificate(str(certificate), str(key))
        watching = asyncio.create_task(kept.watch())
        with capture_logs() as logs:
            for change in (lambda: mint(tmp_path, 2), lambda: key.write_text("broken"), lambda: mint(tmp_path, 3)):
                told = len(logs)
                change()
                await until(lambda told=told: len(logs) > told, "word of the change")  # type: ignore[misc]
                for _ in range(5):  # rounds in which nothing has changed
                    await asyncio.sleep(0.001)
        watching.cancel()
        return [line["event"] for line in logs]

    loaded = "TLS certificate loaded"
    assert asyncio.run(main()) == [loaded, "the new TLS certificate can't be used; the old one stays", loaded]


def test_a_client_can_not_have_the_handshake_done_again(tmp_path: Path) -> None:
    context = ServerCertificate(*map(str, mint(tmp_path, 1))).context
    assert context.options & ssl.OP_NO_RENEGOTIATION  # at TLS 1.2 it would cost us far more than the client
    assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize("fault", ["missing", "garbage", "mismatch", "encrypted"])
def test_files_that_are_no_pair_are_refused_at_the_start(tmp_path: Path, fault: str) -> None:
    certificate, key = mint(tmp_path, 1)
    if fault == "missing":
        key.unlink()
    elif fault == "garbage":
        certificate.write_text("garbage")
    elif fault == "mismatch":
        text = certificate.read_bytes()
        mint(tmp_path, 2)
        certificate.write_bytes(text)
    else:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        protection = serialization.BestAvailableEncryption(b"secret")
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        key.write_bytes(
            private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        )
    with pytest.raises(ConfigError, match=r"server\.tls_certificate") as caught:
        ServerCertificate(str(certificate), str(key))
    # Said by us: OpenSSL would ask for the password on the terminal and wait.
    assert ("the key is encrypted; it must not be" in str(caught.value)) == (fault == "encrypted")


def test_a_certificate_without_a_key_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="belong together"):
        parse_settings({"server": {"tls_certificate": "x"}}, "test")
