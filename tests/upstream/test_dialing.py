"""New connections: which address, through which proxy, with which TLS; over real sockets."""

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pointsman.errors import GatewayError, Kind
from pointsman.routing.failures import classify
from pointsman.upstream import dialing
from pointsman.upstream import tls as tls_module
from pointsman.upstream.dialing import judged
from pointsman.upstream.origins import Proxy, TlsFiles
from pointsman.upstream.resolver import Address, Resolved
from upstream_peers import (
    CLOSING,
    Authority,
    BluntPeer,
    Names,
    Peer,
    ProxyPeer,
    connecting,
    deaf_address,
    get,
    limited_to,
    listening,
    no_more_files,
    run,
    until,
    upstream_client,
)

UNTRUSTED = "the upstream's TLS certificate is not trusted"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the upstream's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def test_families_take_turns_beginning_with_the_resolvers_first() -> None:
    texts = ["2606:4700::1", "2606:4700::2", "2606:4700::3", "1.1.1.1", "1.1.1.2"]
    order = judged([Address(family=":" in text, address=(text, 1)) for text in texts], allow_private=False)
    assert [one.address[0] for one in order] == [
        "2606:4700::1", "1.1.1.1", "2606:4700::2", "1.1.1.2", "2606:4700::3",
    ]  # fmt: skip


def test_one_private_address_among_public_ones_is_enough_to_refuse_a_name() -> None:
    public, private = (Address(family=socket.AF_INET, address=(text, 1)) for text in ("1.1.1.1", "10.0.0.1"))
    for mixed in ([public, private], [private, public]):
        with pytest.raises(GatewayError, match="private"):
            judged(mixed, allow_private=False)


def test_a_connection_that_comes_about_beside_the_winner_is_closed() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()

        async def connected() -> socket.socket:
            return ours

        late = asyncio.create_task(connected())
        await asyncio.wait([late])
        await dialing._close_all({late})
        assert ours.fileno() == -1
        theirs.close()

    run(main())


def test_a_name_none_of_whose_addresses_can_be_reached_is_looked_up_again() -> None:
    async def main() -> None:
        async with listening(Peer(), host="127.0.0.3") as peer:
            names = Names({"moved.example": ["127.0.0.2"]})
            async with upstream_client(names) as client:
                origin = peer.origin(host="moved.example")
                assert await get(client, origin) == "the upstream refused the connection or can't be reached"
                names.table["moved.example"] = ["127.0.0.3"]
                assert await get(client, origin) == "hi"

    run(main())


def test_a_client_that_closes_gives_its_lookups_up() -> None:
    async def main() -> None:
        names = Names({"a.example": ["127.0.0.1"]})
        names.free.clear()
        async with upstream_client(names) as client:
            call = asyncio.create_task(get(client, Peer().origin(host="a.example")))
            await until(lambda: names.lookups, "look-up")
        await until(lambda: not client._dialer._resolver._lookups, "end of the look-up")
        await asyncio.wait([call])

    run(main())


def test_a_deaf_address_costs_a_quarter_of_a_second_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with listening(Peer(), host="127.0.0.3") as peer:
            with deaf_address("127.0.0.2", peer.port):
                names = Names({"two.example": ["127.0.0.2", "127.0.0.3"]})
                before = connecting("127.0.0.2", peer.port)
                async with upstream_client(names) as client:
                    began = asyncio.get_running_loop().time()
                    assert await get(client, peer.origin(host="two.example")) == "hi"
                    assert asyncio.get_running_loop().time() - began >= dialing.STAGGER_SECONDS
                    assert connecting("127.0.0.2", peer.port) == before

    run(main())


def test_a_refused_address_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "STAGGER_SECONDS", 1000.0)

    async def main() -> None:
        async with listening(Peer(), host="127.0.0.3") as peer, listening(Peer(), host="127.0.0.4") as other:
            names = Names({"two.example": ["127.0.0.2", "127.0.0.3", "127.0.0.4"]})
            async with upstream_client(names) as client:
                assert await get(client, peer.origin(host="two.example")) == "hi"
            assert (len(peer.seen), len(other.seen)) == (1, 0)

    run(main())


