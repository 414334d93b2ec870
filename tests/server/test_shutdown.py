"""SIGTERM: what is in flight ends well, nothing new is taken, and a second signal ends the patience.

POINTSMAN_SIGTERM_ROUNDS=20 repeats the end under load as often.
"""

import asyncio
import errno
import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import UPSTREAM_KEY, running_gateway, wait_until
from pointsman.policy.stored_responses import LOST
from pointsman.server.host import Host
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Connection, ask, chat, request
from serve_process import ServeProcess, serving, toml
from steady_load import Load

ROUNDS = int(os.environ.get("POINTSMAN_SIGTERM_ROUNDS", "3"))


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """The upstream."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture
def server(simulator: RunningSimulator, tmp_path: Path) -> Iterator[ServeProcess]:
    """A server that waits up to ten seconds for what is in flight."""
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    with serving(tmp_path, toml([connection], {"server": {"shutdown_grace_seconds": 10.0}})) as running:
        yield running


def refuses(server: ServeProcess) -> bool:
    """True when nothing listens any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish(
    server: ServeProcess, simulator: RunningSimulator, number: signal.Signals
) -> None:
    with Connection(server.port) as idle, Connection(server.port) as stream, Connection(server.port) as buffered:
        assert idle.ask(chat()).status == 200
        stream.send(chat("tokens=30,pace_ms=20", stream=True))
        buffered.send(chat("first_token_ms=400"))
        stream.read_until(b"\n\n")
        simulator.wait_for_requests(3)
        server.signal(number)
        wait_until(lambda: refuses(server), "end of listening")
        assert idle.is_closed()
        rest = stream.read_until(b"data: [DONE]\n\n")
        assert rest.count(b'"content":') >= 29
        assert stream.read_until(b"0\r\n\r\n")
        assert stream.is_closed()
        answer = buffered.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert buffered.is_closed()
    assert server.wait() == 0
    assert len(server.journal.records()) == 3
    assert {record.outcome.value for record in server.journal.records()} == {"success"}


@pytest.mark.parametrize("lines", [(), ("idempotency-key: once",), ("x-pointsman-share: 1",)])
def test_a_second_signal_cuts_what_is_in_flight_and_records_it(
    server: ServeProcess, simulator: RunningSimulator, lines: tuple[str, ...]
) -> None:
    with Connection(server.port) as stream, Connection(server.port) as silent:
        stream.send(chat("tokens=10000,pace_ms=20", *lines, stream=True))
        silent.send(chat("fault=silence"))
        for _ in range(4):
            stream.read_until(b"\n\n")
        simulator.wait_for_requests(2)
        server.signal(signal.SIGTERM)
        wait_until(lambda: refuses(server), "end of listening")
        stream.read_until(b"\n\n")
        server.signal(signal.SIGTERM)
        assert server.wait(3) == 0
    records = server.journal.records()
    assert len(records) == 2
    for record in records:
        assert record.outcome.value != "success"
        assert record.usage_estimated
        assert record.input_tokens > 0
    assert "Traceback" not in server.log


def test_a_call_that_goes_on_without_its_client_has_the_grace_too(
    server: ServeProcess, simulator: RunningSimulator
) -> None:
    with Connection(server.port) as stream:
        stream.send(chat("tokens=30,pace_ms=20", "idempotency-key: once", stream=True))
        stream.read_until(b"\n\n")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    [record] = server.journal.records()
    assert (record.outcome.value, record.usage_estimated) == ("success", False)


@pytest.mark.parametrize(("tokens", "grace", "error"), [(30, 10.0, None), (10_000, 0.01, LOST)])
def test_a_response_in_the_background_ends_within_the_grace_or_fails(
    simulator: RunningSimulator, tmp_path: Path, tokens: int, grace: float, error: str | None
) -> None:
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    config = toml([connection], {"server": {"shutdown_grace_seconds": grace}})
    asked = {"model": f"sim/m#tokens={tokens},pace_ms=20", "input": "x", "background": True}
    with serving(tmp_path, config) as server:
        queued = ask(server.port, request("POST", "/v1/responses", json.dumps(asked).encode())).json()
        simulator.wait_for_requests(1)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        [record] = server.journal.records()
        assert "Traceback" not in server.log
    with serving(tmp_path, config) as server:
        kept = ask(server.port, request("GET", f"/v1/responses/{queued['id']}")).json()
    assert kept["status"] == ("completed" if error is None else "failed")
    assert (kept["error"] or {}).get("message") == error
    assert (record.outcome.value == "success") is (error is None)
    assert record.input_tokens > 0


