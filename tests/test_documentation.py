"""Runs the README: every fenced block in it is executed as a newcomer would, against a gateway started by `make run`.

The virtual environment is the one that runs the tests, so that a run takes seconds. With POINTSMAN_TEST_FRESH_INSTALL=1
the installation from nothing is tested as well, with an empty home directory; CI does that.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import openai
import pytest

from pointsman.settings import load_settings
from pointsman.testing import OpenAIChat, running_simulator
from pointsman.upstream.local_weights import WEIGHTS_NAME, install_weights, weights_path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:20128"
LOCAL_MODEL = "local/smollm2-135m-instruct"
START_SECONDS = 30.0
INSTALL_SECONDS = 900.0  # the packages and the local model, over a slow line
FRESH = os.environ.get("POINTSMAN_TEST_FRESH_INSTALL") == "1"

# Which test runs which block: heading, language, number under that heading. Each block needs an entry here.
RUN, CURL, INSTALL = ("Start", "sh", 0), ("Start", "sh", 1), ("Start", "sh", 2)
PROGRAM, NEW_KEY = ("Use it", "python", 0), ("Use it", "sh", 0)
ADD_PROVIDER, DECLARE_PROVIDER = ("Add a provider", "sh", 0), ("Add a provider", "toml", 0)
TESTED = {RUN, CURL, INSTALL, PROGRAM, NEW_KEY, ADD_PROVIDER, DECLARE_PROVIDER}

pytestmark = pytest.mark.timeout(INSTALL_SECONDS if FRESH else 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A gateway in a process of its own, and what it printed before it served."""

    address: str
    curl: str
    key: str
    environment: dict[str, str]

    def client(self, key: str | None = None) -> openai.OpenAI:
        """The official SDK, pointed at this gateway."""
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key=key or self.key, max_retries=0)


def blocks() -> dict[tuple[str, str, int], str]:
    """The README's fenced blocks."""
    found: dict[tuple[str, str, int], str] = {}
    heading = ""
    for title, language, text in re.findall(r"^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if title:
            heading = title
        else:
            number = sum(1 for known in found if known[:2] == (heading, language))
            found[heading, language, number] = text
    return found


def with_own_commands(text: str) -> str:
    """``text`` with the commands of the environment that runs the tests."""
    return text.replace(".venv/bin/", f"{sys.prefix}/bin/")


def run_in_shell(text: str, environment: dict[str, str]) -> str:
    """What a pasted text prints; fails with everything it said when it does not succeed."""
    done = subprocess.run(
        ["sh", "-ec", text], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def newcomer(home: Path) -> dict[str, str]:
    """The environment of somebody who has nothing of ours yet: an empty home directory, no variable of Pointsman's."""
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("POINTSMAN_", "XDG_", "MAKE"))}
    return {**own, "HOME": str(home), "POINTSMAN_DATA_DIR": str(home / "data")}


def copy_checkout(target: Path) -> Path:
    """A copy of what is under version control, as a clone would have it."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listing.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@contextlib.contextmanager
def started(command: list[str], folder: Path, environment: dict[str, str], seconds: float) -> Iterator[RunningGateway]:
    """A gateway started by ``command`` in ``folder``, stopped as Ctrl-C does. It must print a line to paste in time."""
    output, errors = folder / "stdout.txt", folder / "stderr.txt"
    with output.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
    try:
        curl = wait_for_curl(process, output, errors, seconds)
        address, key = re.search(r"curl (http://\S+?)/v1", curl), re.search(r"Bearer ([^\"]+)", curl)
        assert address is not None
        assert key is not None
        yield RunningGateway(address=address[1], curl=curl, key=key[1], environment=environment)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_curl(process: "subprocess.Popen[bytes]", output: Path, errors: Path, seconds: float) -> str:
    """The printed line that begins with curl."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in output.read_text().splitlines(keepends=True):
            if line.strip().startswith("curl ") and line.endswith("\n"):
                return line.strip()
        if process.poll() is not None:
            break
        time.sleep(0.02)
    pytest.fail(f"no line to paste was printed\n{output.read_text()}\n{errors.read_text()}")


@pytest.fixture(scope="module")
def local_weights() -> Path:
    """The local model's weights, kept between sessions."""
    cache = Path(os.environ.get("POINTSMAN_TEST_CACHE") or Path.home() / ".cache" / "pointsman-test")
    return install_weights(cache, lambda done, total: None)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, local_weights: Path) -> Iterator[RunningGateway]:
    """The gateway that `make run` starts from a copy of the checkout, with the weights already there."""
    place = tmp_path_factory.mktemp("newcomer")
    environment = newcomer(place / "home")
    weights = weights_path(place / "home" / "data")
    weights.parent.mkdir(parents=True)
    weights.symlink_to(local_weights)
    assert weights.name == WEIGHTS_NAME
    command = [*blocks()[RUN].split(), "ARGS=--port 0", f"VENV={sys.prefix}"]
    with started(command, copy_checkout(place / "checkout"), environment, START_SECONDS) as running:
        yield running


