"""Large bodies on many connections at once: what they hold is bounded, above all where nobody knows who sends them."""

import gzip
import select
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from backports import zstd

from gateway import KEY, RunningGateway, limited_key, wait_until
from pointsman.server.body_memory import STEP_BYTES
from raw_client import CHAT, Connection, ask, chat, chat_body, request

MEBIBYTE = 1024 * 1024
SETTINGS = {
    "server": {
        "max_body_bytes": 2 * MEBIBYTE,
        "max_body_memory_bytes": 4 * MEBIBYTE,
        "max_decompression_ratio": 10_000,
    }
}
PART = MEBIBYTE  # what strangers may have together
CROWD = 30
BODY = 200_000
CHUNKED = request("POST", CHAT, b"", "transfer-encoding: chunked", key=None)
GEMINI = "/v1beta/models/sim%2Fsim-model:generateContent"


def held(gateway: RunningGateway) -> tuple[int, int]:
    """Bytes that bodies have of the room, and strangers' of these."""
    memory = gateway.server.edge.body_memory
    return gateway.read(lambda: (memory.held, memory.held_by.get(None, 0)))


def unended(size: int, *headers: str, key: str | None = None, path: str = CHAT) -> bytes:
    """So many bytes of a body that is said to be longer."""
    return request("POST", path, b"", f"content-length: {size + 1000}", *headers, key=key) + b" " * size


def unended_packed(size: int) -> bytes:
    """A request without a key whose body is a thousandth of ``size``, unpacks to that, and doesn't end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)
    length = f"content-length: {len(packed) + 1000}"
    return request("POST", CHAT, b"", length, "content-encoding: gzip", key=None) + packed


def chunk(data: bytes) -> bytes:
    """An HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextmanager
def half_sent(gateway: RunningGateway, message: bytes, size: int = BODY) -> Iterator[Connection]:
    """A connection that has sent ``message``, of whose last body so many bytes are counted."""
    with Connection(gateway.port) as connection:
        connection.send(message)
        wait_until(lambda: held(gateway)[0] >= size, "body")
        yield connection


@contextmanager
def stranger(gateway: RunningGateway) -> Iterator[None]:
    """Somebody without a key has taken all of the strangers' part, and can wait."""
    with half_sent(gateway, unended(PART), PART):
        yield


def test_a_crowd_without_a_key_holds_no_more_than_its_part_while_others_are_served(gateway: RunningGateway) -> None:
    message = unended_packed(PART)
    with ExitStack() as stack:
        crowd = [stack.enter_context(Connection(gateway.port)) for _ in range(CROWD)]
        for connection in crowd:
            connection.send(message)
        sockets = {connection.socket: connection for connection in crowd}
        wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) == CROWD - 1, "refusals of all but one")
        for answered in select.select(sockets, [], [], 0)[0]:
            answer = sockets[answered].answer()
            assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
            assert sockets[answered].is_closed()
        assert PART <= held(gateway)[1] <= PART + STEP_BYTES
        assert ask(gateway.port, chat(text="x" * MEBIBYTE)).status == 200
    wait_until(lambda: held(gateway) == (0, 0), "end of all")


def crowd_of(gateway: RunningGateway, stack: ExitStack, key: str) -> int:
    """So many connections send large bodies with a key, and all but some are refused: gives how many bytes are held."""
    crowd = [stack.enter_context(Connection(gateway.port)) for _ in range(CROWD)]
    for connection in crowd:
        connection.send(unended(PART, key=key))
    sockets = [connection.socket for connection in crowd]
    wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) >= CROWD - 2, "refusals")
    return held(gateway)[0]


def test_one_key_holds_no_more_than_half_while_others_are_served(gateway: RunningGateway) -> None:
    other = limited_key(gateway)
    with ExitStack() as stack:
        assert PART <= crowd_of(gateway, stack, KEY) <= 2 * PART
        assert ask(gateway.port, chat(text="x" * MEBIBYTE, key=other)).status == 200
        assert ask(gateway.port, chat(text="x" * MEBIBYTE)).status == 503
        assert ask(gateway.port, chat()).status == 200  # small ones always have room
    wait_until(lambda: held(gateway) == (0, 0), "end of all")


def test_what_all_hold_together_is_bounded_for_known_keys_too(gateway: RunningGateway) -> None:
    others = [limited_key(gateway) for _ in range(5)]
    with ExitStack() as stack:
        for key in (KEY, *others):
            assert crowd_of(gateway, stack, key) <= 4 * PART
        wait_until(lambda: held(gateway)[0] >= 3 * PART, "bodies that are held")
    wait_until(lambda: held(gateway) == (0, 0), "end of all")


@pytest.mark.parametrize(
    ("path", "headers", "key", "known"),
    [
        (CHAT, (), KEY, True),
        (CHAT, (f"x-api-key: {KEY}",), None, True),
        (CHAT, (f"api-key: {KEY}",), None, True),
        (GEMINI, (f"x-goog-api-key: {KEY}",), None, True),
        (f"{GEMINI}?key={KEY}", (), None, True),
        (CHAT, (), None, False),
        (CHAT, (), "sk-pm-" + "0" * 43, False),
        (CHAT, (), f"{KEY}x", False),
        (CHAT, ("x-api-key: x",), None, False),
        (f"{GEMINI}?key=x", (), None, False),
        ("/v1/files", (), None, False),
        ("/upload/v1beta/files?upload_id=x", (), None, False),
    ],
)
def test_who_shows_a_good_key_in_any_of_the_known_ways_is_no_stranger(
    gateway: RunningGateway, path: str, headers: tuple[str, ...], key: str | None, known: bool
) -> None:
    body = chat_body(text="x" * 300_000)
    with stranger(gateway):
        answer = ask(gateway.port, request("POST", path, body, *headers, key=key))
    assert (answer.status != 503) == known
    wait_until(lambda: held(gateway) == (0, 0), "end of all")