def test_what_was_served_before_a_stop_is_in_the_database(server: ServeProcess, tmp_path: Path) -> None:
    answers = [ask(server.port, chat(stream=number % 2 == 0)) for number in range(10)]
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    database = sqlite3.connect(tmp_path / "pointsman.db")
    found = {row[0] for row in database.execute("SELECT request_id FROM requests")}
    database.close()
    assert found == {answer.request_id for answer in answers}


def test_a_request_sent_when_the_end_begins_is_still_answered(server: ServeProcess) -> None:
    with Connection(server.port) as kept, Connection(server.port) as fresh, Connection(server.port) as half:
        assert kept.ask(chat()).status == 200
        message = chat()
        half.send(message[:-10])
        server.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in server.log, "begin of the drain")
        for connection in (kept, fresh):
            answer = connection.ask(message)
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert connection.is_closed()
        half.send(message[-10:])
        assert half.answer().status == 200
    assert server.wait() == 0


def test_a_connection_that_was_promised_to_stay_takes_one_more_request_after_its_stream(
    server: ServeProcess, simulator: RunningSimulator
) -> None:
    with Connection(server.port) as stream:
        stream.send(chat("tokens=30,pace_ms=20", stream=True))
        stream.read_until(b"\n\n")
        server.signal(signal.SIGTERM)
        stream.read_until(b"0\r\n\r\n")
        answer = stream.ask(chat())
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert server.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_sigterm_under_load_breaks_no_request_and_loses_no_record(
    simulator: RunningSimulator, tmp_path: Path, workers: int, round_: int
) -> None:
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    with serving(tmp_path, toml([connection], {"server": {"workers": workers}})) as server:
        load = Load([server.port], 32)

        async def script() -> None:
            await load.answered(150 + 7 * round_)
            server.signal(signal.SIGTERM)

        asyncio.run(load.run(script))  # every client goes on until the port is closed
        assert server.wait(10) == 0
        journal = [record.request_id for record in server.journal.records()]
    assert [failure for failure in load.failures if failure.what != "refused"] == []
    answered = sorted(answer.request_id for answer in load.answers)
    assert sorted(journal) == answered
    database = sqlite3.connect(tmp_path / "pointsman.db")
    rows = sorted(row[0] for row in database.execute("SELECT request_id FROM requests"))
    database.close()
    assert rows == answered


def test_who_is_accepted_in_the_turn_of_a_hand_over_is_answered(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {}) as gateway:

        async def story() -> bytes:
            host = Host(gateway.server.edge, "127.0.0.1", 0, grace_seconds=5.0)
            port = await host.listen()
            ending = asyncio.create_task(host.serve_until_stopped())
            await asyncio.sleep(0.05)
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(request("GET", "/metrics", b"", "connection: close", key=None))
                host.stop(handed_over=True)
                await ending  # then its process ends
                client.setblocking(False)
                return client.recv(100)

        assert gateway.call(story()).startswith(b"HTTP/1.1 200")


def test_the_grace_is_a_time_however_seldom_a_busy_loop_looks(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {}) as gateway:

        async def story() -> float:
            loop = asyncio.get_running_loop()
            host = Host(gateway.server.edge, "127.0.0.1", 0, grace_seconds=1.0, lone=["a call that does not end"])
            await host.listen()
            host.stop()
            began = loop.time()
            ending = asyncio.create_task(host.serve_until_stopped())
            while not ending.done():
                time.sleep(0.2)  # noqa: ASYNC251  # other work, of which each turn of the loop has so much
                await asyncio.sleep(0)
            return loop.time() - began

        assert 1.0 <= gateway.call(story()) < 6.0  # 50 looks would take 10 s
