"""Requests that can't be served, at the edge: each gets a readable answer, then its connection closes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway import KEY, RunningGateway, running_gateway, wait_until
from pointsman.errors import GatewayError, Kind
from pointsman.server import edge
from pointsman.server.exchange import error_headers
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Connection, ask, chat, chat_body, request

SETTINGS = {
    "server": {
        "max_body_bytes": 200_000,
        "max_header_bytes": 8192,
        "max_header_count": 40,
        "header_timeout_seconds": 0.3,
        "body_timeout_seconds": 0.5,
        "keepalive_timeout_seconds": 0.7,
        "write_timeout_seconds": 0.5,
        "hosts": {"router.example": "openrouter"},
    }
}
# By status, what is wrong with a request whose head has this line more and no body behind it.
FAULTS = {
    400: "transfer-encoding: gzip",
    408: "content-length: 5",
    413: "content-length: 99999999",
    415: "content-length: 5\r\ncontent-encoding: lzma",
    426: "connection: upgrade\r\nupgrade: websocket",
    431: f"x-long: {'y' * 9000}",
}
LARGE = b"5000\r\n" + b"x" * 0x5000  # a chunk for whose size much framing is allowed
LATEST_S = 1.8  # a limit, half a second of the ticker, and a stalled machine


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, 1), (0.2, 1), (1, 1), (1.000_001, 2), (59.5, 60), (60.0, 60), (86_399.1, 86_400)]
)
def test_retry_after_is_in_whole_seconds_and_never_too_short(seconds: float, told: int) -> None:
    error = GatewayError(Kind.RATE_LIMITED, "words", retry_after_seconds=seconds)
    assert error_headers(error) == b"retry-after: %d\r\n" % told


def test_a_body_beyond_the_limit_is_refused_by_its_length_and_the_answer_is_readable(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    with Connection(gateway.port) as connection:
        connection.send(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n".encode())
        try:
            for _ in range(100):
                connection.send(b"x" * 100_000)
        except (BrokenPipeError, ConnectionResetError):
            pytest.fail("the connection was reset while the body was sent")
        answer = connection.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert "200000" in answer.error["message"]
        assert answer.headers["connection"] == "close"
    assert simulator.requests == ()


def test_a_chunked_body_beyond_the_limit_is_refused(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request("POST", CHAT, b"", "transfer-encoding: chunked"))
        for _ in range(30):
            connection.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert connection.answer().status == 413


def test_a_body_of_just_the_limit_is_taken(gateway: RunningGateway) -> None:
    room = 200_000 - len(chat_body(text=""))
    assert ask(gateway.port, chat(text="x" * room)).status == 200
    assert ask(gateway.port, chat(text="x" * (room + 1))).status == 413


@pytest.mark.parametrize(
    "headers",
    [
        (f"x-big: {'y' * 9000}",),
        tuple(f"x-{number}: y" for number in range(60)),
        ("x-same: y",) * 60,
        (f"x-{'z' * 9000}: y",),
        (f"x-{'z' * 1000}: y",) * 9,
    ],
    ids=["value", "count", "lines of one name", "name", "bytes of one name"],
)
def test_a_head_beyond_the_limit_is_refused(gateway: RunningGateway, headers: tuple[str, ...]) -> None:
    answer = ask(gateway.port, chat("", *headers))
    assert (answer.status, answer.error["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        b"GET /health HTTP/1.1\r\nhost: x\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: ",
        request("GET", "/health") + b"GET /",
        request("POST", CHAT, b"", "transfer-encoding: chunked") + b"1;",
        request("POST", CHAT, b"", "transfer-encoding: chunked") + b"1\r\nx\r\n0\r\nx-trailer: ",
        request("POST", CHAT, LARGE, "transfer-encoding: chunked") + b"\r\n0\r\nx-trailer: ",
    ],
    ids=["target", "lines", "value", "second", "extension", "trailer", "trailer behind a large body"],
)
def test_what_grows_without_end_is_refused(gateway: RunningGateway, begin: bytes) -> None:
    with Connection(gateway.port) as connection:
        connection.send(begin)
        more = b"x-a: b\r\n" if begin.endswith(b"host: x\r\n") else b"y"
        connection.send(more * (300_000 // len(more)))  # more than one read: in its first it may be behind something
        statuses = [connection.answer().status]
        if begin.startswith(b"GET /health HTTP/1.1\r\nhost: gateway"):
            statuses.append(connection.answer().status)
        assert statuses[-1] == 431
        assert connection.is_closed()


def test_a_target_beyond_the_limit_is_refused(gateway: RunningGateway) -> None:
    assert ask(gateway.port, request("GET", "/" + "a" * 9000)).status in (414, 431)


def test_a_head_of_nearly_the_limit_with_a_large_body_is_taken(gateway: RunningGateway) -> None:
    assert ask(gateway.port, chat("", f"x-big: {'y' * 7000}", text="word " * 10_000)).status == 200


@pytest.mark.parametrize(
    "message",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nbad\x00: y\r\n\r\n",
        b"GET /health HTTP/3.7\r\nhost: x\r\n\r\n",
        request("POST", CHAT, b"{}", "content-length: 2"),
        request("POST", CHAT, b"{}", "content-length: 3"),
        request("POST", CHAT, b"", "content-length: -1"),
        request("POST", CHAT, b"", "content-length: 1e3"),
        request("POST", CHAT, b"{}")[:-6] + b"\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        request("POST", CHAT, b"zz\r\n{}\r\n0\r\n\r\n", "transfer-encoding: chunked"),
        request("POST", CHAT, b"2\r\n{}", "transfer-encoding: gzip"),
        chat("", f"authorization: Bearer {KEY}"),
        chat("", "authorization: Bearer sk-other"),
        chat("", "x-api-key: a", "x-api-key: b"),
        chat("", "host: other"),
    ],
)
def test_what_is_no_sound_http_is_refused(gateway: RunningGateway, simulator: RunningSimulator, message: bytes) -> None:
    with Connection(gateway.port) as connection:
        connection.send(message)
        answer = connection.answer()
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    assert simulator.requests == ()


@pytest.mark.parametrize("status", FAULTS)
@pytest.mark.parametrize("place", ["host", "mount", "path", "shared path"])
def test_openrouters_clients_are_refused_in_its_words(gateway: RunningGateway, status: int, place: str) -> None:
    path = {"host": CHAT, "mount": "/openrouter/api/v1/chat/completions", "path": "/api/v1/credits"}.get(place)
    key = (
        "sk-or-v1-0123456789abcdef" if path is None else KEY
    )  # of OpenRouter's clients on a path that others have, too
    message = request("POST", path or "/api/v1/responses", b"", FAULTS[status], key=key)
    if place == "host":
        message = message.replace(b"host: gateway", b"host: router.example:8080")
    answer = ask(gateway.port, message)
    assert (answer.status, answer.json()["error"]["code"]) == (status, status)


@pytest.mark.parametrize("status", FAULTS)
@pytest.mark.parametrize("path", ["/v1/messages", "/api/v1/messages/count_tokens", "/v1beta/models/m:generateContent"])
def test_clients_of_other_apis_are_refused_in_their_words(gateway: RunningGateway, status: int, path: str) -> None:
    answer = ask(gateway.port, request("POST", path, b"", FAULTS[status]))
    said = answer.json()
    assert answer.status == status
    assert said["error"]["message"]
    if "messages" in path:
        assert (said["type"], type(said["error"]["type"])) == ("error", str)
    else:
        assert (said["error"]["code"], type(said["error"]["status"])) == (status, str)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_ollamas_clients_are_refused_in_its_words(gateway: RunningGateway, path: str) -> None:
    answer = ask(gateway.port, request("POST", path, b"", FAULTS[413]))
    assert (answer.status, type(answer.json()["error"])) == (413, str)


@pytest.mark.parametrize("status", FAULTS)
def test_hardcarrxs_clients_are_refused_with_one_of_its_statuses(gateway: RunningGateway, status: int) -> None:
    answer = ask(gateway.port, request("POST", CHAT, b"", FAULTS[status], key="hmpk_0123456789abcdef"))
    assert (answer.status, answer.json()["error"]["code"]) == (400, 400)


def test_targets_that_are_no_path_or_cut_off_are_refused_like_any(gateway: RunningGateway) -> None:
    for target in ("*", "?", "/", "//", "/openrouter", "/openrouter/", "/\xff", "/%", "/v1?a=b", "http://x/v1"):
        with Connection(gateway.port) as connection:
            connection.send(f"OPTIONS {target} HTTP/1.1\r\nhost: x\r\n{FAULTS[413]}\r\n\r\n".encode("latin-1"))
            assert connection.answer().status in (400, 413)
            assert connection.is_closed()


@pytest.mark.parametrize("encoding", ["compress", "exi", "gzip, lzma", "gzip, br, zstd"])
def test_an_unknown_encoding_is_refused_by_name_and_the_known_ones_are_told(
    gateway: RunningGateway, encoding: str
) -> None:
    answer = ask(gateway.port, chat("", f"content-encoding: {encoding}"))
    assert (answer.status, answer.error["code"]) == (415, "unsupported_content_encoding")
    named = encoding if encoding.count(",") == 2 else encoding.removeprefix("gzip, ")
    assert f"'{named}'" in answer.error["message"]
    assert answer.headers["accept-encoding"] == "gzip, deflate, br, zstd"


def test_identity_is_no_encoding(gateway: RunningGateway) -> None:
    assert ask(gateway.port, chat("", "content-encoding: identity")).status == 200


def slow(gateway: RunningGateway, sent: bytes) -> tuple[int, float]:
    """Status and delay of the answer to a request that never gets any further."""
    with Connection(gateway.port) as connection:
        connection.send(sent)
        started = time.monotonic()
        answer = connection.answer()
        assert answer.error["code"] == "request_timeout"
        assert connection.is_closed()
        return answer.status, time.monotonic() - started


def test_a_head_that_never_ends_is_timed_out(gateway: RunningGateway) -> None:
    status, seconds = slow(gateway, chat()[:40])
    assert status == 408
    assert 0.29 < seconds < LATEST_S


def test_a_body_that_never_ends_is_timed_out(gateway: RunningGateway) -> None:
    status, seconds = slow(gateway, chat()[:-5])
    assert status == 408
    assert 0.45 < seconds < LATEST_S


def test_a_head_that_trickles_is_timed_out(gateway: RunningGateway) -> None:
    started = time.monotonic()
    with Connection(gateway.port) as connection:
        connection.socket.settimeout(0.05)
        message = chat("", "x-filler: " + "y" * 500)
        position = 0
        while time.monotonic() - started < LATEST_S + 1:
            try:
                connection.send(message[position : position + 1])
                position += 1
                connection._unread += connection.socket.recv(65536)
                break
            except TimeoutError:
                continue
        assert connection.answer().status == 408
    assert time.monotonic() - started < LATEST_S


def test_a_second_request_that_never_ends_is_timed_out_too(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        assert connection.ask(chat()).status == 200
        connection.send(chat()[:40])
        assert connection.answer().status == 408
    with Connection(gateway.port) as connection:
        connection.send(chat() + chat()[:40])  # both in one packet
        assert connection.answer().status == 200
        assert connection.answer().status == 408


def test_an_idle_connection_is_closed_without_a_word(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as silent, Connection(gateway.port) as idle:
        started = time.monotonic()
        assert idle.ask(chat()).status == 200
        assert silent.is_closed()
        assert idle.is_closed()
        assert 0.6 < time.monotonic() - started < LATEST_S


def test_a_client_that_never_reads_is_cut_and_recorded(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    before = len(gateway.journal.records())
    with Connection(gateway.port, receive_buffer=8192) as connection:
        connection.send(chat("tokens=300000", stream=True))
        wait_until(lambda: len(gateway.journal.records()) > before, "record")
    record = gateway.journal.records()[before]
    assert record.outcome.value == "client_closed"
    assert record.usage_estimated
    simulator.wait_for_disconnect()


MOST = 5
HEALTH = request("GET", "/health")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[RunningGateway, list[Connection]]]:
    """A patient gateway with as many connections as may be, made one after the other; they have said nothing."""
    with running_gateway(tmp_path, {"server": {"max_connections": MOST}}) as gateway, ExitStack() as stack:
        crowd: list[Connection] = []
        while len(crowd) < MOST:
            crowd.append(stack.enter_context(Connection(gateway.port)))
            wait_until(lambda: len(crowd) == open_connections(gateway), "connection")
        yield gateway, crowd


def open_connections(gateway: RunningGateway) -> int:
    """How many there are."""
    return gateway.read(lambda: len(gateway.server.edge.connections))


def test_a_crowd_beyond_the_limit_is_told_to_come_back(full: tuple[RunningGateway, list[Connection]]) -> None:
    gateway, crowd = full
    for connection in crowd:
        assert connection.ask(HEALTH).status == 200
    with Connection(gateway.port) as one_too_many:
        answer = one_too_many.answer()
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
        assert one_too_many.is_closed()
    for connection in crowd:
        assert connection.ask(HEALTH).status == 200
        connection.socket.close()
    wait_until(lambda: ask(gateway.port, HEALTH).status == 200, "room")


def test_who_has_waited_longest_without_a_whole_request_makes_room(
    full: tuple[RunningGateway, list[Connection]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, (served, silent, half_a_head, half_a_body, last) = full
    monkeypatch.setattr(edge, "NEWCOMER_SECONDS", 0.0)
    assert served.ask(HEALTH).status == 200
    half_a_head.send(HEALTH[:-1])
    half_a_body.send(chat(key="sk-of-nobody")[:-1])
    with ExitStack() as stack:
        for gone in (silent, half_a_head, half_a_body):
            newcomer = stack.enter_context(Connection(gateway.port))
            assert newcomer.ask(HEALTH).status == 200
            assert gone.is_closed()
        assert gateway.read(lambda: len(gateway.server.edge.newcomers)) == 1
        assert (served.ask(HEALTH).status, last.ask(HEALTH).status) == (200, 200)
    assert not gateway.read(lambda: gateway.server.edge.newcomers)


def test_nobody_makes_room_who_has_just_come_or_sends_a_known_callers_body(
    full: tuple[RunningGateway, list[Connection]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, crowd = full
    message = chat()
    monkeypatch.setattr(edge, "NEWCOMER_SECONDS", 1000.0)
    with Connection(gateway.port) as one_too_many:
        assert one_too_many.answer().status == 503
    wait_until(lambda: open_connections(gateway) == MOST, "end of the one too many")
    for connection in crowd:
        connection.send(message[:-1])
    wait_until(lambda: gateway.read(lambda: all(one.is_known() for one in gateway.server.edge.newcomers)), "heads")
    monkeypatch.setattr(edge, "NEWCOMER_SECONDS", 0.0)
    with Connection(gateway.port) as one_too_many:
        assert one_too_many.answer().status == 503
    for connection in crowd:
        connection.send(message[-1:])
        assert connection.answer().status == 404  # there is no such model


def test_after_all_this_nothing_is_held(gateway: RunningGateway) -> None:
    wait_until(lambda: not gateway.read(lambda: len(gateway.server.edge.connections)), "end of every connection")
    assert gateway.read(lambda: gateway.server.edge.active) == 0
