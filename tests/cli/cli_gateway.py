"""The running server as tests see it, and calls to it."""

import http.client
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

ADMIN_KEY = "sk-test-admin-0123456789abcdef0123456789"
UPSTREAM_KEY = "sk-upstream-0123456789abcdefghij"
# Makes standard input the controlling terminal, so that Ctrl-C reaches the command, and becomes the command.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
T = TypeVar("T")


class Gateway(msgspec.Struct, frozen=True):
    """Where the server listens and keeps its data; ``home`` has its configuration file and its log."""

    url: str
    home: Path
    data_dir: Path

    def chat(self, model: str, key: str = ADMIN_KEY, text: str = "hello") -> tuple[int, Any]:
        """One chat call: status and decoded answer."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def everything_written(self) -> bytes:
        """Every byte of the data directory and of the server's outputs."""
        files = [path for path in self.home.rglob("*") if path.is_file() and path.name != "pointsman.toml"]
        return b"".join(path.read_bytes() for path in files)


class Finished:
    """What a command left: exit code and both outputs."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


Run = Callable[..., Finished]
Launch = Callable[..., subprocess.Popen[str]]


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """A process environment without settings of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POINTSMAN_", "XDG_"))}
    return {**kept, "POINTSMAN_DATA_DIR": str(data_dir), "COLUMNS": "80", "TERM": "xterm", **more}


def wait_until(read: Callable[[], T], seconds: float = 10.0) -> T:
    """The first true value that ``read`` gives; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


class Terminal:
    """A command on a pseudo-terminal. ``everything`` is all that it has shown."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.seen = ""
        self.everything = ""

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    def type_hidden(self, text: str) -> None:
        """Press these keys once the terminal no longer shows what is typed."""
        wait_until(lambda: not termios.tcgetattr(self._master)[3] & termios.ECHO)
        self.type(text)

    def expect(self, text: str) -> None:
        """Read until ``text`` comes, and go on behind it."""

        def found() -> bool:
            if text not in self.seen and select.select([self._master], [], [], 0.1)[0]:
                part = os.read(self._master, 65536).decode(errors="replace")
                self.seen += part
                self.everything += part
            return text in self.seen

        wait_until(found)
        self.seen = self.seen.partition(text)[2]


@contextmanager
def terminal(gateway: Gateway, *arguments: str) -> Iterator[Terminal]:
    """Run a command on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, sys.executable, "-m", "pointsman.cli", *arguments],
        cwd=gateway.home,
        env=environment(gateway.data_dir),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)
