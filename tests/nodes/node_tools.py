"""What tests of several processes look at."""

import os
import re
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gateway import UPSTREAM_KEY
from pointsman.testing import RunningSimulator
from serve_process import PROGRAM, ServeProcess, serving, toml

MASTER_KEY = "bm9kZXMgdGhhdCBzaGFyZSBhIGRhdGFiYXNlISE="


def configuration(upstream: RunningSimulator, **settings: Mapping[str, Any]) -> str:
    """A configuration file with the upstream as ``sim``."""
    connection = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
    return toml([connection], settings)


def start(stack: ExitStack, upstream: RunningSimulator, home: Path, **storage: str) -> ServeProcess:
    """A node; ``storage``: the table of its configuration."""
    config = configuration(upstream, storage=storage)
    return stack.enter_context(serving(home, config, secret_key=MASTER_KEY))


def command(node: ServeProcess, *words: str) -> str:
    """What a command prints that is run next to a node."""
    places = ["--data-dir", str(node.data_dir), "--config", str(node.data_dir / "test.toml")]
    done = subprocess.run(
        [*PROGRAM, *words, *places], capture_output=True, text=True, timeout=20, check=True,
        env={**os.environ, "POINTSMAN_SECRET_KEY": MASTER_KEY},
    )  # fmt: skip
    return done.stdout.strip()


def ready_workers(server: ServeProcess) -> list[int]:
    """The processes that became ready, in this order, ended ones included."""
    return [int(pid) for pid in re.findall(r'"pid":(\d+),"share":\d+,"event":"worker ready"', server.log)]


def recorded(data_dir: Path) -> list[str]:
    """The request ids in the database, as often as they are there."""
    database = sqlite3.connect(f"file:{data_dir / 'pointsman.db'}?mode=ro", uri=True)
    try:
        return [row[0] for row in database.execute("SELECT request_id FROM requests")]
    finally:
        database.close()