def test_of_two_that_answer_one_is_used_and_the_other_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "STAGGER_SECONDS", 0.0)

    async def main() -> None:
        async with listening(Peer(), host="127.0.0.2") as one:
            other = Peer()
            other.port = one.port
            async with listening(other, host="127.0.0.3"):
                names = Names({"two.example": ["127.0.0.2", "127.0.0.3"]})
                async with upstream_client(names) as client:
                    assert await get(client, one.origin(host="two.example")) == "hi"
                    assert client.open_connections == 1
                    seen = one.seen + other.seen
                    await until(lambda: sum(not one.ended for one in seen) == 1, "closed loser")
                    assert sum(bool(one.data) for one in seen) == 1

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "one.example", "two.example", "unknown.example"])
def test_an_upstream_is_not_blamed_for_our_limit_of_open_files(host: str) -> None:
    async def main() -> None:
        async with listening(Peer()) as peer:
            names = Names({"one.example": ["127.0.0.1"], "two.example": ["127.0.0.2", "127.0.0.1"]})
            async with upstream_client(names) as client:
                pool = client.pool(peer.origin(host=host))
                with no_more_files(), capture_logs() as logs:
                    for _ in range(3):
                        with pytest.raises(GatewayError, match="limit of open files") as caught:
                            await pool.acquire(client.ticker.now + 10, "")
                        assert (caught.value.kind, caught.value.retry_after_seconds) == (Kind.OVERLOADED, 1)
                        assert classify(caught.value).scope == "request"
                assert [line["log_level"] for line in logs] == ["error"]
                assert pool.open == 0
                names.table["unknown.example"] = ["127.0.0.1"]
                assert await get(client, peer.origin(host=host)) == "hi"

    run(main())


def test_a_context_that_could_not_read_the_systems_certificates_is_not_kept() -> None:
    contexts = tls_module.Contexts()
    with no_more_files(), pytest.raises(OSError, match="open files"):
        contexts.get(None)
    assert contexts.get(None) is contexts.get(None)


@pytest.mark.parametrize("which", ["ca_file", "client_certificate"])
def test_a_renewed_file_that_could_not_be_opened_is_read_again(authority: Authority, which: str) -> None:
    certificate, key = authority.issue("client", ["client.example"])
    files = TlsFiles(ca_file=certificate) if which == "ca_file" else TlsFiles(certificate=certificate, key=key)
    contexts = tls_module.Contexts()
    first = contexts.get(files)
    os.utime(certificate, (1, 1))
    with no_more_files(), pytest.raises(OSError, match="open files"):
        contexts.get(files)
    assert contexts.get(files) is not first


def test_an_answer_that_is_out_of_date_does_not_fail_a_call() -> None:
    async def main() -> None:
        async with listening(Peer(CLOSING), host="127.0.0.3") as peer:
            names = Names({"moved.example": ["127.0.0.3"]})
            async with upstream_client(names, dns_ttl_seconds=10) as client:
                origin = peer.origin(host="moved.example")
                assert await get(client, origin) == "hi"
                before = (Address(family=socket.AF_INET, address=("127.0.0.2", peer.port)),)
                old = Resolved(addresses=before, fresh_until=client.ticker.now - 1)
                client._dialer._resolver._known[("moved.example", peer.port)] = old
                assert await get(client, origin) == "hi"

    run(main())


