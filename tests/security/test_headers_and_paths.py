"""Headers and targets that pretend: only exact names count, only listed peers are believed, only raw paths decide."""

import json
from collections.abc import Iterator

import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.errors import ConfigError
from pointsman.server.peers import MAX_HOPS, TrustedProxies
from pointsman.server.targets import read_target
from pointsman.settings import parse_settings
from pointsman.testing import Gemini, RunningSimulator, running_simulator
from raw_client import CHAT, Connection, ask, chat, chat_body, request

SETTINGS = {"server": {"trusted_proxies": ["127.0.0.1"]}}


@pytest.fixture(scope="module")
def google() -> Iterator[RunningSimulator]:
    """An upstream that is told the model in a request's first line."""
    with running_simulator(Gemini(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    shared_simulator: RunningSimulator, google: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """One whose upstreams have the model's name in the body (``sim``) or in the first line (``azure``, ``google``)."""
    sites = {
        "sim": ("openai", shared_simulator.base_url),
        "azure": ("azure", shared_simulator.origin),
        "google": ("gemini", google.origin),
    }
    connections = [
        {"id": name, "kind": kind, "base_url": address, "api_key": UPSTREAM_KEY}
        for name, (kind, address) in sites.items()
    ]
    with running_gateway(tmp_path_factory.mktemp("gateway"), {**SETTINGS, "connections": connections}) as running:
        yield running


@pytest.mark.parametrize("name", ["x_api_key", "authorization_", "Authorization_Bearer", "X_API-KEY"])
def test_an_underscore_is_no_hyphen(gateway: RunningGateway, simulator: RunningSimulator, name: str) -> None:
    assert ask(gateway.port, chat("", f"{name}: {KEY}", f"{name}2: Bearer {KEY}", key=None)).status == 401
    assert simulator.requests == ()


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "x-goog-api-key", "api-key", "host", "content-type"])
def test_a_header_that_decides_given_twice(gateway: RunningGateway, simulator: RunningSimulator, name: str) -> None:
    value = {"host": "gateway", "authorization": f"Bearer {KEY}"}.get(name, KEY)
    lines = [f"{name}: {value}", f"{name.upper()}: {value}"]
    answer = ask(gateway.port, chat("", *lines, key=None))
    assert (answer.status, name in answer.error["message"]) == (400, True)
    assert simulator.requests == ()


def test_hop_by_hop_names_in_connection_take_nothing_away(gateway: RunningGateway) -> None:
    lines = ("connection: authorization, x-forwarded-for, content-length, host", "x-forwarded-for: 203.0.113.9")
    assert ask(gateway.port, chat("", *lines)).status == 200
    assert ask(gateway.port, request("GET", "/metrics", b"", *lines, key=None)).status == 401


