"""The local model's supervisor and its child, with the real engine and the real weights."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pointsman.clock import SystemClock
from pointsman.errors import Kind
from pointsman.upstream import local_model
from pointsman.upstream.local_model import LocalEndpoint, LocalModel, LocalState
from pointsman.upstream.local_weights import LocalModelUnavailable

DEADLINE_SECONDS = 90.0  # native code on a busy machine can be starved for long
Runner = Callable[[Coroutine[Any, Any, None]], None]


class SkippingClock(SystemClock):
    """The machine's clock with leaps forward."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def monotonic(self) -> float:
        """Seconds, plus what was skipped."""
        return time.monotonic() + self.skipped


@asynccontextmanager
async def supervised(weights: Path, **settings: Any) -> AsyncIterator[LocalModel]:
    """A supervisor that is closed at the end, whatever happened."""
    model = LocalModel(weights, settings.pop("clock", None) or SystemClock(), **settings)
    try:
        yield model
    finally:
        await model.aclose()


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact; fails after 20 s."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not fact():  # noqa: ASYNC110 - the facts are about processes, which set no event
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and not yet reaped by init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def visible(pid: int) -> bytes:
    """What other processes can see of a process: its command line and its environment."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def chat(endpoint: LocalEndpoint, key: str | None = None, **members: Any) -> tuple[int, Any]:
    """One chat completion over the child's own port: status and decoded body."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=DEADLINE_SECONDS)
    try:
        question = {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
        body = {"messages": [question], "temperature": 0, "max_tokens": 16, **members}
        headers = {"Authorization": f"Bearer {key or endpoint.api_key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def script(path: Path, text: str) -> str:
    """An executable that stands where the child's Python stands."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def crash(model: LocalModel) -> None:
    """Kill the child the hard way and wait until the supervisor has seen it."""
    pid = model.status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: model.status().pid is None)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    """Run a coroutine on the standard loop and on the one used in production."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


def test_the_first_acquire_starts_a_model_that_answers_a_chat(local_weights: Path, run: Runner) -> None:
    async def scene() -> None:
        async with supervised(local_weights) as model:
            assert model.status().state is LocalState.STOPPED
            endpoint = await model.acquire()
            status, answer = await asyncio.to_thread(chat, endpoint)
            model.release()
            assert status == 200
            assert "Paris" in answer["choices"][0]["message"]["content"]
            assert answer["model"] == "smollm2-135m-instruct"
            assert answer["usage"]["completion_tokens"] > 0
            assert (endpoint.host, model.status().state, model.status().in_flight) == (
                "127.0.0.1",
                LocalState.READY,
                0,
            )

    run(scene())


def test_the_model_streams_and_wants_its_key(local_weights: Path) -> None:
    async def scene() -> None:
        async with supervised(local_weights) as model:
            endpoint = await model.acquire()
            assert endpoint.api_key not in repr(endpoint)
            status, answer = await asyncio.to_thread(chat, endpoint, "not-the-key")
            assert (status, answer["error"]["type"]) == (401, "authentication_error")
            assert await asyncio.to_thread(streamed_text, endpoint) == "The capital of France is Paris."
            model.release()

    asyncio.run(scene())


def streamed_text(endpoint: LocalEndpoint) -> str:
    """The text of a streamed chat completion, put together."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=DEADLINE_SECONDS)
    question = {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
    body = json.dumps({"messages": [question], "temperature": 0, "max_tokens": 16, "stream": True})
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {endpoint.api_key}"})
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    assert lines[-2] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def worked(pid: int) -> dict[str, int]:
    """The processor time of each thread, in ticks."""
    stats = {one.parent.name: one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/stat")}
    return {thread: int(stat.rpartition(")")[2].split()[11]) for thread, stat in stats.items()}


def test_tokens_are_made_with_half_of_the_cores(local_weights: Path) -> None:
    """With all of them, each token takes hundreds of turns of the scheduler where other processes keep them busy."""

    async def scene() -> None:
        async with supervised(local_weights) as model:
            endpoint = await model.acquire()
            story = [{"role": "user", "content": "Tell a long story about a ship."}]
            pid = model.status().pid
            assert pid
            for _ in range(2):  # the second time its prompt is known, of which all of them would have a part
                before = worked(pid)
                _, answer = await asyncio.to_thread(chat, endpoint, messages=story, max_tokens=80)
            assert answer["usage"]["completion_tokens"] == 80
            ticks = sorted(now - before.get(thread, 0) for thread, now in worked(pid).items())
            busy = [one for one in ticks if one > ticks[-1] / 4]
            assert len(busy) <= max(1, len(os.sched_getaffinity(0)) // 2)
            model.release()

    asyncio.run(scene())


def test_one_request_may_use_four_thousand_tokens_and_a_longer_one_is_refused(local_weights: Path) -> None:
    async def scene() -> None:
        async with supervised(local_weights) as model:
            endpoint = await model.acquire()
            question = [{"role": "user", "content": "word " * 4200}]
            status, answer = await asyncio.to_thread(chat, endpoint, messages=question)
            model.release()
            assert (status, answer["error"]["type"]) == (400, "exceed_context_size_error")
            assert answer["error"]["n_ctx"] == 4096

    asyncio.run(scene())


def test_concurrent_callers_share_one_start_and_one_that_gives_up_does_not_spoil_it(local_weights: Path) -> None:
    async def scene() -> None:
        async with supervised(local_weights) as model:
            callers = [asyncio.create_task(model.acquire()) for _ in range(8)]
            await until(lambda: model.status().pid is not None)
            callers[0].cancel()
            endpoints = await asyncio.gather(*callers[1:])
            assert len(set(endpoints)) == 1
            assert callers[0].cancelled()
            assert model.status().in_flight == 7
            for _ in endpoints:
                model.release()
            with pytest.raises(RuntimeError):
                model.release()

    asyncio.run(scene())


def test_the_child_sees_neither_the_gateways_environment_nor_its_key_on_the_command_line(
    local_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_SECRET_KEY", "a-secret-of-the-gateway")

    async def scene() -> None:
        async with supervised(local_weights) as model:
            endpoint = await model.acquire()
            pid = model.status().pid
            assert pid
            told = visible(pid)
            assert endpoint.api_key.encode() not in told
            assert b"a-secret-of-the-gateway" not in told
            model.release()

    asyncio.run(scene())


def test_a_killed_model_is_back_for_the_next_request_with_another_key(local_weights: Path, run: Runner) -> None:
    async def scene() -> None:
        async with supervised(local_weights) as model:
            before = await model.acquire()
            await crash(model)
            model.release()
            status = model.status()
            assert (status.state, status.failures) == (LocalState.BACKING_OFF, 1)
            assert 0 < status.retry_in_seconds <= local_model.FIRST_BACK_OFF_SECONDS
            assert status.last_error
            assert "SIGKILL" in status.last_error
            after = await model.acquire()
            assert after.api_key != before.api_key
            assert (await asyncio.to_thread(chat, after))[0] == 200
            model.release()

    run(scene())


def test_a_model_that_keeps_crashing_is_refused_with_the_time_of_the_next_try(local_weights: Path) -> None:
    async def scene() -> None:
        clock = SkippingClock()
        async with supervised(local_weights, clock=clock) as model:
            for failures in range(1, 6):
                await model.acquire()
                await crash(model)
                model.release()
                assert model.status().failures == failures
                if failures < 5:
                    clock.skipped += 30
            with pytest.raises(LocalModelUnavailable, match="SIGKILL") as caught:
                await model.acquire()
            assert caught.value.kind is Kind.NOT_READY
            assert caught.value.retry_after_seconds == pytest.approx(8, abs=1)
            assert model.status().in_flight == 0
            clock.skipped += 30
            await model.acquire()
            clock.skipped += local_model.HEALTHY_SECONDS
            await crash(model)
            assert model.status().failures == 1

    asyncio.run(scene())


def test_an_unused_model_is_stopped_and_comes_back(local_weights: Path, run: Runner) -> None:
    async def scene() -> None:
        async with supervised(local_weights, idle_seconds=0.2) as model:
            await model.acquire()
            first = model.status().pid
            assert first
            model.release()
            await until(lambda: model.status().state is LocalState.STOPPED)
            assert not alive(first)
            assert model.status().failures == 0
            await model.acquire()
            assert model.status().pid != first
            model.release()

    run(scene())


def test_a_model_in_use_is_not_stopped_as_idle(local_weights: Path) -> None:
    async def scene() -> None:
        async with supervised(local_weights, idle_seconds=0.05) as model:
            endpoint = await model.acquire()
            pid = model.status().pid
            for _ in range(3):
                assert (await asyncio.to_thread(chat, endpoint))[0] == 200
            assert (model.status().pid, model.status().state) == (pid, LocalState.READY)
            model.release()
            await until(lambda: model.status().state is LocalState.STOPPED)

    asyncio.run(scene())


def test_a_closed_model_leaves_no_process_and_refuses(local_weights: Path, run: Runner) -> None:
    async def scene() -> None:
        model = LocalModel(local_weights, SystemClock())
        await model.acquire()
        pid = model.status().pid
        assert pid
        await model.aclose()
        assert not alive(pid)
        assert model.status().state is LocalState.CLOSED
        with pytest.raises(LocalModelUnavailable, match="shutting down"):
            await model.acquire()
        await model.aclose()

    run(scene())


def test_closing_during_the_start_ends_the_start_and_tells_the_caller(local_weights: Path, run: Runner) -> None:
    async def scene() -> None:
        model = LocalModel(local_weights, SystemClock())
        caller = asyncio.create_task(model.acquire())
        await until(lambda: model.status().pid is not None)
        pid = model.status().pid
        assert pid
        await model.aclose()
        with pytest.raises(LocalModelUnavailable, match="shutting down"):
            await caller
        assert not alive(pid)

    run(scene())


def test_missing_weights_say_how_to_install_them(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path / "none.gguf") as model:
            with pytest.raises(LocalModelUnavailable, match="pointsman local install") as caught:
                await model.acquire()
            assert caught.value.status == 503
            assert (model.status().state, model.status().in_flight) == (LocalState.NOT_INSTALLED, 0)

    asyncio.run(scene())


def test_damaged_weights_are_refused_before_the_engine_reads_them(local_weights: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    shutil.copyfile(local_weights, damaged)
    with damaged.open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"not the weights")

    async def scene() -> None:
        async with supervised(damaged) as model:
            for _ in range(2):
                with pytest.raises(LocalModelUnavailable, match="damaged") as caught:
                    await model.acquire()
                assert "pointsman local remove" in caught.value.message
                assert caught.value.retry_after_seconds
            assert model.status().failures == 1

    asyncio.run(scene())


def test_a_missing_engine_says_how_to_install_it(local_weights: Path, tmp_path: Path) -> None:
    # The same Python and the same import path without the folder that holds the engine.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in ("msgspec", "pointsman"):
        (libraries / name).symlink_to(Path(sys.modules[name].__file__ or "").parent)
    without = script(tmp_path / "python", f'export PYTHONPATH="{libraries}"\nexec "{sys.executable}" -S "$@"')

    async def scene() -> None:
        async with supervised(local_weights, executable=without) as model:
            with pytest.raises(LocalModelUnavailable, match=r"pip install 'pointsman\[local\]'"):
                await model.acquire()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo broken >&2; exit 3", "exit status 3"),
        ("kill -ILL $$", "AVX2"),
        ("echo hello", "unreadable"),
        ("exec sleep 60", "not ready within 0.3 s"),
    ],
)
def test_a_start_that_fails_says_why_and_when_to_come_back(tmp_path: Path, text: str, reason: str) -> None:
    weights = tmp_path / "weights"
    weights.touch()
    broken = script(tmp_path / "python", text)

    async def scene() -> None:
        async with supervised(weights, executable=broken, start_timeout_seconds=0.3) as model:
            with pytest.raises(LocalModelUnavailable, match=reason) as caught:
                await model.acquire()
            assert caught.value.retry_after_seconds == pytest.approx(0.5, abs=0.3)

    asyncio.run(scene())


def test_an_executable_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.touch()

    async def scene() -> None:
        async with supervised(weights, executable=str(tmp_path / "no-python")) as model:
            with pytest.raises(LocalModelUnavailable, match="No such file"):
                await model.acquire()

    asyncio.run(scene())


def test_a_child_that_ignores_the_polite_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "TERMINATE_SECONDS", 0.2)
    weights = tmp_path / "weights"
    weights.touch()
    announcement = '{"host":"127.0.0.1","port":1}'
    stubborn = script(tmp_path / "python", f"trap '' TERM\necho '{announcement}'\nwhile :; do sleep 0.05; done")

    async def scene() -> None:
        async with supervised(weights, executable=stubborn) as model:
            await model.acquire()
            pid = model.status().pid
            assert pid
            await model.aclose()
            assert not alive(pid)

    asyncio.run(scene())


PARENT = """
import asyncio, sys
from pathlib import Path
from pointsman.clock import SystemClock
from pointsman.upstream.local_model import LocalModel

async def scene():
    model = LocalModel(Path(sys.argv[1]), SystemClock())
    if sys.argv[2] == "ready":
        await model.acquire()
    else:
        start = asyncio.create_task(model.acquire())
        while model.status().pid is None:
            await asyncio.sleep(0)
    print(model.status().pid, file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(scene())
"""


@pytest.mark.parametrize("moment", ["ready", "starting"])
def test_the_child_dies_with_a_parent_that_was_killed(local_weights: Path, moment: str) -> None:
    command = [sys.executable, "-c", PARENT, str(local_weights), moment]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as parent:
        try:
            assert parent.stderr
            child = int(parent.stderr.readline())
            assert alive(child)
        finally:
            parent.kill()
    asyncio.run(until(lambda: not alive(child)))


@pytest.mark.parametrize("farewell", ["end of input", "SIGTERM"])
def test_the_child_ends_at_the_end_of_its_input_and_on_sigterm(local_weights: Path, farewell: str) -> None:
    command = [sys.executable, "-P", "-m", "pointsman.upstream.local_server", "--model", str(local_weights)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(b"key\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["port"] > 0
        if farewell == "SIGTERM":
            child.terminate()
            assert child.wait(DEADLINE_SECONDS) == -signal.SIGTERM
        else:
            child.stdin.close()
            assert child.wait(DEADLINE_SECONDS) == 0
