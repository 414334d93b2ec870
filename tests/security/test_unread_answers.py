"""Clients that ask and ask and never read: no answer is made before those in front of it are taken."""

import threading
import time
from collections.abc import Iterator

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.server.connection import PIECE_BYTES, WRITE_HIGH_WATER
from pointsman.server.heads import MANY_HEADS
from pointsman.testing import RunningSimulator
from raw_client import READ_TIMEOUT_S, Connection, chat, read_slowly, request

HASTY = {"write_timeout_seconds": 2.0}
MOST_BYTES = WRITE_HIGH_WATER + 64 * 1024  # the mark, and the answer that went beyond it
TEXT = "x" * 8000


def held_bytes(gateway: RunningGateway) -> int:
    """What waits in the gateway for slow readers."""
    connections = gateway.server.edge.connections
    return gateway.read(lambda: sum(c._transport.get_write_buffer_size() for c in connections))


@pytest.fixture(scope="module")
def hasty(shared_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that does not wait long for those who do not read."""
    row = {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY}
    with running_gateway(tmp_path_factory.mktemp("hasty"), {"server": HASTY, "connections": [row]}) as running:
        yield running


@pytest.mark.parametrize("message", [request("GET", "/metrics"), chat(text=TEXT)], ids=["at once", "later"])
def test_requests_behind_unread_answers_wait_and_the_client_is_cut(hasty: RunningGateway, message: bytes) -> None:
    with Connection(hasty.port, receive_buffer=4096) as connection:
        connection.socket.settimeout(0.05)
        started = time.monotonic()
        most = 0
        flood = message * 400  # answers beyond what the kernel holds, however seldom we are let look
        wait_until(lambda: hasty.read(lambda: len(hasty.server.edge.connections)) == 1, "accepted connection")
        while hasty.read(lambda: len(hasty.server.edge.connections)):
            try:
                connection.socket.send(flood)
            except TimeoutError:
                pass
            except OSError:
                break
            most = max(most, held_bytes(hasty))
            assert most < MOST_BYTES, "answers that nobody reads pile up"
            assert time.monotonic() - started < 15, "nobody ends it"
        assert most > 0, "the kernel held all of it: the flood was too small"


def test_a_request_with_a_known_head_waits_behind_an_unread_answer_too(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    text = "word " * 2_000_000  # 10 MB: more than the kernel holds

    def waits() -> bool:
        return any(connection._queue for connection in gateway.server.edge.connections)

    with Connection(gateway.port, receive_buffer=65536) as connection:
        for _ in range(3):  # known from then on: it is served without the parser
            assert connection.ask(chat()).status == 200
        connection.send(chat(text=text))
        wait_until(lambda: held_bytes(gateway) > 0, "reader that lags")
        asked = len(simulator.requests)
        connection.send(chat())
        wait_until(lambda: gateway.read(waits) or len(simulator.requests) > asked, "arrival of the request")
        assert len(simulator.requests) == asked, "it was served before the answer in front of it was read"
        assert [len(connection.answer().text) for _ in range(2)] == [len(f"echo: {text}"), len("echo: one two three")]


@pytest.mark.parametrize("closing", [False, True], ids=["kept", "closed behind it"])
def test_a_slow_reader_that_goes_on_reading_is_not_cut(hasty: RunningGateway, closing: bool) -> None:
    text = "word " * 2_000_000  # 10 MB: more than the kernel holds
    with Connection(hasty.port, receive_buffer=4096) as connection:
        connection.send(chat("", *(("connection: close",) if closing else ()), text=text))
        wait_until(lambda: held_bytes(hasty) > 0, "reader that lags")
        read_slowly(connection, len(text), HASTY["write_timeout_seconds"])


def test_a_reader_that_comes_back_gets_every_answer_in_order(gateway: RunningGateway) -> None:
    count = 900
    flood = b"".join(chat(text=f"{number} {TEXT}") for number in range(count))
    with Connection(gateway.port, receive_buffer=4096) as connection:
        sender = threading.Thread(target=connection.send, args=(flood,))
        sender.start()
        wait_until(lambda: held_bytes(gateway) > 0, "reader that lags")
        assert [connection.answer().text.split()[1] for _ in range(count)] == [str(number) for number in range(count)]
        sender.join()


def test_a_fault_behind_unread_answers_is_told_when_they_are_read(gateway: RunningGateway) -> None:
    count = 1000
    flood = request("GET", "/metrics") * count + b"\x00 garbage\r\n\r\n"
    with Connection(gateway.port, receive_buffer=4096) as connection:
        sender = threading.Thread(target=connection.send, args=(flood,))
        sender.start()
        wait_until(lambda: held_bytes(gateway) > 0, "reader that lags")
        assert [connection.answer().status for _ in range(count)] == [200] * count
        assert connection.answer().status == 400
        assert connection.is_closed()
        sender.join()


def most_kept_apart(gateway: RunningGateway, connection: Connection) -> int:
    """The most requests of one connection that waited, each by itself, until the first answer came."""
    most = 0
    while not connection._unread:
        queued = gateway.read(lambda: sum(len(one._queue) for one in gateway.server.edge.connections))
        most = max(most, queued)
        connection._unread = received_now(connection)
    return most


def test_few_of_many_pipelined_requests_are_kept_apart_and_all_are_served(gateway: RunningGateway) -> None:
    health = request("GET", "/health", key=None)
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=300") + health * 2000)
        sender = threading.Thread(target=connection.send, args=(health * 3000 + chat() + health,))
        sender.start()
        most = most_kept_apart(gateway, connection)
        answers = [connection.answer() for _ in range(5003)]
        sender.join()
    assert {answer.status for answer in answers} == {200}
    assert [number for number, answer in enumerate(answers) if "choices" in answer.json()] == [0, 5001]
    assert 0 < most <= MANY_HEADS + PIECE_BYTES // 25  # the shortest request has 25 bytes


def test_no_more_requests_are_read_while_one_waits(gateway: RunningGateway) -> None:
    count = 500  # in many reads, each of which holds few
    with Connection(gateway.port) as connection:
        connection.send(chat("first_token_ms=1000"))
        sender = threading.Thread(target=connection.send, args=(chat(text=TEXT) * count,))
        sender.start()
        most = most_kept_apart(gateway, connection)
        answers = [connection.answer() for _ in range(1 + count)]
        sender.join()
    assert {answer.status for answer in answers} == {200}
    assert 0 < most <= MANY_HEADS


def received_now(connection: Connection) -> bytes:
    """What has come, if anything."""
    connection.socket.settimeout(0.01)
    try:
        return connection.socket.recv(65536)
    except TimeoutError:
        return b""
    finally:
        connection.socket.settimeout(READ_TIMEOUT_S)


def test_after_all_this_nothing_is_held(gateway: RunningGateway) -> None:
    wait_until(lambda: not gateway.read(lambda: len(gateway.server.edge.connections)), "end of every connection")
    assert gateway.read(lambda: gateway.server.edge.active) == 0
