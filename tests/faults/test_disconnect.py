"""A client that leaves: its upstream call ends at once, and what it cost is recorded."""

import json
import socket
import struct
import time

import pytest

from gateway import RunningGateway, wait_until
from pointsman.canonical.record import RequestRecord
from pointsman.runner import in_task
from pointsman.server.exchange import Exchange
from pointsman.testing import RunningSimulator
from raw_client import Connection, chat, request

SETTINGS = {"upstream": {"idle_timeout_seconds": 20.0}}
AT_ONCE_S = 0.1


def newest_record(gateway: RunningGateway, before: int) -> RequestRecord:
    """The one record that is written after the first ``before``."""
    wait_until(lambda: len(gateway.journal.records()) > before, "record")
    [record] = gateway.journal.records()[before:]
    return record


def leave(connection: Connection, how: str) -> float:
    """End the connection as ``how`` says; gives the instant."""
    if how == "rst":
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left_at = time.monotonic()
    connection.socket.close()
    return left_at


def stall_s(gateway: RunningGateway) -> float:
    """How late this machine was just now, so that a stalled one is not blamed on the gateway."""
    return gateway.read(lambda: gateway.server.ticker.lag_seconds)


def assert_ended_at_once(gateway: RunningGateway, simulator: RunningSimulator, left_at: float) -> None:
    """The upstream's call ended when the client had left."""
    received = simulator.wait_for_disconnect(timeout_s=3)
    assert received.ended_at is not None
    assert received.ended_at - left_at <= AT_ONCE_S + stall_s(gateway)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
