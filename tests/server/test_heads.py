"""Heads that came before are not parsed again, and nobody can tell; nothing of a caller's secrets is kept in them."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from typing import Any

import httptools
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.clock import SystemClock
from pointsman.server import heads
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import CONTINUE, Exchange
from pointsman.server.heads import MOST_HEADS, KnownHeads
from pointsman.server.operations import not_found
from pointsman.server.routes import Router
from pointsman.settings import ServerSettings
from pointsman.ticker import Ticker

LIMITS = ServerSettings(max_body_bytes=5000, max_header_bytes=4000, max_header_count=20)
PATIENCE_S = 2.0
SECRET = "sk-canary-0123456789"
FIELDS = [
    ("Host", "x"), ("Authorization", f"Bearer {SECRET}"), ("x-api-key", SECRET), ("Accept", "*/*"),
    ("User-Agent", "a/1"), ("Content-Type", "application/json"), ("x-note", "one"), ("X-Note-2", ""), ("cookie", "a=b"),
    ("x-forwarded-for", "10.0.0.1"), ("connection", "keep-alive"), ("Accept-Encoding", "gzip, br"),
]  # fmt: skip
# What makes a head another one, or none that may be known.
ODD = [
    "Transfer-Encoding: chunked", "Content-Length: 3", "content-length: 3", "Expect: 100-continue", "Connection: close",
    "Content-Encoding: gzip", "Connection: upgrade\r\nUpgrade: websocket", "x-note:  two  blanks ", "x-tab:\tvalue",
    "x bad: name", " folded", "x-nul: a\0b", "Host: y", "x-length: \r\n Content-Length: 7", "te: trailers",
    "x-note: \r", "x-mark: Content-Length: 9",
]  # fmt: skip


async def echo(exchange: Exchange) -> None:
    """Answers with all that a handler can see of the request; and spoils it, as handlers may."""
    seen: list[Any] = [exchange.method, exchange.path, exchange.query, sorted(exchange.headers.items()), exchange.body]
    exchange.headers.clear()
    exchange.respond(200, repr(seen).encode())


def edge_for(running: asyncio.AbstractEventLoop) -> Edge:
    """An edge that echoes."""
    clock = SystemClock()
    router = Router(not_found)
    for method in ("GET", "POST", "HEAD"):
        router.add(method, "/echo", echo)
    return Edge(LIMITS, Ticker(running, clock), clock, router, error_dialect)


async def answers(edge: Edge, requests: list[bytes]) -> list[tuple[int, bytes]]:
    """What a client gets that sends one request after the other on one connection, each when the last is answered."""
    running = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await running.connect_accepted_socket(edge.protocol, theirs)
    got: list[tuple[int, bytes]] = []
    try:
        for request in requests:
            await running.sock_sendall(ours, request)
            answer = b""
            while not complete(answer):
                part = await asyncio.wait_for(running.sock_recv(ours, 65536), PATIENCE_S)
                if not part:
                    return [*got, (0, answer)]
                answer = (answer + part).removeprefix(CONTINUE)
            head, _, body = answer.partition(b"\r\n\r\n")
            got.append((int(head[9:12]), body))
    finally:
        transport.close()
        ours.close()
    return got


def complete(answer: bytes) -> bool:
    """Whether the bytes are one whole answer."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(blank) and bool(lengths) and len(body) >= int(lengths[0].partition(b":")[2])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all examples."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.get_loop()


def request_of(target: str, fields: list[tuple[str, str]], at: int, body: bytes, odd: str | None = None) -> bytes:
    """A request with its content-length among the fields, and an odd line behind all of them."""
    lines = [f"{name}: {value}" for name, value in fields]
    lines.insert(at, f"Content-Length: {len(body)}")
    if odd is not None:
        lines.append(odd)
    return "\r\n".join([f"POST {target} HTTP/1.1", *lines, "", ""]).encode("latin-1") + body


BODIES = st.binary(min_size=0, max_size=40)
TARGETS = st.sampled_from(["/echo", "/echo?key=v", "/echo?"])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_known_head_means_what_the_parser_says(loop: asyncio.AbstractEventLoop, data: st.DataObject) -> None:
    fields = [("Host", "x"), *data.draw(st.lists(st.sampled_from(FIELDS[1:]), unique=True, max_size=8))]
    at, target = data.draw(st.integers(0, len(fields))), data.draw(TARGETS)
    bodies = data.draw(st.lists(BODIES, min_size=3, max_size=6))
    requests = [request_of(target, fields, at, body) for body in bodies]
    odd = request_of(target, fields, at, b"abc", data.draw(st.sampled_from(ODD)))

    async def story() -> None:
        edge = edge_for(loop)
        found = await answers(edge, requests)
        for _ in range(3):  # it may end the connection
            found += await answers(edge, [odd])
        alone = [(await answers(edge_for(loop), [request]))[0] for request in [*requests, odd, odd, odd]]
        assert found == alone
        assert len(edge.heads) >= 1

    loop.run_until_complete(story())


