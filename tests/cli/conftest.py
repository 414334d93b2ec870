"""A running server in a process of its own, a simulated upstream, and two ways to run a command."""

import io
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_gateway import ADMIN_KEY, UPSTREAM_KEY, Finished, Gateway, Launch, Run, environment

from pointsman.cli import main
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator

CONFIGURATION = """
[local]
enabled = false

[[connections]]
id = "filed"
kind = "openai"
base_url = "{base_url}"
api_key = "{key}"
models = ["sim-model"]

[[connections]]
id = "any"
kind = "openai"
base_url = "{base_url}"
api_key = "{key}"

[[models]]
name = "usual"
target = "filed/sim-model"
"""


@pytest.fixture(scope="session")
def upstream() -> Iterator[RunningSimulator]:
    """A simulated upstream that demands a key and has two models."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, models=("sim-model", "sim-large"))) as running:
        yield running


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: RunningSimulator) -> Iterator[Gateway]:
    """`pointsman serve` on a free port, for the whole session; stopped by SIGTERM."""
    home = tmp_path_factory.mktemp("gateway")
    text = CONFIGURATION.format(base_url=upstream.base_url, key=UPSTREAM_KEY)
    (home / "pointsman.toml").write_text(text)
    with (home / "stdout").open("wb") as stdout, (home / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pointsman.cli", "serve", "--port", "0"],
            cwd=home,
            env=environment(home / "data", POINTSMAN_BOOTSTRAP_KEY=ADMIN_KEY),
            stdout=stdout,
            stderr=stderr,
        )
        try:
            yield Gateway(url=_address(home / "stdout", process), home=home, data_dir=home / "data")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _address(announcement: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        for word in announcement.read_text().split("\n")[0].split()[4:6]:
            if word.startswith("http://"):
                return word
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {(announcement.parent / 'stderr').read_text()}")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command line in this process: ``run("keys", "list", at=gateway)``; without ``at`` on empty data."""

    def command(*arguments: str, at: Gateway | None = None, stdin: str | None = None) -> Finished:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        monkeypatch.chdir(at.home if at is not None else tmp_path)
        monkeypatch.setenv("POINTSMAN_DATA_DIR", str(at.data_dir if at is not None else tmp_path / "data"))
        monkeypatch.setattr(sys, "argv", ["pointsman", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        output = capsys.readouterr()
        return Finished(code, output.out, output.err)

    return command


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a command in a process of its own; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def command(*arguments: str, at: Gateway | None = None, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pointsman.cli", *arguments],
            cwd=at.home if at is not None else tmp_path,
            env=environment(at.data_dir if at is not None else tmp_path / "data", **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield command
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
