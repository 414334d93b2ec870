"""HTTP/1.1 as clients really speak it: whole and in pieces, polite and rude."""

import socket
import time

import pytest

from gateway import KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Connection, ask, chat, chat_body, request

SETTINGS = {"server": {"max_body_bytes": 4 * 1024 * 1024}}
HEALTH = request("GET", "/health", key=None)


def chunked(body: bytes, size: int) -> bytes:
    """``body`` in chunks of ``size`` bytes."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_a_connection_serves_many_requests(gateway: RunningGateway) -> None:
    ids = set()
    with Connection(gateway.port) as connection:
        for number in range(20):
            answer = connection.ask(chat(stream=number % 2 == 0))
            assert answer.text == "echo: one two three"
            assert "connection" not in answer.headers
            ids.add(answer.request_id)
    assert len(ids) == 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_comes_byte_by_byte_is_a_request(gateway: RunningGateway, stream: bool) -> None:
    with Connection(gateway.port) as connection:
        for byte in chat(stream=stream):
            connection.send(bytes((byte,)))
        assert connection.answer().text == "echo: one two three"


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_chunked_request_body_is_a_body(gateway: RunningGateway, simulator: RunningSimulator, size: int) -> None:
    body = chat_body(text="chunk " * 50)
    message = request("POST", CHAT, chunked(body, size), "transfer-encoding: chunked")
    with Connection(gateway.port) as connection:
        assert connection.ask(message).status == 200
        assert connection.ask(chat()).status == 200
    assert b"chunk chunk" in simulator.requests[0].body
    assert simulator.requests[0].header("transfer-encoding") is None


def test_trailers_are_no_headers(gateway: RunningGateway) -> None:
    body = chunked(chat_body(), 50)[:-2] + f"authorization: Bearer {KEY}\r\n\r\n".encode()
    assert ask(gateway.port, request("POST", CHAT, body, "transfer-encoding: chunked", key=None)).status == 401


def test_a_trailer_without_end_is_refused(gateway: RunningGateway) -> None:
    body = chunked(chat_body(), 50)[:-2] + b"x-endless: " + b"y" * 300_000
    with Connection(gateway.port) as connection:
        connection.send(request("POST", CHAT, body, "transfer-encoding: chunked"))
        assert connection.answer().status in (400, 431)


def test_pipelined_requests_are_answered_in_their_order(gateway: RunningGateway) -> None:
    texts = [f"number {number}" for number in range(12)]
    messages = [
        chat("tokens=4,pace_ms=1,first_token_ms=5" if number % 3 == 0 else "", text=text, stream=number % 2 == 0)
        for number, text in enumerate(texts)
    ]
    with Connection(gateway.port) as connection:
        connection.send(b"".join(messages))
        answers = [connection.answer() for _ in texts]
    for number, (answer, text) in enumerate(zip(answers, texts, strict=True)):
        assert answer.status == 200
        assert answer.complete
        assert f"number {number}" in answer.text
        assert text in answer.text


def test_pipelined_requests_cut_anywhere_are_answered(gateway: RunningGateway) -> None:
    data = chat() + HEALTH + chat(stream=True) + HEALTH
    for cut in range(1, len(data), 37):
        with Connection(gateway.port) as connection:
            connection.send(data[:cut])
            time.sleep(0.001)
            connection.send(data[cut:])
            assert [connection.answer().status for _ in range(4)] == [200] * 4


def test_pipelined_requests_before_a_half_close_are_all_answered(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=30") + HEALTH + chat(stream=True))
        connection.socket.shutdown(socket.SHUT_WR)
        assert [connection.answer().status for _ in range(3)] == [200] * 3
        assert connection.is_closed()


def test_expect_100_continue_is_answered_before_the_body_is_sent(gateway: RunningGateway) -> None:
    body = chat_body()
    head = request("POST", CHAT, body, "expect: 100-continue")[: -len(body)]
    with Connection(gateway.port) as connection:
        connection.send(head)
        assert connection.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert connection.answer().status == 200


def test_expect_100_continue_behind_another_request_is_answered_too(gateway: RunningGateway) -> None:
    body = chat_body()
    head = request("POST", CHAT, body, "expect: 100-continue")[: -len(body)]
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=60"))
        connection.send(head)
        assert connection.answer().status == 200
        assert connection.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert connection.answer().status == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("content-length: 5000000", 413),
        ("content-length: 5\r\ncontent-encoding: lzma", 415),
        ("transfer-encoding: gzip", 400),
        ("content-length: 5\r\nhost: y", 400),
    ],
)
def test_a_body_that_would_be_refused_is_refused_instead_of_continued(
    gateway: RunningGateway, line: str, status: int
) -> None:
    with Connection(gateway.port) as connection:
        connection.send(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{line}\r\nexpect: 100-continue\r\n\r\n".encode())
        assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 %d " % status)  # and no interim answer before it


def test_a_refused_body_behind_another_request_is_not_continued_either(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=60"))
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\nexpect: 100-continue\r\n\r\n"
        connection.send(head.encode())
        assert connection.answer().status == 200
        assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 413 ")
        assert connection.read_until(b"\r\n\r\n").endswith(b"connection: close\r\n\r\n")


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0_gets_an_answer_that_ends_with_the_connection(gateway: RunningGateway, stream: bool) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat(stream=stream).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = connection.answer()
        assert answer.text == "echo: one two three"
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()


def test_http_1_0_with_keep_alive_is_told_that_it_has_it_or_closed(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        answer = connection.ask(chat("", "connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
        if answer.headers.get("connection", "").lower() != "keep-alive":
            assert answer.headers["connection"] == "close"
            assert connection.is_closed()


@pytest.mark.parametrize("stream", [False, True])
def test_connection_close_is_kept(gateway: RunningGateway, stream: bool) -> None:
    with Connection(gateway.port) as connection:
        answer = connection.ask(chat("", "connection: close", stream=stream))
        assert answer.headers["connection"] == "close"
        assert answer.text == "echo: one two three"
        assert connection.is_closed()


def test_head_has_the_headers_of_get_and_no_body(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        for path in ("/health", "/v1/models", "/metrics"):
            answer = connection.ask(request("HEAD", path))
            assert answer.status == 200
            assert int(answer.headers["content-length"]) > 0
        assert connection.ask(request("HEAD", "/v1/nothing")).status == 404
        assert connection.ask(HEALTH).status == 200  # nothing was left over in between


def test_a_wrong_method_is_told_the_right_one(gateway: RunningGateway) -> None:
    for method, path, allowed in (("GET", CHAT, "POST"), ("DELETE", "/v1/models", "GET"), ("POST", "/health", "GET")):
        answer = ask(gateway.port, request(method, path))
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
        assert allowed in answer.headers["allow"].replace(" ", "").split(",")


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/chat",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "//v1/chat/completions",
        "/%76%31/chat/completions",
    ],
)
def test_what_is_not_byte_for_byte_a_path_is_not_found(gateway: RunningGateway, path: str) -> None:
    answer = ask(gateway.port, request("POST", path, chat_body()))
    assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_the_absolute_form_of_a_target_is_understood(gateway: RunningGateway) -> None:
    assert ask(gateway.port, request("GET", f"http://127.0.0.1:{gateway.port}/health", key=None)).status == 200


def test_every_answer_has_a_request_id_of_its_own_and_a_date(gateway: RunningGateway) -> None:
    messages = [
        chat(),
        chat(stream=True),
        HEALTH,
        request("GET", "/v1/nothing"),
        request("PUT", CHAT, b"{}"),
        b"x\r\n\r\n",
    ]
    answers = [ask(gateway.port, message) for message in messages]
    ids = [answer.request_id for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("req_") and len(name) == 32 for name in ids)
    assert all(answer.headers["date"].endswith(" GMT") for answer in answers)


def test_a_request_id_of_the_client_is_not_believed(gateway: RunningGateway) -> None:
    assert ask(gateway.port, chat("", "x-request-id: req_mine")).request_id != "req_mine"


def test_a_slow_reader_holds_the_upstream_back(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    with Connection(gateway.port, receive_buffer=16384) as connection:
        connection.send(chat("tokens=300000", stream=True))  # some 80 MB
        connection.read_until(b"\n\n")
        [received] = simulator.wait_for_requests(1)
        seen = [-1]

        def stopped() -> bool:
            before, seen[0] = seen[0], received.sent_bytes
            time.sleep(0.1)
            return before == seen[0] == received.sent_bytes > 0

        wait_until(stopped, "pause of the upstream")
        assert received.sent_bytes < 16_000_000  # what the kernel's buffers of two sockets hold
        held = gateway.read(lambda: max(c._transport.get_write_buffer_size() for c in gateway.server.edge.connections))
        assert held < 1_000_000
        paused_at = received.sent_bytes
        read = 0
        while read < 8_000_000:
            read += len(connection.socket.recv(262144))
        wait_until(lambda: received.sent_bytes > paused_at, "resumption")


def test_a_slow_reader_of_a_stream_gets_all_of_it(gateway: RunningGateway) -> None:
    with Connection(gateway.port, receive_buffer=8192) as connection:
        connection.send(chat("tokens=20000", stream=True))
        time.sleep(0.2)
        received = connection.read_until(b"data: [DONE]\n\n")
        assert received.count(b'"content":') == 20_001


def test_a_gateway_on_ipv6_is_reached(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with running_gateway(tmp_path_factory.mktemp("ipv6"), {"server": {"host": "::1"}}) as gateway:
        assert gateway.address.startswith("http://[::1]:")
        with socket.create_connection(("::1", gateway.port), 5) as client:
            client.sendall(request("GET", "/metrics", b"", "connection: close", key=None))
            assert b" 200 OK" in client.recv(65536)