def test_the_parser_does_not_see_a_head_that_came_twice(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[bytes] = []
    real = httptools.HttpRequestParser

    class Counting:
        """The parser, with a note of what it got."""

        def __init__(self, protocol: object) -> None:
            self._parser = real(protocol)

        def feed_data(self, data: bytes) -> None:
            fed.append(data)
            self._parser.feed_data(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._parser, name)

    requests = [request_of("/echo", FIELDS, 3, b"x" * length) for length in range(6)]
    edge = edge_for(loop)
    monkeypatch.setattr("pointsman.server.connection.httptools.HttpRequestParser", Counting)
    first = loop.run_until_complete(answers(edge, requests[:2]))
    others = loop.run_until_complete(answers(edge, requests[2:]))
    assert [status for status, _ in first + others] == [200] * 6
    assert [data for data in fed if data.endswith(requests[5][-10:])] == []
    assert not any(data in fed for data in requests[2:])


@pytest.mark.parametrize("times", [0, 3], ids=["parsed", "known"])
def test_a_request_for_which_no_handler_can_be_found_ends_and_is_not_counted(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    edge = edge_for(loop)
    request = request_of("/echo", FIELDS, 3, b"x")
    assert [status for status, _ in loop.run_until_complete(answers(edge, [request] * times))] == [200] * times

    def find(_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(edge.router, "find", find)
    [(status, _)] = loop.run_until_complete(answers(edge, [request]))
    assert status != 200
    assert edge.active == 0


def test_no_secret_stays_in_a_known_head(loop: asyncio.AbstractEventLoop) -> None:
    edge = edge_for(loop)
    fields = [*FIELDS, ("Proxy-Authorization", f"Basic {SECRET}"), ("X-Own", SECRET)]
    requests = [request_of(f"/echo?key={SECRET}", fields, 2, b"{}") for _ in range(4)]
    assert [status for status, _ in loop.run_until_complete(answers(edge, requests))] == [200] * 4
    assert len(edge.heads) == 1
    todo, met = [edge.heads], set()
    while todo:
        thing = todo.pop()
        if id(thing) in met:
            continue
        met.add(id(thing))
        assert not isinstance(thing, bytes) or SECRET.encode() not in thing
        if not isinstance(thing, type):
            todo += gc.get_referents(thing)


def test_a_body_beyond_the_limit_is_refused_behind_a_known_head_too(loop: asyncio.AbstractEventLoop) -> None:
    requests = [request_of("/echo", FIELDS, 3, b"x" * size) for size in (1, 2, 3, 4990, 5001)]
    statuses = [status for status, _ in loop.run_until_complete(answers(edge_for(loop), requests))]
    assert statuses == [200, 200, 200, 200, 413]


def test_what_is_known_is_bounded() -> None:
    heads = KnownHeads()
    for number in range(3 * MOST_HEADS):
        data = request_of(f"/echo?{number}", FIELDS, 3, b"x")
        for _ in range(2):
            sighting = heads.look(data)
            assert sighting is not None
            heads.learn(data, sighting)
    assert len(heads) == MOST_HEADS


@pytest.mark.parametrize(
    "data",
    [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab",  # not all of it
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcd",  # more than it
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc",
        b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
def test_only_one_whole_request_with_a_length_is_looked_at(data: bytes) -> None:
    assert KnownHeads().look(data) is None


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every head that is read in order to know it, which takes as long as half a request."""
    real, found = heads._read, []

    def read(head: bytes) -> heads.KnownHead | None:
        found.append(head)
        return real(head)

    monkeypatch.setattr(heads, "_read", read)
    return found


def test_a_head_that_may_not_be_known_is_read_for_that_once(readings: list[bytes]) -> None:
    known = KnownHeads()
    data = request_of("/echo", FIELDS, 3, b"x", "te: trailers")
    for _ in range(10):
        sighting = known.look(data)
        assert sighting is not None
        known.learn(data, sighting)
        assert sighting[3] is None
    assert len(readings) == 1


def test_more_heads_than_may_be_known_are_known_in_part_and_seldom_read(readings: list[bytes]) -> None:
    known = KnownHeads()
    clients = [request_of(f"/echo?{number}", FIELDS, 3, b"x") for number in range(3 * MOST_HEADS // 2)]

    def round_of_all() -> int:
        hits = 0
        for data in clients:
            sighting = known.look(data)
            assert sighting is not None
            if sighting[3] is None:
                known.learn(data, sighting)
            else:
                hits += 1
        return hits

    for _ in range(2):
        round_of_all()
    readings.clear()
    hits = [round_of_all() for _ in range(4)]
    assert min(hits) > len(clients) // 2
    assert len(readings) < len(clients) // 10
