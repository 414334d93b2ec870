"""Clients that ask and ask and never read: no answer is made before those in front of it are taken."""

import threading
import time

import pytest

from gateway import RunningGateway, wait_until
from pointsman.server.connection import MAX_PIPELINED, WRITE_HIGH_WATER
from raw_client import Connection, chat, request

SETTINGS = {"server": {"write_timeout_seconds": 1.2}}
MOST_BYTES = WRITE_HIGH_WATER + 64 * 1024  # the mark, and the answer that went beyond it
TEXT = "x" * 8000


def held_bytes(gateway: RunningGateway) -> int:
    """What waits in the gateway for slow readers."""
    connections = gateway.server.edge.connections
    return gateway.read(lambda: sum(c._transport.get_write_buffer_size() for c in connections))


@pytest.mark.parametrize("message", [request("GET", "/metrics"), chat(text=TEXT)], ids=["at once", "later"])
def test_requests_behind_unread_answers_wait_and_the_client_is_cut(gateway: RunningGateway, message: bytes) -> None:
    with Connection(gateway.port, receive_buffer=4096) as connection:
        connection.socket.settimeout(0.05)
        started = time.monotonic()
        most = 0
        flood = message * 100
        while gateway.read(lambda: len(gateway.server.edge.connections)):
            try:
                connection.socket.send(flood)
            except TimeoutError:
                pass
            except OSError:
                break
            most = max(most, held_bytes(gateway))
            assert most < MOST_BYTES, "answers that nobody reads pile up"
            assert time.monotonic() - started < 15, "nobody ends it"
        assert most > 0, "the kernel held all of it: the flood was too small"


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


def test_so_many_requests_in_one_packet_are_taken_and_no_more(gateway: RunningGateway) -> None:
    health = request("GET", "/health", key=None)
    assert len(health) * (MAX_PIPELINED + 2) < 200_000  # what one read takes
    for more, last in ((0, 200), (1, 503)):
        with Connection(gateway.port) as connection:
            connection.send(chat("first_token_ms=50") + health * (MAX_PIPELINED + more))
            answers = [connection.answer() for _ in range(MAX_PIPELINED + 1 + more)]
            assert {answer.status for answer in answers[:-1]} == {200}
            assert answers[-1].status == last
            if more:
                assert answers[-1].headers["retry-after"] == "1"
                assert connection.is_closed()


def test_after_all_this_nothing_is_held(gateway: RunningGateway) -> None:
    wait_until(lambda: not gateway.read(lambda: len(gateway.server.edge.connections)), "end of every connection")
    assert gateway.read(lambda: gateway.server.edge.active) == 0