def test_a_stranger_that_is_alone_may_send_as_much_as_anybody(gateway: RunningGateway) -> None:
    answer = ask(gateway.port, request("POST", CHAT, chat_body(text="x" * (2 * MEBIBYTE - 1000)), key=None))
    assert answer.status == 401


def test_other_apis_clients_are_told_in_their_words(gateway: RunningGateway) -> None:
    with stranger(gateway):
        answer = ask(gateway.port, request("POST", "/v1/messages", b" " * 300_000, key=None))
    assert (answer.status, answer.json()["error"]["type"]) == (529, "overloaded_error")


def test_small_bodies_are_not_counted(gateway: RunningGateway) -> None:
    with stranger(gateway), Connection(gateway.port) as connection:
        connection.send(unended(STEP_BYTES))
        answer = ask(gateway.port, request("POST", CHAT, b" " * STEP_BYTES, key=None))
        assert answer.status == 401
        assert held(gateway)[0] < PART + 2 * STEP_BYTES


def test_a_body_gives_its_room_back_when_it_is_served(gateway: RunningGateway) -> None:
    with half_sent(gateway, unended(BODY)) as connection:
        connection.send(b" " * 1000)
        assert connection.answer().status == 401
        wait_until(lambda: held(gateway) == (0, 0), "room")


def test_a_body_gives_its_room_back_when_its_connection_ends(gateway: RunningGateway) -> None:
    with half_sent(gateway, unended(BODY)):
        pass
    wait_until(lambda: held(gateway) == (0, 0), "room")


def test_a_body_gives_its_room_back_when_it_takes_too_long(gateway: RunningGateway) -> None:
    with half_sent(gateway, unended(BODY)) as connection:
        gateway.read(lambda: [setattr(one, "deadline", 0.0) for one in gateway.server.edge.connections])
        assert connection.answer().status == 408
        assert held(gateway) == (0, 0)


def test_a_body_gives_its_room_back_when_it_is_refused(gateway: RunningGateway) -> None:
    with half_sent(gateway, unended_packed(BODY)) as connection:
        connection.send(b"x" * 1000)
        assert connection.answer().status == 400
        assert held(gateway) == (0, 0)
    with half_sent(gateway, CHUNKED + chunk(b" " * BODY)) as connection:
        connection.send(chunk(b" " * 2 * MEBIBYTE))
        assert connection.answer().status == 413
        assert held(gateway) == (0, 0)


def test_a_refused_body_gives_its_room_back_before_the_requests_before_it_are_answered(gateway: RunningGateway) -> None:
    with half_sent(gateway, chat("first_token_ms=60000") + CHUNKED + chunk(b" " * BODY)) as connection:
        connection.send(b"no chunk")
        wait_until(lambda: held(gateway) == (0, 0), "room")
        assert gateway.read(lambda: gateway.server.edge.active) == 1


def queued(gateway: RunningGateway) -> bool:
    """Whether any connection has a request that waits behind another."""
    return gateway.read(lambda: any(connection._queue for connection in gateway.server.edge.connections))


def test_a_body_that_waits_behind_another_request_is_counted_until_its_connection_ends(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=60000"))
        wait_until(lambda: gateway.read(lambda: gateway.server.edge.active), "the request before it")
        connection.send(request("POST", CHAT, b" " * 300_000, key=None))
        wait_until(lambda: queued(gateway), "the request in the queue")
        assert held(gateway)[1] >= 300_000
        gateway.read(gateway.server.edge.abort)
    wait_until(lambda: held(gateway) == (0, 0), "room")


def test_small_bodies_that_are_encoded_and_wait_are_counted(gateway: RunningGateway) -> None:
    packed = request("POST", CHAT, gzip.compress(b" " * 60_000), "content-encoding: gzip", key=None)
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=60000"))
        wait_until(lambda: gateway.read(lambda: gateway.server.edge.active), "the request before it")
        connection.send(packed * 100)
        wait_until(lambda: queued(gateway), "the requests in the queue")
        assert PART - 2 * STEP_BYTES < held(gateway)[1] <= PART
        gateway.read(gateway.server.edge.abort)
    wait_until(lambda: held(gateway) == (0, 0), "room")


def test_what_a_coding_holds_counts_where_the_next_one_makes_nothing_of_it(gateway: RunningGateway) -> None:
    packer = zstd.ZstdCompressor()
    named = bytes.fromhex("1f8b08080000000000ff") + b"a" * BODY  # gzip's head, with a file's name that goes on
    packed = packer.compress(named) + packer.flush(zstd.ZstdCompressor.FLUSH_BLOCK)
    length = f"content-length: {len(packed) + 1000}"
    with half_sent(gateway, request("POST", CHAT, b"", length, "content-encoding: gzip, zstd", key=None) + packed):
        assert held(gateway)[1] >= BODY
    wait_until(lambda: held(gateway) == (0, 0), "room")


def test_a_body_that_waited_behind_another_request_gives_its_room_back_at_its_turn(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat("headers_ms=200,fault=slow_headers") + request("POST", CHAT, b" " * 300_000, key=None))
        assert connection.answer().status == 200
        assert connection.answer().status == 401
        wait_until(lambda: held(gateway) == (0, 0), "room")
