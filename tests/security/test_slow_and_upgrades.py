"""Clients that take their time, and clients that want another protocol."""

import itertools
import json
import re
import socket
import threading
import time

import pytest

from gateway import RunningGateway, wait_until
from pointsman.server.connection import WRITE_HIGH_WATER
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Connection, ask, chat, chat_body, request

SETTINGS = {
    "server": {
        "header_timeout_seconds": 0.5,
        "body_timeout_seconds": 0.6,
        "write_timeout_seconds": 0.6,
        "keepalive_timeout_seconds": 0.6,
    }
}
LATEST_S = 2.5
ZSTD_HEAD = bytes.fromhex("28b52ffd0058")  # of a frame; three zeros are a block with nothing in it, and more behind it
WISHES = {
    # as Java's java.net.http.HttpClient sends it
    "h2c": (
        "Connection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "Upgrade: h2c",
    ),
    "tls": ("upgrade: tls/1.2", "connection: upgrade"),
}


def wishing(wish: str, framing: str) -> bytes:
    """A chat request that wishes for another protocol."""
    body = chat_body()
    if framing == "length":
        return request("POST", CHAT, body, *WISHES[wish])
    chunked = b"%x;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nx-trailer: y\r\n\r\n"
    pieces = (10, body[:10], len(body) - 10, body[10:])
    return request("POST", CHAT, chunked % pieces, *WISHES[wish], "transfer-encoding: chunked")


def trickle(connection: Connection, data: bytes, again: bytes) -> int:
    """Send ``data``, then ``again`` over and over; gives the status of the answer that ends it."""
    connection.send(data)
    connection.socket.settimeout(0.03)
    started = time.monotonic()
    while time.monotonic() - started < 2 * LATEST_S:
        try:
            connection.send(again)
            received = connection.socket.recv(65536)
        except TimeoutError:
            continue
        connection._unread += received
        connection.socket.settimeout(5)
        return connection.answer().status
    raise AssertionError("nobody ended it")


@pytest.mark.parametrize(
    ("data", "again"),
    [
        (b"", b"\r\n"),
        (b"GET /health", b"x"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\n", b"x-more: y\r\n"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: ", b"y"),
        (request("POST", CHAT, b"", "content-length: 100000"), b"x"),
        (request("POST", CHAT, b"", "transfer-encoding: chunked"), b"1\r\nx\r\n"),
        (request("POST", CHAT, b"", "transfer-encoding: chunked") + b"1;", b"y"),
        (request("POST", CHAT, b"", "transfer-encoding: chunked") + b"0\r\nx-trailer: ", b"y"),
        (request("POST", CHAT, b"", "content-length: 1000", "content-encoding: zstd") + ZSTD_HEAD, bytes(3)),
    ],
    ids=["blank", "target", "lines", "value", "body", "chunks", "extension", "trailer", "encoded"],
)
def test_slowloris(gateway: RunningGateway, data: bytes, again: bytes) -> None:
    with Connection(gateway.port) as connection:
        started = time.monotonic()
        if data:
            assert trickle(connection, data, again) == 408
        else:
            with pytest.raises((AssertionError, OSError)):  # closed without a word: nothing was asked
                trickle(connection, data, again)
        assert time.monotonic() - started < LATEST_S