def test_leaving_before_the_first_byte_ends_the_upstream_call_at_once(
    gateway: RunningGateway, simulator: RunningSimulator, stream: bool, how: str
) -> None:
    before = len(gateway.journal.records())
    connection = Connection(gateway.port)
    connection.send(chat("fault=silence", stream=stream))
    simulator.wait_for_requests(1)
    assert_ended_at_once(gateway, simulator, leave(connection, how))
    record = newest_record(gateway, before)
    assert (record.status, record.outcome.value, record.error_kind) == (499, "client_closed", None)
    assert record.usage_estimated
    assert record.input_tokens > 0
    assert record.output_tokens == 0
    assert record.stream == stream


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_leaving_in_mid_stream_ends_the_upstream_call_at_once_and_counts_what_came(
    gateway: RunningGateway, simulator: RunningSimulator, how: str
) -> None:
    before = len(gateway.journal.records())
    connection = Connection(gateway.port)
    connection.send(chat("tokens=10000,pace_ms=10", stream=True))
    for _ in range(6):
        connection.read_until(b"\n\n")
    assert_ended_at_once(gateway, simulator, leave(connection, how))
    record = newest_record(gateway, before)
    assert (record.status, record.outcome.value) == (499, "client_closed")
    assert record.usage_estimated
    assert record.input_tokens > 0
    assert 4 <= record.output_tokens <= 30
    assert record.bytes_out > 0


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_leaving_a_stream_that_stalls_ends_the_upstream_call(
    gateway: RunningGateway, simulator: RunningSimulator, how: str
) -> None:
    before = len(gateway.journal.records())
    connection = Connection(gateway.port)
    connection.send(chat("tokens=50,fault=stall,after_events=4", stream=True))
    for _ in range(4):
        connection.read_until(b"\n\n")
    assert_ended_at_once(gateway, simulator, leave(connection, how))
    assert newest_record(gateway, before).outcome.value == "client_closed"


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_leaving_a_stream_of_http_1_0_that_stalls_ends_the_upstream_call(
    gateway: RunningGateway, simulator: RunningSimulator, how: str
) -> None:
    connection = Connection(gateway.port)
    connection.send(chat("tokens=50,fault=stall,after_events=4", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
    for _ in range(4):
        connection.read_until(b"\n\n")
    assert_ended_at_once(gateway, simulator, leave(connection, how))


def test_a_half_close_of_http_1_0_adds_a_comment_alone_to_a_stream(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(chat("tokens=5,pace_ms=100", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
        connection.peek(b"\n\n")
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.answer()
        assert "transfer-encoding" not in answer.headers
        events = answer.body.split(b"\n\n")
        assert sum(event.startswith(b":") for event in events) == 1
        assert all(event.startswith((b":", b"data: ")) for event in events if event)
        assert events[-2] == b"data: [DONE]"


def test_leaving_in_the_middle_of_a_request_leaves_no_trace(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    before = len(gateway.journal.records())
    for size in (10, 100, 200):
        with Connection(gateway.port) as connection:
            connection.send(chat()[:size])
    wait_until(lambda: not gateway.read(lambda: len(gateway.server.edge.connections)), "end of the connections")
    assert simulator.requests == ()
    assert len(gateway.journal.records()) == before


def test_clients_that_leave_in_crowds_leave_nothing_behind(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    before = len(gateway.journal.records())
    crowd = [Connection(gateway.port) for _ in range(60)]
    for position, connection in enumerate(crowd):
        connection.send(chat("tokens=1000,pace_ms=5", stream=position % 2 == 0))
    simulator.wait_for_requests(60)
    for connection in crowd:
        leave(connection, "rst")
    wait_until(lambda: len(gateway.journal.records()) == before + 60, "60 records")
    wait_until(lambda: gateway.read(lambda: gateway.server.edge.active == 0), "end of the requests")
    # Buffered answers of a thousand tokens were ready at once: those may have been sent before their clients left.
    outcomes = {record.outcome.value for record in gateway.journal.records()[before:]}
    assert outcomes <= {"client_closed", "success"}
    ids = [record.request_id for record in gateway.journal.records()]
    assert len(ids) == len(set(ids))
    with Connection(gateway.port) as connection:
        assert connection.ask(chat()).status == 200


def test_a_client_that_half_closes_still_gets_its_answer(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    for stream in (False, True):
        directives = "tokens=5,pace_ms=100" if stream else "tokens=5,first_token_ms=500"
        with Connection(gateway.port) as connection:
            connection.send(chat(directives, stream=stream))
            if stream:
                connection.peek(b"\n\n")  # from now on a comment in the stream asks whether the client is there
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.answer()
            assert answer.complete
            assert answer.text == "echo: one two three echo:"
            assert b"\r\n0" in answer.raw or not stream  # the question whether the client is there
            assert connection.is_closed()


def ollama_chat(directives: str) -> bytes:
    """A chat of Ollama's API, streamed as lines of JSON."""
    body = {"model": f"sim/sim-model#{directives}", "messages": [{"role": "user", "content": "one two three"}]}
    return request("POST", "/api/chat", json.dumps(body).encode())


def test_a_half_close_adds_nothing_to_a_stream_of_lines(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(ollama_chat("tokens=5,pace_ms=100"))
        connection.peek(b"}\n")
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.answer()
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        assert answer.complete
        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert "".join(line["message"]["content"] for line in lines) == "echo: one two three echo:"
        assert lines[-1]["done"] is True


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_leaving_a_stream_of_lines_that_stalls_ends_the_upstream_call(
    gateway: RunningGateway, simulator: RunningSimulator, how: str
) -> None:
    connection = Connection(gateway.port)
    connection.send(ollama_chat("tokens=9,fault=stall,after_events=4"))
    connection.read_until(b"}\n")
    simulator.wait_for_requests(1)
    left_at = leave(connection, how)
    received = simulator.wait_for_disconnect(timeout_s=3)
    assert received.ended_at is not None
    assert received.ended_at - left_at <= 2 * AT_ONCE_S + stall_s(gateway)


def test_a_client_lost_between_two_pipelined_requests_is_counted_once(gateway: RunningGateway) -> None:
    edge = gateway.server.edge

    async def lose_it(exchange: Exchange) -> None:
        await in_task()
        exchange._connection._transport.abort()  # as when the reset is read in the turn that brings the answer
        exchange.respond(200, b"{}")

    gateway.read(lambda: edge.router.add("GET", "/lost", lose_it))
    with Connection(gateway.port) as connection:
        connection.send(request("GET", "/lost") * 2)
        assert connection.is_closed()
    wait_until(lambda: not gateway.read(lambda: len(edge.connections)), "end of the connection")
    assert gateway.read(lambda: edge.active) == 0
