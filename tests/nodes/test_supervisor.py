"""The supervisor and workers that go wrong: each worker is a small program that does as its test says."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop
from structlog.testing import capture_logs

from pointsman.accounting.telemetry import Sums
from pointsman.clock import SystemClock
from pointsman.server import workers as supervision
from pointsman.server.listeners import bind_listeners
from pointsman.server.worker_link import Channel, Place
from pointsman.server.workers import Supervisor, Worker
from steady_load import until

Story = Callable[[Supervisor], Coroutine[None, None, None]]
# Says that it is ready, reports, writes down what it is told, and ends when it shall, or when its supervisor is gone.
WORKER = """
import json, os, pathlib, select, socket, sys, time
place, home = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
link = socket.socket(fileno=place["control"])
def shall(what):
    return (home / f"{what}-{place['share']}").exists()
if shall("fail"):
    sys.exit(1)
if shall("linger"):
    link.close()
    time.sleep(30)
if shall("fork") and os.fork() == 0:
    gone = select.poll()
    gone.register(link, 0)
    gone.poll()
    sys.exit()
with open(home / f"told-{os.getpid()}", "ab", buffering=0) as told:
    if not shall("hang"):
        link.sendall(b'{"type":"Ready","node_id":"node","grace_seconds":0.0}\\n')
    while True:
        if not select.select([link], [], [], 0.05)[0]:
            if not (shall("hang") or shall("hush")):
                link.sendall(b'{"type":"Report","number":null,"sums":{}}\\n')
            continue
        words = link.recv(65536)
        told.write(words)
        if words == b"" or b'"Drain"' in words and not shall("stay"):
            break
"""


def told(home: Path, worker: Worker) -> str:
    """What a worker was told so far, in JSON lines."""
    return (home / f"told-{worker.process.pid}").read_text()


@contextmanager
def supervisor_of(workers: int, home: Path) -> Iterator[Supervisor]:
    """A supervisor of such workers, not started yet."""

    def command(place: Place) -> list[str]:
        return [sys.executable, "-S", "-E", "-c", WORKER, msgspec.json.encode(place).decode(), str(home)]

    async def forget(_: str) -> None: ...

    listeners = bind_listeners("127.0.0.1", 0, workers)
    try:
        yield Supervisor(SystemClock(), listeners, command, {}, Sums, forget)
    finally:
        for listener in (listener for share in listeners for listener in share):
            listener.close()


def supervise(home: Path, story: Story, workers: int = 2) -> None:
    """What happens to a supervisor whose workers are ready, and which gets SIGTERM at the end."""

    async def work() -> None:
        with supervisor_of(workers, home) as supervisor:
            assert await supervisor.start()
            running = asyncio.create_task(supervisor.run())
            try:
                await story(supervisor)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                await running

    uvloop.run(work())


def test_a_share_gets_a_worker_after_one_that_was_dead_before_its_supervisor_could_end_it(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        [first] = supervisor._workers
        (tmp_path / "linger-0").touch()
        first.process.kill()
        await until(lambda: supervisor._workers - {first}, "next worker")
        [second] = supervisor._workers - {first}

        def die(_: object) -> None:
            """In the turn of the loop before the one in which the supervisor hears that it failed."""
            second.process.kill()
            os.waitid(os.P_PID, second.process.pid, os.WEXITED | os.WNOWAIT)

        second.ready.add_done_callback(die)
        await asyncio.wait([second.ready])
        (tmp_path / "linger-0").unlink()
        await until(supervisor._taking, "worker that starts")

    supervise(tmp_path, story, workers=1)


def test_a_start_that_cannot_be_made_for_a_reason_of_ours_is_a_failed_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> Channel:
        raise RuntimeError("a defect")

    async def story(supervisor: Supervisor) -> None:
        [first] = supervisor._workers
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(Channel, "over", broken)
            first.process.kill()
            await until(lambda: "a worker can't be started" in [line["event"] for line in logs], "failed start")
        await until(supervisor._taking, "worker that starts")

    supervise(tmp_path, story, workers=1)


def test_a_share_without_a_worker_is_lent_to_the_first_that_comes_back_after_all_have_died(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        first = set(supervisor._workers)
        (tmp_path / "fail-0").touch()
        for worker in first:
            worker.process.kill()
        await until(lambda: not first & supervisor._workers and supervisor._taking(), "worker that comes back")
        [back] = supervisor._taking()
        await until(lambda: '"Lend","share":0,"on":true' in told(tmp_path, back), "loan")
        (tmp_path / "fail-0").unlink()
        await until(lambda: '"Lend","share":0,"on":false' in told(tmp_path, back), "end of the loan")

    supervise(tmp_path, story)


def test_a_replaced_worker_that_does_not_end_in_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(supervisor: Supervisor) -> None:
        [old] = supervisor._workers
        (tmp_path / "stay-0").touch()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: '"Drain"' in told(tmp_path, old), "drain")
        await until(lambda: old not in supervisor._workers, "end of the old worker")
        [new] = supervisor._taking()
        assert new is not old
        (tmp_path / "stay-0").unlink()

    monkeypatch.setattr(supervision, "END_SECONDS", 0.2)
    with capture_logs() as logs:
        supervise(tmp_path, story, workers=1)
    killed = [line["reason"] for line in logs if line["event"] == "worker killed"]
    assert killed[0] == "it did not end in time"


def test_a_worker_that_reports_no_more_is_killed_and_replaced_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(supervisor: Supervisor) -> None:
        [silent, other] = supervisor._taking()
        (tmp_path / "hush-0").touch()
        await until(lambda: silent not in supervisor._workers, "end of the silent worker")
        (tmp_path / "hush-0").unlink()
        await until(lambda: len(supervisor._taking()) == 2, "worker in its place")
        assert other in supervisor._taking()

    monkeypatch.setattr(supervision, "REPORT_SECONDS", 0.1)
    with capture_logs() as logs:
        supervise(tmp_path, story)
    assert "it does not report any more" in [line.get("reason") for line in logs]


def test_no_worker_was_silent_while_the_machine_stood_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(supervisor: Supervisor) -> None:
        [worker] = supervisor._workers
        before = worker.sums
        await until(lambda: worker.sums is not before, "report before")
        before = worker.sums
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1 * supervision.SILENT_TURNS + 1)  # noqa: ASYNC251  # the supervisor stands still, too
        worker.process.send_signal(signal.SIGCONT)
        await until(lambda: worker.sums is not before, "report after")
        assert supervisor._workers == {worker}

    monkeypatch.setattr(supervision, "REPORT_SECONDS", 0.1)
    supervise(tmp_path, story, workers=1)


def test_sigterm_is_heard_while_a_worker_starts(tmp_path: Path) -> None:
    async def story() -> None:
        with supervisor_of(2, tmp_path) as supervisor:
            starting = asyncio.create_task(supervisor.start())
            await until(lambda: len(supervisor._workers) == 2, "two workers that start")
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await until(starting.done, "end of the start")
            finally:
                await supervisor.run()
            assert starting.result() is False
            assert not supervisor._workers

    (tmp_path / "hang-0").touch()
    uvloop.run(story())


def test_a_dead_worker_is_replaced_though_a_program_of_its_own_holds_its_end_of_the_talk(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        [first] = supervisor._workers
        (tmp_path / "fork-0").unlink()
        first.process.kill()
        await until(lambda: first not in supervisor._workers and supervisor._taking(), "worker in its place")

    (tmp_path / "fork-0").touch()
    supervise(tmp_path, story, workers=1)
