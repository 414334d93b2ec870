"""What tests of several processes look at."""

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway import UPSTREAM_KEY
from pointsman.testing import RunningSimulator
from serve_process import ServeProcess, toml


def configuration(upstream: RunningSimulator, **settings: Mapping[str, Any]) -> str:
    """A configuration file with the upstream as ``sim``."""
    connection = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
    return toml([connection], settings)


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