def assert_answered(answer: str) -> None:
    """A chat completion with some text and a count of tokens."""
    completion = msgspec.json.decode(answer)
    assert completion["object"] == "chat.completion", answer
    assert completion["choices"][0]["message"]["content"].strip(), answer
    assert completion["usage"]["completion_tokens"] > 0, answer


def test_every_block_of_the_readme_is_run() -> None:
    assert set(blocks()) == TESTED


def test_the_readme_shows_the_line_that_is_printed(gateway: RunningGateway) -> None:
    shown = blocks()[CURL].strip().replace(ADDRESS, gateway.address).replace("$POINTSMAN_API_KEY", gateway.key)
    assert shown == gateway.curl


def test_the_printed_line_gets_an_answer_of_the_local_model(gateway: RunningGateway) -> None:
    assert_answered(run_in_shell(gateway.curl.replace("curl ", "curl -sS ", 1), gateway.environment))


def test_the_python_program_prints_an_answer(gateway: RunningGateway) -> None:
    program = blocks()[PROGRAM].replace(ADDRESS, gateway.address).replace("YOUR_KEY", gateway.key)
    assert "stream=True," in program
    program = program.replace("stream=True,", "stream=True, max_tokens=40,")  # alone it may ramble for 512
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=gateway.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_new_key_works(gateway: RunningGateway) -> None:
    key = run_in_shell(with_own_commands(blocks()[NEW_KEY]), gateway.environment).strip()
    assert gateway.client(key).models.list().data
    with pytest.raises(openai.AuthenticationError):
        gateway.client(key[:-1] + ("a" if key[-1] != "a" else "b")).models.list()


def test_an_added_provider_answers_at_once(gateway: RunningGateway) -> None:
    with running_simulator(OpenAIChat(api_key="sk-...", models=("gpt-4o-mini",))) as simulator:
        text = with_own_commands(blocks()[ADD_PROVIDER])
        assert "https://api.openai.com/v1" in text
        text = text.replace("https://api.openai.com/v1", f"{simulator.base_url} --allow-private")
        assert "openai" in run_in_shell(text, gateway.environment)
        answer = gateway.client().chat.completions.create(
            model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]
        )
        assert answer.choices[0].message.content
        assert simulator.requests[-1].model == "gpt-4o-mini"


def test_a_declared_provider_answers_under_its_alias(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(api_key="sk-...", models=("gpt-4o-mini",))) as simulator:
        text = blocks()[DECLARE_PROVIDER].replace("https://api.openai.com/v1", simulator.base_url)
        (tmp_path / "pointsman.toml").write_text(text, encoding="utf-8")
        environment = {**newcomer(tmp_path / "home"), "OPENAI_API_KEY": "sk-..."}
        command = [f"{sys.prefix}/bin/pointsman", "serve", "--port", "0"]
        with started(command, tmp_path, environment, START_SECONDS) as running:
            names = {model.id for model in running.client().models.list()}
            assert {"fast", "openai/gpt-4o", "openai/gpt-4o-mini"} <= names
            answer = running.client().chat.completions.create(
                model="fast", messages=[{"role": "user", "content": "Hello"}]
            )
            assert answer.choices[0].message.content


def test_the_example_file_is_valid() -> None:
    settings = load_settings(ROOT / "pointsman.example.toml")
    assert [connection.id for connection in settings.connections] == ["openai", "vllm"]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for pip's downloads, empty at first: both installations take nearly the same packages."""
    return str(tmp_path_factory.mktemp("downloads"))


@pytest.mark.skipif(not FRESH, reason="downloads everything again; set POINTSMAN_TEST_FRESH_INSTALL=1")
def test_make_run_needs_nothing_but_the_checkout(tmp_path: Path, downloads: str) -> None:
    environment = {**newcomer(tmp_path / "home"), "PIP_CACHE_DIR": downloads}
    checkout = copy_checkout(tmp_path / "checkout")
    command = [*blocks()[RUN].split(), "ARGS=--port 0"]
    with started(command, checkout, environment, INSTALL_SECONDS) as running:
        assert_answered(run_in_shell(running.curl.replace("curl ", "curl -sS ", 1), environment))
    with started(command, checkout, environment, START_SECONDS) as again:
        assert again.key == "$POINTSMAN_API_KEY", "the first key is shown once"


@pytest.mark.skipif(not FRESH, reason="downloads everything again; set POINTSMAN_TEST_FRESH_INSTALL=1")
def test_pip_installs_a_working_command(tmp_path: Path, downloads: str) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    venv.create(tmp_path / "venv", with_pip=True)
    environment = {**newcomer(tmp_path / "home"), "PIP_CACHE_DIR": downloads}
    environment["PATH"] = f"{tmp_path}/venv/bin:{environment['PATH']}"
    shown = run_in_shell(f"cd {checkout}\n{blocks()[INSTALL]}", environment)
    assert "Usage: pointsman" in shown
    shutil.rmtree(checkout)
    with started([f"{tmp_path}/venv/bin/pointsman", "serve", "--port", "0"], tmp_path, environment, 30) as running:
        assert run_in_shell(f"curl -sSf {running.address}/health", environment)