def test_many_slow_clients_do_not_slow_a_quick_one(gateway: RunningGateway) -> None:
    crowd = [Connection(gateway.port) for _ in range(100)]
    try:
        for connection in crowd:
            connection.send(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        started = time.monotonic()
        assert ask(gateway.port, chat()).status == 200
        assert time.monotonic() - started < 1
        wait_until(lambda: gateway.read(lambda: len(gateway.server.edge.connections)) == 0, "end of the slow")
    finally:
        for connection in crowd:
            connection.socket.close()


def test_a_reader_that_stops_holds_little_memory_and_is_cut(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    with Connection(gateway.port, receive_buffer=8192) as connection:
        connection.send(chat("tokens=20000", stream=True, text="x" * 10_000))  # some 100 MB, in a moment
        connection.read_until(b"\n\n")
        most = 0
        started = time.monotonic()
        while gateway.read(lambda: len(gateway.server.edge.connections)):
            most = max(
                most,
                gateway.read(
                    lambda: max(
                        (c._transport.get_write_buffer_size() for c in gateway.server.edge.connections), default=0
                    )
                ),
            )
            assert time.monotonic() - started < LATEST_S
        assert most < WRITE_HIGH_WATER + 1024 * 1024  # the mark, and what was read from the upstream in one go
        simulator.wait_for_disconnect()


def test_bursts_for_a_reader_that_lags_come_in_large_pieces(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    with Connection(gateway.port, receive_buffer=8192) as connection:
        connection.send(chat("tokens=300000", stream=True))  # some 80 MB
        connection.read_until(b"\n\n")
        simulator.wait_for_requests(1)
        wait_until(lambda: gateway.read(lambda: any(c._paused for c in gateway.server.edge.connections)), "pause")
        tail, pieces = b"", 0
        while not re.search(rb"\r\n[0-9a-f]{4,}\r\n", tail):  # a chunk of 4 KiB or more: dozens of events
            tail = tail[-20:] + connection.socket.recv(65536)
            pieces += 1
            assert pieces < 20_000, "every event came in a chunk of its own"


@pytest.mark.parametrize(
    ("wish", "path"),
    [
        *itertools.product(("websocket", "WebSocket", "h2c, websocket"), ("/health", CHAT, "/v1/nothing")),
        ("h2c, websocket", "/v1/responses"),  # where there is one, for who wishes for nothing else
    ],
)
def test_a_websocket_where_there_is_none_is_refused_and_nothing_behind_it_is_served(
    gateway: RunningGateway, simulator: RunningSimulator, wish: str, path: str
) -> None:
    lines = (f"upgrade: {wish}", "connection: upgrade", "sec-websocket-key: AAAA", "sec-websocket-version: 13")
    with Connection(gateway.port) as connection:
        connection.send(request("GET", path, b"", *lines) + b"\x81\x05hello" + chat())
        answer = connection.answer()
        assert (answer.status, answer.headers.get("upgrade")) == (426, "HTTP/1.1")
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    assert simulator.requests == ()


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cut", ["whole", "anywhere", "each byte"])
def test_another_wish_is_ignored_and_its_request_served_with_its_body(
    gateway: RunningGateway, simulator: RunningSimulator, wish: str, framing: str, cut: str
) -> None:
    wished, plain = wishing(wish, framing), chat(text="behind it")
    data = wished + plain
    places = {
        "whole": [[]],
        "anywhere": [[place] for place in range(1, len(data), 23)],
        "each byte": [list(range(1, len(wished) + 20))],
    }[cut]
    for cuts in places:
        simulator.log.clear()
        with Connection(gateway.port) as connection:
            for begin, end in itertools.pairwise([0, *cuts, len(data)]):
                connection.send(data[begin:end])
            answers = [connection.answer()]
            assert answers[0].status == 200, answers[0].body
            answers.append(connection.answer())
            assert [answer.text for answer in answers] == ["echo: one two three", "echo: behind it"]
        first, second = simulator.requests
        assert json.loads(first.body)["messages"][0]["content"] == "one two three"
        assert json.loads(second.body)["messages"][0]["content"] == "behind it"
        assert (first.header("upgrade"), first.header("http2-settings")) == (None, None)


def test_a_wish_is_ignored_behind_other_requests_and_each_time_again(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=30") + wishing("h2c", "length") * 2 + wishing("h2c", "chunked") + chat())
        assert [connection.answer().status for _ in range(5)] == [200] * 5
        for _ in range(4):
            assert connection.ask(wishing("h2c", "length")).text == "echo: one two three"
        health = request("GET", "/health", b"", *WISHES["tls"])
        sender = threading.Thread(target=connection.send, args=(health * 2000,))
        sender.start()
        assert [connection.answer().status for _ in range(2000)] == [200] * 2000
        sender.join()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("content-length: 99999999", 413),
        ("content-length: 5\r\ncontent-encoding: lzma", 415),
        ("transfer-encoding: gzip", 400),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", 400),
        ("content-length: 5\r\ntransfer-encoding: chunked", 400),
        ("content-length: 5\r\nhost: y", 400),
        ("content-length: 5\r\n" + "\r\n".join(f"x-{number}: y" for number in range(200)), 431),
        ("content-length: 5\r\n" + "\r\n".join("x: y" for _ in range(200)), 431),
        ("content-length: 5\r\n" + "\r\n".join(f"x-{number}: y\r\nx: y" for number in range(80)), 431),
        ("content-length: 5\r\nx: " + "y" * 40_000, 431),
    ],
)
def test_a_wish_spares_a_request_no_rule_and_what_is_refused_is_not_continued(
    gateway: RunningGateway, simulator: RunningSimulator, line: str, status: int
) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request("POST", CHAT, b"", *WISHES["h2c"], "expect: 100-continue", line) + b"hello" + chat())
        assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 %d " % status)
        assert connection.read_until(b"\r\n\r\n").endswith(b"connection: close\r\n\r\n")
    assert simulator.requests == ()


def test_a_client_that_wishes_is_told_to_continue(gateway: RunningGateway) -> None:
    head, _, body = wishing("h2c", "length").partition(b"\r\n\r\n")
    with Connection(gateway.port) as connection:
        connection.send(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert connection.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert connection.answer().text == "echo: one two three"


@pytest.mark.parametrize("wish", ["h2c", "websocket"])
def test_in_http_1_0_every_wish_is_ignored(gateway: RunningGateway, wish: str) -> None:
    with Connection(gateway.port) as connection:
        message = chat("", f"upgrade: {wish}", "connection: upgrade").replace(b"HTTP/1.1", b"HTTP/1.0")
        answer = connection.ask(message)
        assert (answer.text, answer.headers["connection"]) == ("echo: one two three", "close")
        assert connection.is_closed()


@pytest.mark.parametrize(
    "preface",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"GET /health HTTP/2.0\r\nhost: gateway\r\nconnection: keep-alive\r\n\r\n",
    ],
    ids=["preface", "request"],
)
def test_http_2_with_prior_knowledge_is_refused(gateway: RunningGateway, preface: bytes) -> None:
    resets = b"".join(
        b"\x00\x00\x04\x03\x00%b\x00\x00\x00\x08" % stream.to_bytes(4, "big") for stream in range(1, 2000, 2)
    )
    with Connection(gateway.port) as connection:
        connection.send(preface + resets)
        assert connection.answer().status in (400, 505)
        assert connection.is_closed()


def test_connect_makes_no_tunnel(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    for target in ("127.0.0.1:1", "/health", "*"):
        with Connection(gateway.port) as connection:
            connection.send(f"CONNECT {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode() + chat())
            assert connection.answer().status == 426
            assert connection.is_closed()
    assert simulator.requests == ()


def test_a_half_closed_slow_client_keeps_nothing_open(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat()[:50])
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.is_closed()
