"""A journal that can't be written: no call is taken, no record is lost, and all goes on when there is room again."""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway import UPSTREAM_KEY, wait_until
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, Connection, ask, chat, request
from serve_process import ServeProcess, serving, toml

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """The upstream."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture
def leaving() -> Iterator[ExitStack]:
    """Closes what a test opened."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["journal", "journal-and-log"])
def server(
    request: pytest.FixtureRequest, simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeProcess]:
    """A server whose files can be kept from growing; its log may be one of them."""
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    data_dir = tmp_path_factory.mktemp("full")
    log = data_dir / "stderr.log" if "log" in request.param else None
    with serving(data_dir, toml([connection], {}), log) as running:
        yield running


def test_a_full_disk_stops_calls_and_loses_no_record(
    server: ServeProcess, simulator: RunningSimulator, leaving: ExitStack
) -> None:
    simulator.log.clear()
    ids = [ask(server.port, chat()).request_id for _ in range(3)]
    slow = [leaving.enter_context(Connection(server.port)) for _ in range(4)]
    for number, connection in enumerate(slow):
        connection.send(chat("first_token_ms=500", stream=number % 2 == 0))
    simulator.wait_for_requests(7)
    size = sum(path.stat().st_size for path in (server.data_dir / "journal").glob("*.journal"))
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    for connection in slow:  # they were taken: they are served
        answer = connection.answer()
        assert answer.status == 200
        ids.append(answer.request_id)
    upstream_calls = simulator.log.total
    for _ in range(50):
        answer = ask(server.port, chat())
        assert answer.status == 503, answer.body
        assert answer.error["code"] == "not_ready"
        assert int(answer.headers["retry-after"]) >= 1
    assert simulator.log.total == upstream_calls
    health = ask(server.port, request("GET", "/health", key=None))
    assert (health.status, health.json()["ok"]) == (503, False)
    assert 4 <= server.gauge("pointsman_journal_parked_records") <= 10, "refused calls must not pile up in memory"
    time.sleep(1.2)  # a retry that fails changes nothing
    assert ask(server.port, chat()).status == 503
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, UNLIMITED)
    wait_until(lambda: ask(server.port, request("GET", "/health", key=None)).status == 200, "recovery")
    answer = ask(server.port, chat())
    assert answer.status == 200
    ids.append(answer.request_id)
    assert server.gauge("pointsman_journal_parked_records") == 0

    def logged() -> bool:
        body = ask(server.port, request("GET", "/v1/request-logs?limit=100")).json()
        known = [entry["request_id"] for entry in body["logs"] if entry["status"] == "SUCCESS"]
        return sorted(known) == sorted(ids)

    wait_until(logged, "every record in the database, once", 8)
    for request_id in ids:
        assert len(server.journal.of(request_id)) == 1
    assert UPSTREAM_KEY not in server.log
    assert "Traceback" not in server.log
    server.process.terminate()
    assert server.wait() == 0


def test_while_the_disk_takes_no_write_what_is_there_is_shown_and_no_change_is_made_by_half(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    """As on a file system that became read-only: no file of the server can be written at any place."""
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}

    def logged() -> list[str]:
        body = ask(server.port, request("GET", "/v1/request-logs?limit=100")).json()
        return sorted(entry["request_id"] for entry in body["logs"] if entry["status"] == "SUCCESS")

    def connections() -> list[str]:
        shown = ask(server.port, request("GET", "/api/providers"))
        assert shown.status == 200, shown.body
        return [row["name"] for row in shown.json()["connections"]]

    def add(name: str) -> Answer:
        new = {"provider": "openai", "name": name, "apiKey": UPSTREAM_KEY}
        return ask(server.port, request("POST", "/api/providers", json.dumps(new).encode()))

    with serving(tmp_path, toml([connection], {})) as server:
        before = ask(server.port, chat()).request_id
        wait_until(lambda: logged() == [before], "record in the database")
        known = connections()
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        served = ask(server.port, chat())
        assert served.status == 200, "nobody knew of it yet"
        assert [ask(server.port, chat()).status for _ in range(10)] == [503] * 10
        refused = add("unwritten")
        assert refused.status == 503, refused.body
        assert (logged(), connections()) == ([before], known)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, UNLIMITED)
        wait_until(lambda: ask(server.port, request("GET", "/health", key=None)).status == 200, "recovery")
        assert connections() == known
        assert add("written").status == 201
        assert connections() == [*known, "written"]
        ids = sorted([before, served.request_id, ask(server.port, chat()).request_id])
        wait_until(lambda: logged() == ids, "every record in the database, once")
        assert "Traceback" not in server.log
        server.process.terminate()
        assert server.wait() == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_log_that_cannot_be_written_changes_nothing(
    simulator: RunningSimulator, tmp_path: Path, stream: bool
) -> None:
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    with serving(tmp_path, toml([connection], {"log": {"level": "debug"}}), Path("/dev/full")) as server:
        for _ in range(3):
            assert ask(server.port, chat(stream=stream)).text == "echo: one two three"
            assert ask(server.port, b"garbage\r\n\r\n").status == 400  # logged at once
        server.process.terminate()
        assert server.wait() == 0
        assert len(server.journal.records()) == 3
