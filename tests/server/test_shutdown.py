"""SIGTERM: what is in flight ends well, nothing new is taken, and a second signal ends the patience."""

import errno
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import UPSTREAM_KEY, wait_until
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Connection, ask, chat
from serve_process import ServeProcess, serving, toml


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


def test_a_second_signal_cuts_what_is_in_flight_and_records_it(
    server: ServeProcess, simulator: RunningSimulator
) -> None:
    with Connection(server.port) as stream, Connection(server.port) as silent:
        stream.send(chat("tokens=10000,pace_ms=20", stream=True))
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


def test_what_was_served_before_a_stop_is_in_the_database(server: ServeProcess, tmp_path: Path) -> None:
    answers = [ask(server.port, chat(stream=number % 2 == 0)) for number in range(10)]
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    database = sqlite3.connect(tmp_path / "pointsman.db")
    found = {row[0] for row in database.execute("SELECT request_id FROM requests")}
    database.close()
    assert found == {answer.request_id for answer in answers}
