"""Clients that take their time, and clients that want another protocol."""

import re
import socket
import time

import pytest

from gateway import RunningGateway, wait_until
from pointsman.server.connection import WRITE_HIGH_WATER
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Connection, ask, chat, request

SETTINGS = {
    "server": {
        "header_timeout_seconds": 0.5,
        "body_timeout_seconds": 0.6,
        "write_timeout_seconds": 0.6,
        "keepalive_timeout_seconds": 0.6,
    }
}
LATEST_S = 2.5


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
        (request("POST", CHAT, b"", "content-length: 1000", "content-encoding: zstd"), b"\x28"),
    ],
    ids=["blank", "target", "lines", "value", "body", "chunks", "extension", "trailer", "encoded"],
)
def test_slowloris(gateway: RunningGateway, data: bytes, again: bytes) -> None:
    with Connection(gateway.port) as connection:
        started = time.monotonic()
        if data:
            assert trickle(connection, data, again) in (408, 400)
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
        connection.send(chat("tokens=300000", stream=True))
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
    "lines",
    [
        ("upgrade: websocket", "connection: upgrade", "sec-websocket-key: AAAA", "sec-websocket-version: 13"),
        ("upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        ("upgrade: tls/1.2", "connection: upgrade"),
    ],
    ids=["websocket", "h2c", "tls"],
)
@pytest.mark.parametrize("path", ["/health", CHAT, "/v1/nothing"])
def test_an_upgrade_is_refused_cleanly_and_nothing_behind_it_is_served(
    gateway: RunningGateway, simulator: RunningSimulator, lines: tuple[str, ...], path: str
) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request("GET", path, b"", *lines) + b"\x81\x05hello" + chat())
        answer = connection.answer()
        assert (answer.status, answer.headers["upgrade"]) == (426, "HTTP/1.1")
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    assert simulator.requests == ()


def test_http_2_with_prior_knowledge_is_refused(gateway: RunningGateway) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
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
