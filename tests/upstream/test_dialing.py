"""New connections: which address, through which proxy, with which TLS; over real sockets."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from pointsman.errors import GatewayError
from pointsman.upstream import dialing
from pointsman.upstream.dialing import judged
from pointsman.upstream.egress import check_remote_name
from pointsman.upstream.origins import Proxy, TlsFiles
from pointsman.upstream.resolver import Address, Resolved
from upstream_peers import (
    CLOSING,
    Authority,
    Names,
    Peer,
    ProxyPeer,
    connecting,
    deaf_address,
    get,
    listening,
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


@pytest.mark.parametrize(
    ("setting", "phase"),
    [
        ("tls_handshake_timeout_seconds", "the upstream took too long for the TLS handshake"),
        ("total_timeout_seconds", "the upstream took too long for the TLS handshake"),
    ],
)
def test_a_tls_handshake_has_a_limit_of_its_own(setting: str, phase: str) -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(**{setting: 0.3}) as client:
            assert await get(client, peer.origin(scheme="https")) == phase
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


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.LOCALHOST.", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "10.0.0.1", "0"],
)
def test_a_private_host_behind_a_proxy_is_refused_however_spelt(host: str) -> None:
    with pytest.raises(GatewayError, match="private"):
        check_remote_name(host, allow_private=False)
    check_remote_name(host, allow_private=True)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "2852039166", "Metadata.google.internal.", "::ffff:169.254.169.254"]
)
def test_a_metadata_service_behind_a_proxy_is_refused(host: str) -> None:
    with pytest.raises(GatewayError, match="metadata service: never allowed"):
        check_remote_name(host, allow_private=True)


def test_a_name_behind_a_proxy_is_the_proxys_to_resolve() -> None:
    for host in ("api.example.com", "1.1.1.1", "2606:4700::1111", "10.example"):
        check_remote_name(host, allow_private=False)


def test_a_local_name_for_socks5_is_judged_before_the_proxy_is_asked() -> None:
    async def main() -> None:
        async with listening(ProxyPeer("socks5")) as proxy:
            async with upstream_client(Names({"m.example": ["169.254.169.254"]})) as client:
                origin = proxy.origin(host="m.example", proxy=proxy_of(proxy, "socks5"))
                assert "metadata service" in await get(client, origin)
            assert isinstance(proxy, ProxyPeer)
            assert proxy.asked == []

    run(main())


def test_a_silent_proxy_is_told_apart_from_a_silent_upstream() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as silent, upstream_client(connect_timeout_seconds=0.3) as client:
            origin = silent.origin(host="far.example", proxy=proxy_of(silent, "http"))
            assert await get(client, origin) == "the proxy took too long to connect to the upstream"
            await until(lambda: silent.all_ended, "close")
        async with (
            listening(Peer(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nextra")) as chatty,
            upstream_client() as client,
        ):
            origin = chatty.origin(host="far.example", proxy=proxy_of(chatty, "http"))
            assert await get(client, origin) == "the proxy sent more than it was asked for"

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
