"""Several workers on one port: renewed, killed and ended under load. Nobody outside notices more than they must."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_tools import configuration, ready_workers, recorded

from gateway import PATIENCE_S, UPSTREAM_KEY, wait_until
from pointsman.errors import ConfigError
from pointsman.server.listeners import bind_listeners
from pointsman.testing import RunningSimulator
from pointsman.upstream.local_weights import weights_path
from raw_client import Answer, Connection, ask, chat, request
from serve_process import PROGRAM, ServeProcess, serving
from steady_load import Load, until

CLIENTS = 24
ROUND_S = 60.0  # for two new workers beside all this load, where others use the machine too
REQUESTS = "gen_ai_server_request_duration_seconds_count"


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def counted(server: ServeProcess) -> int:
    """All requests that /metrics counts; a worker that is leaving can't tell."""
    scrape = request("GET", "/metrics", b"", "connection: close", key=None)
    answer = ask(server.port, scrape)
    while answer.status == 503:
        answer = ask(server.port, scrape)
    text = answer.body.decode()
    return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith(REQUESTS))


@contextmanager
def knocking(port: int) -> Iterator[list[str]]:
    """Connects, asks for /health and reads the answer in a tight loop, a hundred times and more. Gives what failed."""
    wrong: list[str] = []
    stop = threading.Event()
    count = 0

    def knock() -> None:
        nonlocal count
        message = request("GET", "/health", b"", "connection: close", key=None)
        while not stop.is_set():
            count += 1
            try:
                with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
                    connection.sendall(message)
                    if not connection.recv(65536).startswith(b"HTTP/1.1 200 "):
                        wrong.append("closed without an answer")
            except OSError as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=knock) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
        wait_until(lambda: count > 100, "hundred knocks")
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def test_a_connection_that_was_made_over_the_api_serves_at_every_worker_at_once(
    pair: ServeProcess, upstream: RunningSimulator
) -> None:
    new = {"provider": "openai", "name": "made", "url": upstream.base_url, "apiKey": UPSTREAM_KEY, "allowPrivate": True}
    made = ask(pair.port, request("POST", "/api/providers", json.dumps(new).encode()))
    assert made.status == 201, made.body
    assert {ask(pair.port, chat(model="made/m")).status for _ in range(20)} == {200}
    gone = ask(pair.port, request("DELETE", "/api/providers/made", b""))
    assert gone.status == 200, gone.body
    assert {ask(pair.port, chat(model="made/m")).status for _ in range(20)} == {404}


def test_workers_share_the_port_and_each_has_a_journal(pair: ServeProcess) -> None:
    answers = [ask(pair.port, chat()) for _ in range(40)]
    assert {answer.status for answer in answers} == {200}
    segments = list((pair.data_dir / "journal").glob("*.journal"))
    assert len(segments) == 2
    assert all(segment.stat().st_size for segment in segments)
    pair.signal(signal.SIGTERM)
    assert pair.wait() == 0
    assert sorted(recorded(pair.data_dir)) == sorted(answer.request_id for answer in answers)


@pytest.mark.timeout(240)
def test_a_rolling_restart_under_load_refuses_and_breaks_nothing(pair: ServeProcess) -> None:
    load = Load([pair.port], CLIENTS)

    async def script() -> None:
        for round_ in range(1, 4):
            await load.answered(50)
            pair.signal(signal.SIGHUP)
            await until(lambda n=round_: pair.log.count("rolling restart done") == n, "end of the restart", ROUND_S)
        await load.answered(50)
        load.stop()

    with knocking(pair.port) as wrong:
        asyncio.run(load.run(script))
    assert wrong == []
    assert load.failures == []
    assert len(set(ready_workers(pair))) == 8
    wait_until(lambda: sum(map(alive, ready_workers(pair))) == 2, "end of the old workers")
    pair.signal(signal.SIGTERM)
    assert pair.wait() == 0
    assert sorted(recorded(pair.data_dir)) == sorted(answer.request_id for answer in load.answers)


