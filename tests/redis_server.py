"""A real Redis server for tests, started once per run on a free port and killed at the end.

Set POINTSMAN_TEST_REDIS_URL to a server whose database may be emptied to take that one.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 10.0


class RedisProcess:
    """A server that keeps nothing on disk; `stop` and `start` make outages."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is missing: apt-get install redis-server"
        self._program = program
        self._directory = directory
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        options["dir"] = str(self._directory)
        command = [self._program, *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(self.port):
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@contextmanager
def running_redis() -> Iterator[RedisProcess]:
    """A server of one's own."""
    with tempfile.TemporaryDirectory(prefix="pointsman-redis-") as directory:
        redis = RedisProcess(Path(directory))
        redis.start()
        try:
            yield redis
        finally:
            redis.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a server that all tests of a run share."""
    given = os.environ.get("POINTSMAN_TEST_REDIS_URL")
    if given:
        yield given
        return
    with running_redis() as redis:
        yield redis.url
