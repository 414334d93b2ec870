"""The supervisor and workers that go wrong: each worker is a small program that does as its test says."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest
import uvloop
from structlog.testing import capture_logs

from pointsman.accounting.telemetry import Sums
from pointsman.clock import SystemClock
from pointsman.server.listeners import bind_listeners
from pointsman.server.worker_link import Channel, Place
from pointsman.server.workers import Supervisor, Worker
from steady_load import until

Story = Callable[[Supervisor], Coroutine[None, None, None]]
# Says that it is ready, writes down what it is told, and ends when it shall, or when its supervisor is gone.
WORKER = """
import json, os, pathlib, socket, sys, time
place, home = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
share, link = place["share"], socket.socket(fileno=place["control"])
if (home / f"fails-{share}").exists():
    sys.exit(1)
if (home / f"lingers-{share}").exists():
    link.close()
    time.sleep(30)
with link.makefile("r") as lines, open(home / f"told-{os.getpid()}", "a") as told:
    link.sendall(b'{"type":"Ready","node_id":"node"}\\n')
    for line in lines:
        told.write(line)
        told.flush()
        if '"Drain"' in line:
            break
"""


def told(home: Path, worker: Worker) -> str:
    """What a worker was told so far, in JSON lines."""
    return (home / f"told-{worker.process.pid}").read_text()


def supervise(home: Path, story: Story, workers: int = 2) -> None:
    """What happens to a supervisor of such workers, which gets SIGTERM at the end."""

    def command(place: Place) -> list[str]:
        return [sys.executable, "-S", "-E", "-c", WORKER, msgspec.json.encode(place).decode(), str(home)]

    async def forget(_: str) -> None: ...

    async def work() -> None:
        listeners = bind_listeners("127.0.0.1", 0, workers)
        try:
            supervisor = Supervisor(SystemClock(), listeners, command, {}, Sums, forget)
            await supervisor.start()
            running = asyncio.create_task(supervisor.run(0.0))
            try:
                await story(supervisor)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                await running
        finally:
            for listener in (listener for share in listeners for listener in share):
                listener.close()

    uvloop.run(work())


def test_a_share_gets_a_worker_after_one_that_was_dead_before_its_supervisor_could_end_it(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        [first] = supervisor._workers
        (tmp_path / "lingers-0").touch()
        first.process.kill()
        await until(lambda: supervisor._workers - {first}, "next worker")
        [second] = supervisor._workers - {first}

        def die(_: object) -> None:
            """In the turn of the loop before the one in which the supervisor hears that it failed."""
            second.process.kill()
            os.waitid(os.P_PID, second.process.pid, os.WEXITED | os.WNOWAIT)

        second.ready.add_done_callback(die)
        await asyncio.wait([second.ready])
        (tmp_path / "lingers-0").unlink()
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
        (tmp_path / "fails-0").touch()
        for worker in first:
            worker.process.kill()
        await until(lambda: not first & supervisor._workers and supervisor._taking(), "worker that comes back")
        [back] = supervisor._taking()
        await until(lambda: '"Lend","share":0,"on":true' in told(tmp_path, back), "loan")
        (tmp_path / "fails-0").unlink()
        await until(lambda: '"Lend","share":0,"on":false' in told(tmp_path, back), "end of the loan")

    supervise(tmp_path, story)
