"""The same bytes get the same answers, however the network cut them into packets."""

import asyncio
import gzip
import itertools
import socket
from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.clock import SystemClock
from pointsman.runner import in_task
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import Exchange
from pointsman.server.operations import not_found
from pointsman.server.routes import Router
from pointsman.settings import ServerSettings
from pointsman.ticker import Ticker
from raw_client import parse_answer

LIMITS = ServerSettings(max_body_bytes=5000, max_header_bytes=4000, max_header_count=20)
PATIENCE_S = 5.0
HOST = b"host: x\r\n"


def told(exchange: Exchange) -> bytes:
    """What a handler saw of a request."""
    return b" ".join((exchange.method, exchange.path, exchange.query, exchange.body))


async def now(exchange: Exchange) -> None:
    """Answers at once."""
    exchange.respond(200, told(exchange))


async def later(exchange: Exchange) -> None:
    """Answers after some turns of the loop."""
    await in_task()
    for _ in range(5):
        await asyncio.sleep(0)
    exchange.respond(200, told(exchange))


async def stream(exchange: Exchange) -> None:
    """Answers in parts."""
    await in_task()
    exchange.start(200, b"text/plain")
    for part in (b"begin ", told(exchange), b" end"):
        await asyncio.sleep(0)
        exchange.write(part)
    exchange.finish()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all examples."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.get_loop()


async def exchange_bytes(data: bytes, cuts: list[int]) -> bytes:
    """Everything that a client gets that sends ``data`` cut at these places, until the gateway closes."""
    running = asyncio.get_running_loop()
    clock = SystemClock()
    ticker = Ticker(running, clock)
    router = Router(not_found)
    for path, handler in (("/now", now), ("/later", later), ("/stream", stream)):
        for method in ("GET", "POST"):
            router.add(method, path, handler)
    edge = Edge(LIMITS, ticker, clock, router, error_dialect)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await running.connect_accepted_socket(edge.protocol, theirs)
    try:
        edges = [0, *cuts, len(data)]
        for begin, end in itertools.pairwise(edges):
            try:
                await running.sock_sendall(ours, data[begin:end])
            except (BrokenPipeError, ConnectionResetError):
                break
            for _ in range(2):
                await asyncio.sleep(0)
        received = b""
        async with asyncio.timeout(PATIENCE_S):
            while part := await running.sock_recv(ours, 65536):
                received += part
        return received
    finally:
        transport.abort()
        ours.close()
        ticker.stop()
        await asyncio.sleep(0)


def answers(received: bytes, heads: list[bool]) -> list[tuple[int, bytes, str | None]]:
    """Status, body and Connection of every final answer; interim ones may come or not, as RFC 9110 15.2 has it."""
    found = []
    for number in range(100):
        head_only = number < len(heads) and heads[number]
        parsed = parse_answer(received, ended=True, head_only=head_only)
        if parsed is None:
            return found
        answer, received = parsed
        assert answer.complete
        found.append((answer.status, answer.body, answer.headers.get("connection")))
    raise AssertionError("no end of answers")


def chunked(body: bytes) -> bytes:
    """A body in chunks with extensions and a trailer."""
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    return b"".join(b'%x;a="b"\r\n%b\r\n' % (len(piece), piece) for piece in pieces) + b"0\r\nx-trailer: y\r\n\r\n"


def message(kind: str, path: bytes, body: bytes) -> bytes:
    """One request."""
    if kind in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return kind.encode() + b" " + path + b"?q=1 HTTP/1.1\r\n" + HOST + b"\r\n"
    head = b"POST " + path + b" HTTP/1.1\r\n" + HOST
    if kind == "gzip":
        body = gzip.compress(body, mtime=0)
        head += b"content-encoding: gzip\r\n"
    if kind == "expect":
        head += b"expect: 100-continue\r\n"
    if kind in ("wish", "wish, chunked"):
        head += b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAA\r\nUpgrade: h2c\r\n"
    if kind.endswith("chunked"):
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body)
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


CLOSE = b"GET /later HTTP/1.1\r\nconnection: close\r\n" + HOST + b"\r\n"
ENDS = [
    CLOSE,
    CLOSE + b"garbage behind the end",
    CLOSE + message("GET", b"/now", b""),
    b"GET /now HTTP/1.0\r\n\r\n",
    b"\x00\x01\x02 garbage \r\n\r\n",
    b"GET /now HTTP/1.1\r\n\r\n",
    b"GET /now HTTP/1.1\r\nhost: x\nfoo: y\r\n\r\n",
    b"GET /now HTTP/1.1\r\n" + HOST + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\nframes",
    b"POST /now HTTP/1.1\r\n" + HOST + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 9999\r\n\r\nlarge",
    b"POST /now HTTP/1.0\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 3\r\n\r\nabc",
    b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\nfurther",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /now HTTP/1.1\r\n" + HOST + b"content-length: 9999\r\n\r\nlarge",
    b"POST /now HTTP/1.1\r\n" + HOST + b"content-encoding: lzma\r\ncontent-length: 1\r\n\r\nx",
    b"POST /now HTTP/1.1\r\n" + HOST + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\nnot gzip!",
    b"POST /now HTTP/1.1\r\n" + HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /now HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
]
requests = st.lists(
    st.tuples(
        st.sampled_from(
            ["GET", "HEAD", "OPTIONS", "DELETE", "length", "chunked", "gzip", "expect", "wish", "wish, chunked"]
        ),
        st.sampled_from([b"/now", b"/later", b"/stream", b"/nothing", b"http://x/now"]),
        st.binary(min_size=1, max_size=40),
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(sent=requests, end=st.sampled_from(ENDS), cuts=st.lists(st.integers(1, 1500), max_size=12), all_=st.booleans())
def test_any_split_of_the_same_bytes_gets_the_same_answers(
    loop: asyncio.AbstractEventLoop, sent: list[tuple[str, bytes, bytes]], end: bytes, cuts: list[int], all_: bool
) -> None:
    data = b"".join(message(*request) for request in sent) + end
    places = list(range(1, len(data))) if all_ else sorted({cut for cut in cuts if cut < len(data)})
    heads = [request[0] == "HEAD" for request in sent]
    whole = answers(loop.run_until_complete(exchange_bytes(data, [])), heads)
    split = answers(loop.run_until_complete(exchange_bytes(data, places)), heads)
    assert split == whole
    assert len(whole) == len(sent) + 1
    assert whole[-1][2] == "close"


def test_a_fault_is_told_behind_the_answers_of_those_before_it(loop: asyncio.AbstractEventLoop) -> None:
    data = message("GET", b"/later", b"") * 2 + b"\x00 garbage\r\n\r\n"
    for cuts in ([], [len(data) // 2], list(range(1, len(data)))):
        found = answers(loop.run_until_complete(exchange_bytes(data, cuts)), [])
        assert [status for status, _, _ in found] == [200, 200, 400]
