"""What is measured: one row per target, and how its processes are started, found ready and ended.

To measure another gateway, add a row to ``targets()``.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import SOURCES, BenchError, tool

KEY = "sk-test-0123456789abcdef0123456789abcdef"
UPSTREAM_KEY = "upstream-key-fedcba9876543210"
# Kind of upstream -> (port of the mock, pause before each event in us).
UPSTREAMS = {"plain": (23100, 0), "5ms": (23105, 5_000), "25ms": (23125, 25_000)}
POINTSMAN_PORT = 23400
STOP_SECONDS = 10


@dataclass(frozen=True)
class Endpoint:
    """Where a target takes requests for one kind of upstream, and the model name to ask for."""

    port: int
    model: str


@dataclass(frozen=True)
class Target:
    """One row of the comparison.

    ``prepare(scratch)`` writes the target's files and returns its command; None means that there is nothing to start.
    ``json`` takes plain requests, ``streams`` streams by kind of upstream. ``settles``: the target goes on working
    after its last answer (Pointsman projects its journal into the database), which is measured too. ``timed_start``:
    how long it takes to start is measured.
    """

    name: str
    prepare: Callable[[Path], list[str]] | None
    json: Endpoint
    streams: Mapping[str, Endpoint]
    env: Mapping[str, str] = field(default_factory=dict)
    settles: bool = False
    timed_start: bool = False


def _prepare_nginx(scratch: Path) -> list[str]:
    values = {"SCRATCH": str(scratch), "UPSTREAM_KEY": UPSTREAM_KEY}
    values |= {f"MOCK_{kind.upper()}": str(port) for kind, (port, _) in UPSTREAMS.items()}
    values |= {"NGINX_JSON": "23300", "NGINX_STREAM": "23302", "NGINX_5MS": "23305", "NGINX_25MS": "23325"}
    text = (SOURCES / "nginx.conf.in").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    path = scratch / "nginx.conf"
    path.write_text(text)
    # -e: where errors go before the file is read; the built-in place belongs to root.
    return [tool("nginx"), "-e", str(scratch / "nginx.log"), "-c", str(path)]


def _prepare_pointsman(scratch: Path) -> list[str]:
    program = Path(sys.prefix) / "bin" / "pointsman"
    if not program.exists():
        raise BenchError(f"{program} does not exist: install Pointsman into this environment (pip install -e .)")
    parts = []
    for kind, (port, _) in UPSTREAMS.items():
        parts.append(
            f'[[connections]]\nid = "bench-{kind}"\nkind = "openai"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
            f'api_key = "{UPSTREAM_KEY}"\nmodels = ["up-model"]\n'
        )
    for kind in UPSTREAMS:
        parts.append(f'[[models]]\nname = "{_alias(kind)}"\ntarget = "bench-{kind}/up-model"\n')
    config = scratch / "pointsman.toml"
    config.write_text("\n".join(parts))
    options = ["--host", "127.0.0.1", "--port", str(POINTSMAN_PORT), "--data-dir", str(scratch / "data")]
    return [str(program), "serve", *options, "--config", str(config)]


def _alias(kind: str) -> str:
    return "my-model" if kind == "plain" else f"my-model-{kind}"


def targets() -> dict[str, Target]:
    """Every target by name, in the order in which a round measures them."""
    rows = [
        Target(
            "direct",
            None,
            Endpoint(UPSTREAMS["plain"][0], "up-model"),
            {kind: Endpoint(port, "up-model") for kind, (port, _) in UPSTREAMS.items()},
        ),
        Target(
            "nginx",
            _prepare_nginx,
            Endpoint(23300, "up-model"),
            {kind: Endpoint(port, "up-model") for kind, port in [("plain", 23302), ("5ms", 23305), ("25ms", 23325)]},
        ),
        Target(
            "pointsman",
            _prepare_pointsman,
            Endpoint(POINTSMAN_PORT, "my-model"),
            {kind: Endpoint(POINTSMAN_PORT, _alias(kind)) for kind in UPSTREAMS},
            {"POINTSMAN_BOOTSTRAP_KEY": KEY},
            settles=True,
            timed_start=True,
        ),
    ]
    return {row.name: row for row in rows}


class Running:
    """A started process with all its children, pinned to one core; its output goes to a file."""

    def __init__(
        self, name: str, command: list[str], core: int, log: Path, *, env: Mapping[str, str], favour: bool
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [tool("taskset"), "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
                env={**os.environ, **env},
            )
        self.pid = self._process.pid
        if favour:
            favour_session(self.pid)

    def check_alive(self) -> None:
        """Raises BenchError with the end of the log if the process has ended."""
        status = self._process.poll()
        if status is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise BenchError(f"{self.name} ended with status {status}; the end of {self._log}:\n{tail}")

    def stop(self) -> bool:
        """SIGTERM, then SIGKILL for whatever is left of its session; False if it had not ended by itself in time."""
        ended = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                ended = False
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        return ended


def start_target(target: Target, scratch: Path, core: int, *, favour: bool) -> Running | None:
    """Starts a target's processes; None if it has none. The target's own variables are added to the environment."""
    if target.prepare is None:
        return None
    log = scratch / f"{target.name}.log"
    return Running(target.name, target.prepare(scratch), core, log, env=target.env, favour=favour)


def start_mock(programs: Path, scratch: Path, core: int, *, favour: bool) -> Running:
    """Starts the upstream of all targets."""
    specs = [f"{port}:{gap_us}" for port, gap_us in UPSTREAMS.values()]
    return Running("mock", [str(programs / "mock"), *specs], core, scratch / "mock.log", env={}, favour=favour)


def require_free_ports(chosen: list[Target]) -> None:
    """Raises BenchError if anything listens on a port that the benchmark is about to use."""
    ports = {port for port, _ in UPSTREAMS.values()}
    ports |= {endpoint.port for target in chosen for endpoint in [target.json, *target.streams.values()]}
    for port in sorted(ports):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise BenchError(f"something already listens on 127.0.0.1:{port}; end it first")


def favour_session(pid: int) -> None:
    """Gives the session of ``pid`` more of a busy machine's CPU (scheduler autogroups; root only)."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text("-15")
    except OSError as error:
        raise BenchError(f"--favour needs root and a kernel with scheduler autogroups: {error}") from error
