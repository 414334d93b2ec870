"""Two nodes on one database: the master key is changed on both by one command, they write one audit log, and wrong
passwords count together.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from node_tools import configuration

from gateway import UPSTREAM_KEY
from pointsman.testing import RunningSimulator
from raw_client import Answer, ask, chat, request
from serve_process import PROGRAM, ServeProcess, serving

pytestmark = pytest.mark.timeout(180)  # some seconds on an idle machine: each command is a process
PASSWORD = "four words are enough"


@pytest.fixture
def nodes(upstream: RunningSimulator, database_url: str, tmp_path: Path) -> Iterator[tuple[ServeProcess, ServeProcess]]:
    """Two nodes with a key file each; the second one has two workers."""
    one, two = tmp_path / "one", tmp_path / "two"
    storage = {"database_url": database_url}
    with ExitStack() as stack:
        first = stack.enter_context(serving(one, configuration(upstream, storage=storage)))
        two.mkdir()
        shutil.copy(one / "secret.key", two / "secret.key")
        second = stack.enter_context(serving(two, configuration(upstream, storage=storage, server={"workers": 2})))
        yield first, second


def run(node: ServeProcess, *words: str, stdin: str = "") -> str:
    """What a command prints that is run next to a node, with its key file."""
    places = ["--data-dir", str(node.data_dir), "--config", str(node.data_dir / "test.toml")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    done = subprocess.run(
        [*PROGRAM, *words, *places], input=stdin, capture_output=True, text=True, timeout=60, check=False,
        env={**environment, "UPSTREAM_KEY": UPSTREAM_KEY},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sign_in(node: ServeProcess, password: str) -> Answer:
    body = json.dumps({"password": password}).encode()
    return ask(node.port, request("POST", "/api/auth/login", body, "content-type: application/json", key=None))


def test_one_command_changes_the_key_of_all_nodes_while_they_serve(
    nodes: tuple[ServeProcess, ServeProcess], upstream: RunningSimulator
) -> None:
    one, two = nodes
    place = ("--base-url", upstream.base_url, "--allow-private", "--api-key", "env:UPSTREAM_KEY")
    run(one, "connections", "add", "stored", "--kind", "openai", *place)
    old = (one.data_dir / "secret.key").read_text()
    assert "sealed anew" in run(one, "secrets", "rotate")
    new = (one.data_dir / "secret.key").read_text()
    assert (two.data_dir / "secret.key").read_text() == new != old
    for node in nodes:
        for _ in range(4):  # workers take turns
            assert ask(node.port, chat(model="stored/sim-model")).status == 200
    run(two, "connections", "add", "later", "--kind", "openai", *place)
    assert ask(one.port, chat(model="later/sim-model")).status == 200


def test_wrong_passwords_count_together_and_both_nodes_write_one_log(nodes: tuple[ServeProcess, ServeProcess]) -> None:
    one, two = nodes
    run(one, "users", "password", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    tries = [sign_in(node, "not it") for node in (one, two, one, two, two)]
    assert [answer.status for answer in tries] == [401] * 5
    assert [sign_in(node, PASSWORD).status for node in nodes] == [429, 429]
    log = json.loads(run(two, "audit", "list", "--json", "--action", "auth.login.*"))
    assert [row["action"].rpartition(".")[2] for row in log] == ["locked"] * 2 + ["failed"] * 5
    for node in nodes:
        assert "the audit log is whole" in run(node, "audit", "verify")