def test_tls_trusts_the_given_authority_alone_and_always_checks_the_name(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")

    async def main() -> None:
        context = authority.server_context(["127.0.0.1", "known.example"])
        async with listening(Peer(), tls=context) as peer:
            names = Names({"known.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
            trusted = TlsFiles(ca_file=str(authority.certificate))
            async with upstream_client(names) as client:

                async def ask(host: str, tls: TlsFiles | None) -> str:
                    return await get(client, peer.origin(scheme="https", host=host, tls=tls))

                assert await ask("127.0.0.1", trusted) == "hi"
                assert await ask("known.example", trusted) == "hi"
                assert await ask("other.example", trusted) == UNTRUSTED
                assert await ask("known.example", None) == UNTRUSTED
                assert await ask("known.example", TlsFiles(ca_file=str(stranger.certificate))) == UNTRUSTED
                assert await ask("known.example", TlsFiles(ca_file="/nowhere.pem")) == (
                    "the connection's TLS files: ca_file: can't be read as certificates in PEM form"
                )
                await until(lambda: client.open_connections == 2, "closing of what failed")

    run(main())


def test_a_client_certificate_is_shown_and_a_changed_file_is_read_again(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")

    async def main() -> None:
        context = authority.server_context(["127.0.0.1"], clients.certificate)
        async with listening(Peer(CLOSING), tls=context) as peer, upstream_client() as client:
            certificate, key = clients.issue("me", [])
            tls = TlsFiles(ca_file=str(authority.certificate), certificate=certificate, key=key)
            origin = peer.origin(scheme="https", tls=tls)
            assert await get(client, origin) == "hi"
            assert peer.seen[-1].client["subject"] == ((("commonName", "me"),),)
            clients.issue("me", ["again.example"])
            assert await get(client, origin) == "hi"
            assert peer.seen[-1].client["subjectAltName"] == (("DNS", "again.example"),)
            await asyncio.to_thread(Path(certificate).write_text, "half written", encoding="ascii")
            assert await get(client, origin) == "hi"
            anonymous = peer.origin(scheme="https", tls=TlsFiles(ca_file=str(authority.certificate)))
            assert "upstream" in await get(client, anonymous)

    run(main())


def test_each_of_the_tls_files_is_read_again_when_it_has_changed(authority: Authority, tmp_path: Path) -> None:
    clients, trusted = Authority(tmp_path, "clients"), tmp_path / "trusted.pem"

    def put(path: Path, content: str) -> None:
        """A file that is newer than what was there, whatever the clock's steps."""
        later = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else 0
        path.write_text(content, encoding="ascii")
        os.utime(path, ns=(later, later))

    def text_of(path: str) -> str:
        return Path(path).read_text(encoding="ascii")

    async def main() -> None:
        context = authority.server_context(["127.0.0.1"], clients.certificate)
        async with listening(Peer(CLOSING), tls=context) as peer, upstream_client() as client:
            put(trusted, clients.certificate.read_text(encoding="ascii"))
            certificate, key = (Path(path) for path in clients.issue("me", ["first.example"]))
            tls = TlsFiles(ca_file=str(trusted), certificate=str(certificate), key=str(key))
            origin = peer.origin(scheme="https", tls=tls)
            assert await get(client, origin) == UNTRUSTED
            put(trusted, authority.certificate.read_text(encoding="ascii"))
            assert await get(client, origin) == "hi"

            new = clients.issue("new", ["second.example"])
            with capture_logs() as logs:
                put(certificate, text_of(new[0]))  # does not fit the key yet
                for _ in range(2):
                    assert await get(client, origin) == "hi"
                    assert peer.seen[-1].client["subjectAltName"] == (("DNS", "first.example"),)
            assert [line["event"] for line in logs] == ["TLS files not read again; the former ones stay in use"]
            put(key, text_of(new[1]))
            assert await get(client, origin) == "hi"
            assert peer.seen[-1].client["subjectAltName"] == (("DNS", "second.example"),)

            put(certificate, clients.issue_again("new", ["third.example"]))  # for the key that is there
            assert await get(client, origin) == "hi"
            assert peer.seen[-1].client["subjectAltName"] == (("DNS", "third.example"),)

    run(main())


def test_a_connection_with_authorities_of_its_own_trusts_no_other(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))  # the system's, to OpenSSL
    stranger = Authority(tmp_path, "stranger").certificate

    async def main() -> None:
        async with listening(Peer(), tls=authority.server_context(["127.0.0.1"])) as peer, upstream_client() as client:

            async def ask(tls: TlsFiles | None) -> str:
                return await get(client, peer.origin(scheme="https", tls=tls))

            assert await ask(None) == "hi"
            assert await ask(TlsFiles(ca_file=str(stranger))) == UNTRUSTED
            assert await ask(TlsFiles(authorities=stranger.read_text(encoding="ascii"))) == UNTRUSTED
            assert await ask(TlsFiles(authorities=authority.certificate.read_text(encoding="ascii"))) == "hi"

    run(main())


def test_the_server_is_offered_the_one_protocol_we_speak(authority: Authority) -> None:
    async def main() -> None:
        context = authority.server_context(["127.0.0.1"])
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with listening(Peer(), tls=context) as peer, upstream_client() as client:
            tls = TlsFiles(ca_file=str(authority.certificate))
            assert await get(client, peer.origin(scheme="https", tls=tls)) == "hi"
            assert peer.seen[0].protocol == "http/1.1"

    run(main())


def test_sessions_are_kept_for_each_host_and_the_oldest_are_dropped(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "MAX_SESSIONS", 2)

    async def main() -> None:
        hosts = [f"{letter}.example" for letter in "abc"]
        async with listening(Peer(CLOSING), tls=authority.server_context(hosts)) as peer:
            tls = TlsFiles(ca_file=str(authority.certificate))
            async with upstream_client(Names({host: ["127.0.0.1"] for host in hosts})) as client:
                for letter in "abacab":
                    assert await get(client, peer.origin(scheme="https", host=f"{letter}.example", tls=tls)) == "hi"
                assert [seen.resumed for seen in peer.seen] == [False, False, True, False, True, False]

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_second_handshake_resumes_the_session(authority: Authority, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        context = authority.server_context(["127.0.0.1"])
        context.minimum_version = context.maximum_version = version
        async with listening(Peer(CLOSING), tls=context) as peer, upstream_client() as client:
            origin = peer.origin(scheme="https", tls=TlsFiles(ca_file=str(authority.certificate)))
            for _ in range(3):
                assert await get(client, origin) == "hi"
            assert [seen.resumed for seen in peer.seen] == [False, True, True]
            other = authority.server_context(["127.0.0.1"])  # a server that does not know the session
            other.minimum_version = other.maximum_version = version
            async with listening(Peer(CLOSING), tls=other) as stranger:
                assert await get(client, stranger.origin(scheme="https", tls=origin.tls)) == "hi"
                assert [seen.resumed for seen in stranger.seen] == [False]

    run(main())


@pytest.mark.parametrize("setting", ["tls_handshake_timeout_seconds", "total_timeout_seconds"])
def test_a_tls_handshake_has_a_limit_of_its_own(setting: str) -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, limited_to(setting) as client:
            assert await get(client, peer.origin(scheme="https")) == "the upstream took too long for the TLS handshake"
            await until(lambda: peer.all_ended and client.open_connections == 0, "close")

    run(main())


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03"])
def test_what_does_not_speak_tls_is_told_as_such(words: bytes, reset: bool) -> None:
    async def main() -> None:
        async with listening(BluntPeer(words, reset=reset)) as peer, limited_to("total_timeout_seconds", 5) as client:
            assert await get(client, peer.origin(scheme="https")) == "the TLS handshake with the upstream failed"
            await until(lambda: peer.all_ended and client.open_connections == 0, "close")

    run(main())


def proxy_of(peer: Peer, kind: str, password: str = "pass") -> Proxy:
    """``peer`` as a proxy of this kind."""
    return Proxy(kind=kind, host=peer.host, port=peer.port, username="user", password=password)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_calls_go_through_a_proxy(authority: Authority, kind: str, scheme: str) -> None:
    async def main() -> None:
        context = authority.server_context(["far.example"]) if scheme == "https" else None
        async with listening(Peer(), tls=context) as peer, listening(ProxyPeer(kind)) as proxy:
            names = Names({"far.example": ["127.0.0.1"]} if kind == "socks5" else {})
            tls = TlsFiles(ca_file=str(authority.certificate)) if context else None
            async with upstream_client(names) as client:
                origin = peer.origin(scheme=scheme, host="far.example", proxy=proxy_of(proxy, kind), tls=tls)
                assert [await get(client, origin) for _ in range(3)] == ["hi"] * 3
                asked = "127.0.0.1" if kind == "socks5" else "far.example"
                assert isinstance(proxy, ProxyPeer)
                assert proxy.asked == [f"{asked}:{peer.port}"]
                wrong = peer.origin(scheme=scheme, host="far.example", proxy=proxy_of(proxy, kind, "x"), tls=tls)
                assert await get(client, wrong) == "the proxy does not accept our credentials"
                assert len(peer.seen) == 1

    run(main())


def test_a_proxys_address_is_judged() -> None:
    async def main() -> None:
        async with listening(ProxyPeer("http")) as proxy, upstream_client() as client:
            for host in ("api.example.com", "1.1.1.1"):
                origin = proxy.origin(host=host, allow_private=False, proxy=proxy_of(proxy, "http"))
                assert "private" in await get(client, origin)
            metadata = Proxy(kind="http", host="169.254.169.254", port=80)
            assert "metadata service" in await get(client, proxy.origin(proxy=metadata))
            gone = Proxy(kind="http", host="127.0.0.2", port=proxy.port)
            assert await get(client, proxy.origin(proxy=gone)) == "the proxy refused the connection or can't be reached"
            assert proxy.seen == []

    run(main())


def test_a_local_name_for_socks5_is_judged_before_the_proxy_is_asked() -> None:
    async def main() -> None:
        async with listening(ProxyPeer("socks5")) as proxy:
            async with upstream_client(Names({"m.example": ["169.254.169.254"]})) as client:
                origin = proxy.origin(host="m.example", proxy=proxy_of(proxy, "socks5"))
                assert "metadata service" in await get(client, origin)
            assert isinstance(proxy, ProxyPeer)
            assert proxy.asked == []

    run(main())


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
def test_a_forbidden_address_is_never_asked_of_a_proxy(kind: str) -> None:
    async def main() -> None:
        async with listening(ProxyPeer(kind)) as proxy, upstream_client() as client:
            origin = proxy.origin(host="169.254.169.254", proxy=proxy_of(proxy, kind))
            assert "metadata service" in await get(client, origin)
            assert isinstance(proxy, ProxyPeer)
            assert proxy.asked == []

    run(main())


def test_a_silent_proxy_is_told_apart_from_a_silent_upstream() -> None:
    async def main() -> None:
        for setting, kind in (("connect_timeout_seconds", "http"), ("total_timeout_seconds", "socks5h")):
            async with listening(Peer(None)) as silent, limited_to(setting) as client:
                origin = silent.origin(host="far.example", proxy=proxy_of(silent, kind))
                assert await get(client, origin) == "the proxy took too long to connect to the upstream"
                await until(lambda silent=silent: silent.all_ended, "close")  # type: ignore[misc]
                assert client.open_connections == 0
        async with (
            listening(Peer(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nextra")) as chatty,
            upstream_client() as client,
        ):
            origin = chatty.origin(host="far.example", proxy=proxy_of(chatty, "http"))
            assert await get(client, origin) == "the proxy sent more than it was asked for"

    run(main())


CUT = "the proxy closed the connection before the upstream was reached"


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("http", b"", CUT),
        ("http", b"HTTP/1.1 200 OK\r\n", CUT),
        ("http", b"HTTP/1.1 100 Continue\r\n\r\n", CUT),
        ("http", b"\x05\x00\r\n\r\n", "the proxy's answer is not valid HTTP"),
        ("http", b"HTTP/1.1 503 Full\r\n\r\n", "the proxy did not connect to the upstream: it answered 503"),
        ("http", b"x" * 20000, "the proxy's answer has too large a head"),
        ("socks5h", b"", CUT),
        ("socks5h", b"\x05", CUT),
        ("socks5h", b"\x05\x02", CUT),
        ("socks5h", b"\x05\x02\x01\x00", CUT),
        ("socks5h", b"HTTP/1.1 400 Bad Request\r\n\r\n", "the proxy does not speak SOCKS5"),
        ("socks5h", b"\x05\xff", "the proxy wants another kind of credentials"),
        ("socks5h", b"\x05\x00\x05\x04", "the proxy did not connect to the upstream: can't reach it"),
    ],
)
def test_a_proxy_that_hangs_up_or_talks_rubbish_is_told_and_leaves_nothing_behind(
    kind: str, words: bytes, told: str, reset: bool
) -> None:
    async def main() -> None:
        async with listening(BluntPeer(words, reset=reset)) as proxy, limited_to("total_timeout_seconds", 5) as client:
            answer = await get(client, proxy.origin(host="far.example", proxy=proxy_of(proxy, kind)))
            assert answer == told or (reset and answer == CUT)  # a reset may overtake what was said before it
            await until(lambda: proxy.all_ended and client.open_connections == 0, "close")

    run(main())


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, listening(ProxyPeer("http")) as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://user:pass@127.0.0.1:{proxy.port}")
            async with upstream_client() as client:
                assert await get(client, peer.origin()) == "hi"
            assert (len(peer.seen), len(proxy.seen)) == (1, 0)

    run(main())