def test_kill_9_of_a_worker_breaks_only_what_it_had_in_flight(pair: ServeProcess) -> None:
    load = Load([pair.port], CLIENTS)
    killed_at = 0.0

    async def script() -> None:
        nonlocal killed_at
        await load.answered(100)
        killed_at = time.monotonic()
        os.kill(ready_workers(pair)[0], signal.SIGKILL)
        await until(lambda: len(ready_workers(pair)) == 3, "new worker")
        await load.answered(100)
        load.stop()

    asyncio.run(load.run(script))
    broken = [failure.client for failure in load.failures]
    assert len(broken) == len(set(broken)) <= CLIENTS  # never twice: what waited in the queue was served
    assert all(failure.at - killed_at < 1 for failure in load.failures), load.failures
    assert pair.gauge("pointsman_worker_restarts_total") == 1
    assert pair.gauge("pointsman_workers") == 2
    pair.signal(signal.SIGTERM)
    assert pair.wait() == 0
    rows = recorded(pair.data_dir)
    assert len(rows) == len(set(rows))
    assert {answer.request_id for answer in load.answers} <= set(rows)


def test_while_a_worker_fails_again_and_again_the_other_takes_its_connections(pair: ServeProcess) -> None:
    for dead in range(2, 5):
        wait_until(lambda dead=dead: len(ready_workers(pair)) == dead, "next worker")
        os.kill(ready_workers(pair)[0 if dead == 2 else -1], signal.SIGKILL)
    wait_until(lambda: "worker restarts after a pause" in pair.log, "pause")
    answers = [ask(pair.port, chat()) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    wait_until(lambda: pair.gauge("pointsman_workers") == 2, "recovery")
    assert {ask(pair.port, chat()).status for _ in range(20)} == {200}


def test_a_call_larger_than_a_limit_is_refused_and_every_worker_goes_on(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    limits = {"key_requests_per_minute": 500, "key_tokens_per_minute": 1000}
    with serving(tmp_path, configuration(upstream, server={"workers": 2}, limits=limits)) as server:
        workers = wait_until(lambda: ready if len(ready := ready_workers(server)) == 2 else None, "both workers")
        assert {ask(server.port, chat(max_tokens=5000)).status for _ in range(20)} == {429}
        assert {ask(server.port, chat(max_tokens=1)).status for _ in range(40)} == {200}
        assert ready_workers(server) == workers
        assert "supervisor is gone" not in server.log


@pytest.mark.parametrize("workers", [1, 2])
def test_each_serving_process_starts_with_room_for_all_its_files(
    upstream: RunningSimulator, tmp_path: Path, workers: int
) -> None:
    """Linux stops a process with threads for milliseconds when its table of open files grows."""
    limits = {"workers": workers, "max_connections": 500, "max_concurrent_requests": 300}
    with serving(tmp_path, configuration(upstream, server=limits)) as server:
        if workers > 1:
            wait_until(lambda: len(ready_workers(server)) == workers, "both workers")
        for pid in ready_workers(server) or [server.process.pid]:
            found = re.search(r"^FDSize:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            assert found is not None
            assert int(found[1]) >= 500 + 300 + 256


def test_workers_that_cannot_be_started_for_a_while_are_started_later(pair: ServeProcess) -> None:
    pid = pair.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, usual[1]))
    pair.signal(signal.SIGHUP)
    wait_until(lambda: "rolling restart given up" in pair.log, "failed restart")
    os.kill(ready_workers(pair)[0], signal.SIGKILL)
    wait_until(lambda: pair.log.count("a worker can't be started") >= 2, "failed start")
    assert {ask(pair.port, chat()).status for _ in range(20)} == {200}
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
    wait_until(lambda: pair.gauge("pointsman_workers") == 2, "recovery")
    pair.signal(signal.SIGHUP)
    wait_until(lambda: "rolling restart done" in pair.log, "restart")
    assert {ask(pair.port, chat()).status for _ in range(20)} == {200}


def test_when_the_supervisor_is_killed_its_workers_finish_and_end(
    pair: ServeProcess, upstream: RunningSimulator
) -> None:
    with Connection(pair.port) as stream:
        stream.send(chat("tokens=30,pace_ms=20", stream=True))
        stream.read_until(b"\n\n")
        pair.process.kill()
        assert stream.read_until(b"data: [DONE]\n\n").count(b'"content":') >= 28
    wait_until(lambda: not any(map(alive, ready_workers(pair))), "end of the workers")


def test_metrics_are_those_of_all_workers_and_never_go_back(pair: ServeProcess) -> None:
    for _ in range(30):
        ask(pair.port, chat())
    assert {counted(pair) for _ in range(10)} == {30}
    pair.signal(signal.SIGHUP)
    wait_until(lambda: "rolling restart done" in pair.log, "rolling restart")
    assert {counted(pair) for _ in range(10)} == {30}
    os.kill(ready_workers(pair)[-1], signal.SIGKILL)
    wait_until(lambda: len(ready_workers(pair)) == 5, "new worker")
    assert counted(pair) == 30
    ask(pair.port, chat())
    assert counted(pair) == 31


def test_a_worker_that_an_operator_ends_is_replaced(pair: ServeProcess) -> None:
    os.kill(ready_workers(pair)[0], signal.SIGTERM)
    wait_until(lambda: len(ready_workers(pair)) == 3, "new worker")
    assert {ask(pair.port, chat()).status for _ in range(10)} == {200}


def test_workers_that_finish_a_stream_refuse_who_comes_meanwhile(
    pair: ServeProcess, upstream: RunningSimulator
) -> None:
    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", pair.port), PATIENCE_S).close()
        except ConnectionRefusedError:
            return True
        return False

    with Connection(pair.port) as stream:
        stream.send(chat("tokens=10000,pace_ms=20", stream=True))
        stream.read_until(b"\n\n")
        pair.signal(signal.SIGTERM)
        wait_until(refused, "refusal")
        stream.read_until(b"\n\n")
        pair.signal(signal.SIGTERM)
        assert pair.wait() == 0


def test_after_the_supervisor_was_killed_its_port_is_free_while_a_stream_goes_on(
    pair: ServeProcess, upstream: RunningSimulator
) -> None:
    def bound() -> bool:
        try:
            shares = bind_listeners("127.0.0.1", pair.port, 2)
        except ConfigError:
            return False
        for listener in (listener for share in shares for listener in share):
            listener.close()
        return True

    with Connection(pair.port) as stream:
        stream.send(chat("tokens=10000,pace_ms=20", stream=True))
        stream.read_until(b"\n\n")
        pair.process.kill()
        wait_until(bound, "free port")
        stream.read_until(b"\n\n")
    wait_until(lambda: not any(map(alive, ready_workers(pair))), "end of the workers")


def test_a_second_signal_ends_all_workers_at_once(pair: ServeProcess, upstream: RunningSimulator) -> None:
    upstream.log.clear()
    with Connection(pair.port) as stream:
        stream.send(chat("tokens=10000,pace_ms=20", stream=True))
        stream.read_until(b"\n\n")
        pair.signal(signal.SIGINT)
        wait_until(lambda: "ending workers" in pair.log, "first signal")
        pair.signal(signal.SIGINT)
        assert pair.wait() == 0
    [record] = pair.journal.records()
    assert record.outcome.value != "success"


def test_changes_are_confirmed_by_all_workers(pair: ServeProcess) -> None:
    command = [*PROGRAM, "keys", "create", "--quiet", "--data-dir", str(pair.data_dir)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    key = made.stdout.strip()
    assert {ask(pair.port, chat(key=key)).status for _ in range(20)} == {200}


def test_programs_that_a_worker_starts_inherit_no_socket_of_its_own(pair: ServeProcess) -> None:
    for pid in ready_workers(pair):
        found = [path for path in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(path).startswith("socket:")]
        assert len(found) >= 3  # the talk and the listeners of two shares
        for path in found:
            described = (path.parent.parent / "fdinfo" / path.name).read_text()
            [flags] = re.findall(r"^flags:\s+(\d+)$", described, re.MULTILINE)
            assert int(flags, 8) & os.O_CLOEXEC, described


def test_a_port_in_use_is_refused(pair: ServeProcess, upstream: RunningSimulator, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in use"):
        bind_listeners("127.0.0.1", pair.port, 2)
    other = tmp_path / "other"
    other.mkdir()
    config = other / "two.toml"
    config.write_text(configuration(upstream, server={"workers": 2, "port": pair.port}))
    command = [*PROGRAM, "serve", "--data-dir", str(other), "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "in use" in ended.stderr


def test_settings_that_no_worker_can_start_with_end_the_server(upstream: RunningSimulator, tmp_path: Path) -> None:
    config = tmp_path / "two.toml"
    config.write_text(configuration(upstream, server={"workers": 2, "port": 0}).replace(UPSTREAM_KEY, "env:NOT_SET"))
    command = [*PROGRAM, "serve", "--data-dir", str(tmp_path), "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "NOT_SET" in ended.stderr


def test_a_worker_that_fails_when_its_supervisor_knows_it_already_says_why(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    files = {"tls_certificate": str(tmp_path / "missing.pem"), "tls_key": str(tmp_path / "missing.key")}
    config = tmp_path / "two.toml"
    config.write_text(configuration(upstream, server={"workers": 2, "port": 0, **files}))
    command = [*PROGRAM, "serve", "--data-dir", str(tmp_path), "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "server.tls_certificate, server.tls_key: can't read" in ended.stderr
    assert "worker killed" not in ended.stderr


def test_a_restart_with_a_broken_configuration_keeps_the_workers(upstream: RunningSimulator, tmp_path: Path) -> None:
    config = configuration(upstream, server={"workers": 2})
    with serving(tmp_path, config) as server:
        (tmp_path / "test.toml").write_text(config + "\n[nonsense]\n")
        server.signal(signal.SIGHUP)
        wait_until(lambda: "rolling restart given up" in server.log, "end of the attempt")
        assert {ask(server.port, chat()).status for _ in range(10)} == {200}
        assert server.gauge("pointsman_workers") == 2


@pytest.mark.timeout(600)  # the first session on a machine downloads the weights
def test_the_workers_share_one_local_model(tmp_path: Path, upstream: RunningSimulator, local_weights: Path) -> None:
    weights = weights_path(tmp_path)
    weights.parent.mkdir(parents=True)
    weights.symlink_to(local_weights)
    question = chat(model="local/smollm2-135m-instruct", text="Say hello.", max_tokens=3)
    config = configuration(upstream, server={"workers": 2}, local={"enabled": True})
    with serving(tmp_path, config) as server:

        def answer() -> int:
            with Connection(server.port) as connection:
                connection.socket.settimeout(60)  # the first answer waits for the model's start
                return connection.ask(question).status

        def both_have_answered() -> bool:
            assert answer() == 200, server.log
            return len([path for path in (tmp_path / "journal").glob("*.journal") if path.stat().st_size]) == 2

        wait_until(both_have_answered, "answer of each worker", 90)
        [child] = models_of(server)
        server.signal(signal.SIGHUP)
        wait_until(lambda: "rolling restart done" in server.log, "rolling restart", 20)
        assert answer() == 200
        assert models_of(server) == [child]
        server.signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert not alive(child)


def models_of(server: ServeProcess) -> list[int]:
    """The processes of the local model below the supervisor and below its workers."""
    parents = {server.process.pid, *ready_workers(server)}
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            words = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent in parents and b"pointsman.upstream.local_server" in words:
            found.append(int(status.parent.name))
    return found


def test_refusals_of_workers_that_have_ended_stay_counted(tmp_path: Path, upstream: RunningSimulator) -> None:
    def refusals() -> int:
        text = ask(server.port, request("GET", "/metrics", b"", "connection: close", key=None)).body.decode()
        lines = [line for line in text.splitlines() if line.startswith("pointsman_rate_limited_requests_total{")]
        return sum(int(float(line.split()[-1])) for line in lines)

    config = configuration(upstream, server={"workers": 2}, limits={"key_requests_per_minute": 2})
    with serving(tmp_path, config) as server:
        refused = [ask(server.port, chat()).status for _ in range(20)].count(429)
        assert refused == 18
        assert refusals() == refused
        server.signal(signal.SIGHUP)
        wait_until(lambda: "rolling restart done" in server.log, "rolling restart")
        wait_until(lambda: sum(map(alive, ready_workers(server))) == 2, "end of the old workers")
        assert refusals() == refused


@pytest.mark.parametrize("limit", [1, 30])
def test_without_redis_workers_share_every_limit_exactly_and_a_dead_one_takes_nothing_along(
    tmp_path: Path, upstream: RunningSimulator, limit: int
) -> None:
    """A worker that hears nothing from the supervisor for half a second says so, and goes on alone: where the machine
    was that busy, nothing is shown, and it is tried anew.
    """
    config = configuration(upstream, server={"workers": 2}, limits={"key_requests_per_day": limit})

    def call(server: ServeProcess) -> tuple[list[Answer], set[int]]:
        answers = [ask(server.port, chat()) for _ in range(limit + 15)]
        os.kill(ready_workers(server)[0], signal.SIGKILL)
        wait_until(lambda: len(ready_workers(server)) == 3, "new worker")
        return answers, {ask(server.port, chat()).status for _ in range(15)}

    for number in range(5):
        with serving(tmp_path / str(number), config) as server:
            answers, later = call(server)
        if "limits' store does not answer" not in server.log:
            assert [answer.status for answer in answers] == [200] * limit + [429] * 15
            assert later == {429}
            left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
            assert left == [*range(limit - 1, -1, -1), *[0] * 15]
            for refused in answers[limit:]:
                assert 86_300 <= int(refused.headers["retry-after"]) <= 86_400 * 61 // 60
            return
    pytest.fail("this machine is too busy: in none of five tries did the supervisor always answer in time")