def test_no_header_of_the_client_reaches_the_upstream(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    lines = ("te: trailers", "cookie: a=b", "proxy-authorization: x", "x-evil: y", "user-agent: client", "forwarded: z")
    assert ask(gateway.port, chat("", *lines)).status == 200
    [received] = simulator.requests
    for line in lines:
        name, _, value = line.partition(": ")
        assert received.header(name) != value
    assert KEY not in repr(received.headers)


NASTY = ["a\r\nx-evil: 1\r\n\r\n", "a\nset-cookie: b", "a\x00b", "a\u2028b", "é\r\n"]
# What is a whole first line, and a header behind it, where the name stands as it is.
LINES = ["a/chat/completions HTTP/1.1\r\nx-evil: 1\r\nx: ", "a:generateContent HTTP/1.1\r\nx-evil: 1\r\nx: "]


@pytest.mark.parametrize("model", [*LINES, *NASTY])
def test_crlf_in_a_model_name_makes_no_header(
    gateway: RunningGateway, simulator: RunningSimulator, google: RunningSimulator, model: str
) -> None:
    google.log.clear()
    for name in (model, f"sim/{model}", f"azure/{model}", f"google/{model}"):
        with Connection(gateway.port) as connection:
            connection.ask(chat("", model=name))
            answer = connection.ask(chat())
            assert answer.status == 200
            assert "x-evil" not in answer.headers
    asked = [*simulator.requests, *google.requests]
    for received in asked:
        assert received.header("x-evil") is None
        assert received.header("set-cookie") is None
    assert len(asked) == 7  # the name in each of the three places, and an ordinary one behind each attempt
    answer = ask(gateway.port, request("GET", "/v1/models/a%0d%0ax-evil:%201%0d%0a%0d%0a"))
    assert (answer.status, "x-evil" in answer.headers) == (404, False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mount", ["crosscompute", "hardcarrx"])
@pytest.mark.parametrize("model", ["a\r\nx-evil: 1\r\nset-cookie: b", *NASTY])
def test_crlf_in_a_model_name_makes_no_header_where_the_answer_names_it(
    gateway: RunningGateway, mount: str, model: str, *, stream: bool
) -> None:
    def heads(name: str) -> dict[str, str]:
        more = {"provider": "sim"} if mount == "hardcarrx" else {}
        body = chat_body(model=f"sim/{name}", stream=stream, **more)
        answer = ask(gateway.port, request("POST", f"/{mount}/v1/chat/completions", body))
        assert answer.status == 200, answer.body
        return answer.headers

    named, plain = heads(model), heads("a")
    assert named.keys() == plain.keys()
    assert all(value.isascii() and value.isprintable() for value in named.values())


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "user@host",
        "a\\b",
        "[::1",
        "::1",
        "a:b",
        "a:99999999",
        "é",
        "a%2fb",
        "<script>",
        "a:1:2",
    ],
)
def test_a_host_that_is_no_host(gateway: RunningGateway, host: str) -> None:
    heads = {
        "usual": f"GET /health HTTP/1.1\r\nhost: {host}",
        "last of its connection": f"GET /health HTTP/1.1\r\nhost: {host}\r\nconnection: close",
        "HTTP/1.0": f"GET /health HTTP/1.0\r\nhost: {host}",
    }
    if not {"/", "?"} & set(host):  # these end the host of a target
        heads["absolute target"] = f"GET http://{host}/health HTTP/1.1\r\nhost: gateway"
    for name, head in heads.items():
        with Connection(gateway.port) as connection:
            answer = connection.ask(f"{head}\r\n\r\n".encode())
            assert (name, answer.status) == (name, 400)
            assert connection.is_closed()


@pytest.mark.parametrize("host", ["gateway", "gateway:20128", "127.0.0.1", "[::1]:80", "", "a.b-c_d.example."])
def test_a_sound_host(gateway: RunningGateway, host: str) -> None:
    assert ask(gateway.port, f"GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()).status == 200


def test_no_host_and_two_hosts(gateway: RunningGateway) -> None:
    assert ask(gateway.port, b"GET /health HTTP/1.1\r\n\r\n").status == 400
    assert ask(gateway.port, b"GET /health HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n").status == 400
    assert ask(gateway.port, b"GET /health HTTP/1.1\r\nhost: a\r\nHOST: b\r\n\r\n").status == 400
    assert ask(gateway.port, b"GET /health HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://any.example/health", 200),
        ("HTTP://any.example:80/health", 200),
        ("http://any.example/v1/nothing", 404),
        ("http://any.example", 200),
        ("http://any.example?x=/health", 200),
        ("http://any.example?x=/v1/nothing", 200),
        ("http:///health", 400),
        ("http://user@any.example/health", 400),
        ("http://any.example\\@x/health", 400),
        ("ftp://any.example/health", 400),
        ("health", 400),
        ("*", 400),
        ("/health?x#/v1/models", 400),
        ("/health#fragment", 400),
        ("http://a/health#b", 400),
    ],
)
def test_absolute_targets_and_odd_ones(gateway: RunningGateway, target: str, status: int) -> None:
    assert ask(gateway.port, request("GET", target)).status == status


def test_the_host_of_an_absolute_target_stands_for_the_header() -> None:
    headers = {b"host": b"gateway"}
    assert read_target(b"GET", b"http://any.example:80/health?x", headers) == b"/health?x"
    assert headers == {b"host": b"any.example:80"}


