"""`pointsman serve` as a process of its own: for signals, limits and sudden death."""

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from databases import give_migrated_file
from gateway import KEY, PATIENCE_S, JournalView
from raw_client import ask, request

IMPORTS = "import pointsman.api, pointsman.app, pointsman.accounting.price_lookup, genai_prices.data_snapshot, uvloop"
PROGRAM = (str(Path(sys.executable).with_name("pointsman")),)


class ServeProcess:
    """A running server; ``log`` is what it wrote to standard error so far."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, data_dir: Path, log: list[str]) -> None:
        self.process = process
        self.port = port
        self.data_dir = data_dir
        self.journal = JournalView(data_dir / "journal")
        self._log = log

    @property
    def log(self) -> str:
        """Standard error."""
        return "".join(self._log)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(seconds)

    def gauge(self, name: str) -> float:
        """A value of /metrics."""
        text = ask(self.port, request("GET", "/metrics", b"", "connection: close", key=None)).body.decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"no {name} in {text}"
        return float(found[1])


def toml(connections: list[Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]) -> str:
    """A configuration file: simple values only."""

    def line(name: str, value: Any) -> str:
        return f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"

    tables = {"local": {"enabled": False}, "journal": {"interval_seconds": 0.02}, **settings}
    parts = [f"[{name}]\n" + "\n".join(line(*pair) for pair in table.items()) for name, table in tables.items()]
    parts += ["[[connections]]\n" + "\n".join(line(*pair) for pair in row.items()) for row in connections]
    return "\n\n".join(parts) + "\n"


@cache
def bytecode() -> str:
    """A folder with the byte code of everything that a server imports, whatever this machine says about writing it.

    Made once by a process of its own: a server whose files may not grow would leave torn ones behind.
    """
    folder = tempfile.mkdtemp(prefix="pointsman-tests-bytecode-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", IMPORTS]
    subprocess.run(command, env=environment | {"PYTHONPYCACHEPREFIX": folder}, check=True)
    return folder


@contextmanager
def serving(
    data_dir: Path, config: str, stderr: Path | None = None, secret_key: str | None = None
) -> Iterator[ServeProcess]:
    """A server on a free port; what is still running at the end is killed. ``stderr``: a file instead of ``log``."""
    data_dir.mkdir(exist_ok=True)
    give_migrated_file(data_dir)
    config_file = data_dir / "test.toml"
    config_file.write_text(config)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POINTSMAN_", "PYTHON"))}
    environment |= {
        "POINTSMAN_BOOTSTRAP_KEY": KEY,
        "PYTHONPYCACHEPREFIX": bytecode(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    if secret_key is not None:
        environment["POINTSMAN_SECRET_KEY"] = secret_key
    command = [*PROGRAM, "serve", "--port", "0", "--data-dir", str(data_dir), "--config", str(config_file)]
    log: list[str] = []
    with open(stderr or os.devnull, "w") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stderr is None else file,
            text=True,
        )
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()))
    reader.start()
    try:
        line = process.stdout.readline()
        found = re.search(r"listening on https?://127\.0\.0\.1:(\d+)", line)
        assert found is not None, f"{line!r} {log}"
        yield ServeProcess(process, int(found[1]), data_dir, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
        reader.join(PATIENCE_S)  # no process that the server started outlives it, and keeps the pipe open
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()