def test_neither_host_nor_target_change_who_must_show_a_key(gateway: RunningGateway) -> None:
    for host in ("health", "localhost", "127.0.0.1", "gateway"):
        for target in (CHAT, f"http://{host}{CHAT}", f"http://{host}{CHAT}?/health"):
            data = f"POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(chat_body())}\r\n\r\n"
            assert ask(gateway.port, data.encode() + chat_body()).status == 401
        for target in ("/api/providers", f"http://{host}/api/providers", f"http://{host}/api/providers?/health"):
            assert ask(gateway.port, f"GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()).status == 401


# {0} is the path without its first slash, {1} the same with its first letter encoded.
TRICKS = [
    "/{1}", "//{0}", "/./{0}", "/x/../{0}", "/%2e/{0}", "/x/%2e%2e/{0}", "/{0}/", "/{0}/.", "/{0};x", "/{0}%00",
    "/{0}%20", "/{0}.", "/{0}%2f", "/;/{0}", "/\\{0}", "/{0}%3fx", "/%2f{0}",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize(("method", "route"), [("POST", CHAT), ("GET", "/v1/request-logs"), ("GET", "/metrics")])
def test_no_other_spelling_of_a_path_is_the_path(gateway: RunningGateway, trick: str, method: str, route: str) -> None:
    body = chat_body() if method == "POST" else b""
    target = trick.format(route[1:], f"%{ord(route[1]):x}{route[2:]}")
    assert ask(gateway.port, request(method, target, body)).status in (400, 404)
    assert ask(gateway.port, request(method, target, body, key=None)).status in (400, 404)


@pytest.mark.parametrize(
    "route", [CHAT.upper(), "/V1/request-logs", "/v1/Request-Logs", "/v1%2frequest-logs", "/HEALTH"]
)
def test_case_and_encoded_slashes_matter(gateway: RunningGateway, route: str) -> None:
    assert ask(gateway.port, request("GET", route)).status == 404


FORWARDED = ("x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1", "x-client-ip: 127.0.0.1")


def refused_peer(gateway: RunningGateway, *headers: str) -> str:
    """Whom the log names for a request that was refused."""
    answer = ask(gateway.port, request("POST", CHAT, b"x", "content-encoding: lzma", *headers))
    lines = [json.loads(line) for line in gateway.log_text().split("\n") if line]
    [line] = [line for line in lines if line.get("request_id") == answer.request_id]
    return str(line["peer"])


def test_a_listed_proxy_is_believed_about_its_client(gateway: RunningGateway) -> None:
    assert refused_peer(gateway, "x-forwarded-for: 6.6.6.6, 203.0.113.9") == "203.0.113.9"
    assert refused_peer(gateway, "x-forwarded-for: 6.6.6.6", "x-forwarded-for: 203.0.113.9, 127.0.0.1") == "203.0.113.9"
    assert refused_peer(gateway, "x-real-ip: 203.0.113.9") == "127.0.0.1"
    assert refused_peer(gateway, "x-forwarded-for: unknown") == "127.0.0.1"
    for address in ("203.0.113.9", "127.0.0.1", "::1"):
        answer = ask(gateway.port, request("GET", "/metrics", b"", f"x-forwarded-for: {address}", key=None))
        assert answer.status == 401
    assert ask(gateway.port, request("GET", "/metrics", key=None)).status == 200


def test_nobody_is_believed_unless_listed(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"server": {"trusted_proxies": ["10.0.0.0/8"]}}
    with running_gateway(tmp_path_factory.mktemp("proxies"), settings) as gateway:
        for header in FORWARDED:
            assert refused_peer(gateway, header.replace("127.0.0.1", "203.0.113.9")) == "127.0.0.1"
            # A proxy's word makes nobody local who is not.
            assert ask(gateway.port, request("GET", "/metrics", b"", header, key=None)).status == 401


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("10.1.2.3", "10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "evil, 10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "203.0.113.9, unknown, 10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "203.0.113.9" + ", 10.9.9.9" * (MAX_HOPS - 1), "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9" + ", 10.9.9.9" * MAX_HOPS, "10.9.9.9"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "203.0.113.9:4711", "203.0.113.9"),
        ("10.1.2.3", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.1.2.3", "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_nearest_untrusted_address_is_the_client(peer: str, forwarded: str, client: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert peer in proxies
    assert proxies.client(peer, forwarded.encode()) == client


def test_what_is_no_network_is_refused_at_the_start() -> None:
    for network in ("proxy.example", "10.0.0.1/8", "*", ""):
        with pytest.raises(ConfigError, match=r"server\.trusted_proxies\[0\]"):
            parse_settings({"server": {"trusted_proxies": [network]}}, "test")
