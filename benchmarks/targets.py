"""What is measured: one row per target, and how its processes are started, found ready and ended.

To measure another gateway, add a row to ``targets()``.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import tls
from benchmarks.machine import SOURCES, BenchError, tool

KEY = "sk-test-0123456789abcdef0123456789abcdef"
UPSTREAM_KEY = "upstream-key-fedcba9876543210"
POINTSMAN_PORT = 23400
STOP_SECONDS = 10
PLAIN = "plain"  # the kind of upstream that every target has


@dataclass(frozen=True)
class Upstream:
    """One port of the mock: pause before each event of a stream, and the size of requests and buffered answers."""

    port: int
    gap_us: int = 0
    body_bytes: int = 0


UPSTREAMS = {
    PLAIN: Upstream(23100),
    "5ms": Upstream(23105, gap_us=5_000),
    "25ms": Upstream(23125, gap_us=25_000),
    "100kb": Upstream(23110, body_bytes=100_000),
    "1mb": Upstream(23111, body_bytes=1_000_000),
}
FAST = "fast"  # streams without pauses, from the plain upstream
TLS = "tls"  # the plain upstream behind a TLS terminator
KINDS = (*UPSTREAMS, FAST, TLS)
# Through the hub lane: a chat with tools of Anthropic's API onto the plain upstream, and streams onto the one with
# 5 ms gaps by a kind of host that takes some words otherwise (providers/hosts.json), so that every event is rewritten.
TRANSLATED = "translated"
TRANSLATED_STREAM = "translated-5ms"
TRANSLATING_HOST = "mistral"


@dataclass(frozen=True)
class Endpoint:
    """Where a target takes requests for one kind of upstream, the model to ask for, and how large a request is."""

    port: int
    model: str
    body_bytes: int = 0
    scheme: str = "http"
    api: str = "openai"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One row of the comparison.

    ``prepare(scratch)`` writes the target's files and returns its command; None means that there is nothing to start.
    ``endpoints`` is by kind of upstream; a scenario leaves out who lacks its kind. ``settles``: the target goes on
    working after its last answer (Pointsman projects its journal into the database), which is measured too.
    ``starts``: how often its start is timed, after one on an empty data directory; 0 for not at all.
    """

    name: str
    prepare: Callable[[Path], list[str]] | None
    endpoints: Mapping[str, Endpoint]
    env: Mapping[str, str] = field(default_factory=dict)
    settles: bool = False
    starts: int = 0

    @property
    def json(self) -> Endpoint:
        """Takes plain requests."""
        return self.endpoints[PLAIN]


NGINX_PORTS = {kind: 23300 + number for number, kind in enumerate(KINDS)}


def _prepare_nginx(scratch: Path) -> list[str]:
    values = {"SCRATCH": str(scratch), "UPSTREAM_KEY": UPSTREAM_KEY}
    values |= {"TLS_PORT": str(tls.PORT), "CERTIFICATE": str(tls.certificate().path)}
    values |= {f"MOCK_{kind.upper()}": str(upstream.port) for kind, upstream in UPSTREAMS.items()}
    values |= {f"NGINX_{kind.upper()}": str(port) for kind, port in NGINX_PORTS.items()}
    return nginx_command("nginx", values, scratch)


def nginx_command(name: str, values: Mapping[str, str], scratch: Path) -> list[str]:
    """Writes ``load/NAME.conf.in`` with its ``@NAMES@`` replaced; returns the command that runs nginx with it."""
    text = (SOURCES / f"{name}.conf.in").read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    path = scratch / f"{name}.conf"
    path.write_text(text)
    # -e: where errors go before the file is read; the built-in place belongs to root.
    return [tool("nginx"), "-e", str(scratch / f"{name}.log"), "-c", str(path)]


def pointsman_program() -> str:
    """The command in this environment; raises BenchError without it."""
    program = Path(sys.prefix) / "bin" / "pointsman"
    if not program.exists():
        raise BenchError(f"{program} does not exist: install Pointsman into this environment (pip install -e .)")
    return str(program)


def _pointsman_command(scratch: Path, port: int, options: Sequence[str], further: str) -> list[str]:
    parts = [further] if further else []
    upstreams = {kind: f"http://127.0.0.1:{upstream.port}/v1" for kind, upstream in UPSTREAMS.items()}
    for kind, url in {**upstreams, TLS: f"https://127.0.0.1:{tls.PORT}/v1"}.items():
        parts.append(
            f'[[connections]]\nid = "bench-{kind}"\nkind = "openai"\nbase_url = "{url}"\n'
            f'api_key = "{UPSTREAM_KEY}"\nmodels = ["up-model"]\n'
        )
    parts.append(
        f'[[connections]]\nid = "bench-hub"\nkind = "{TRANSLATING_HOST}"\nbase_url = "{upstreams["5ms"]}"\n'
        f'api_key = "{UPSTREAM_KEY}"\nmodels = ["up-model"]\n'
    )
    for kind in (*UPSTREAMS, TLS):
        parts.append(f'[[models]]\nname = "my-model-{kind}"\ntarget = "bench-{kind}/up-model"\n')
    config = scratch / "pointsman.toml"
    config.write_text("\n".join(parts))
    command = [pointsman_program(), "serve", "--host", "127.0.0.1", "--port", str(port)]
    place = () if "--data-dir" in options else ("--data-dir", str(scratch / f"data-{port}"))
    return [*command, *place, "--config", str(config), *options]


def pointsman(
    name: str = "pointsman", port: int = POINTSMAN_PORT, options: Sequence[str] = (), further: str = ""
) -> Target:
    """Pointsman as users run it, with further options of ``pointsman serve`` and ``further`` lines in its file."""
    endpoints = {kind: _sized(kind, port, f"my-model-{PLAIN if kind == FAST else kind}") for kind in KINDS}
    endpoints[TRANSLATED] = Endpoint(port, f"my-model-{PLAIN}", api="anthropic")
    endpoints[TRANSLATED_STREAM] = Endpoint(port, "bench-hub/up-model")
    return Target(
        name,
        lambda scratch: _pointsman_command(scratch, port, options, further),
        endpoints,
        {"POINTSMAN_BOOTSTRAP_KEY": KEY, "SSL_CERT_FILE": str(tls.certificate().path)},
        settles=True,
        starts=5,
    )


def _sized(kind: str, port: int, model: str, scheme: str = "http") -> Endpoint:
    upstream = UPSTREAMS.get(kind)
    return Endpoint(port, model, upstream.body_bytes if upstream is not None else 0, scheme)


def targets() -> dict[str, Target]:
    """Every target by name, in the order in which a round measures them."""
    direct = {kind: _sized(kind, upstream.port, "up-model") for kind, upstream in UPSTREAMS.items()}
    direct |= {FAST: direct[PLAIN], TLS: _sized(TLS, tls.PORT, "up-model", "https")}
    nginx = {kind: _sized(kind, port, "up-model") for kind, port in NGINX_PORTS.items()}
    rows = [Target("direct", None, direct), Target("nginx", _prepare_nginx, nginx), pointsman()]
    return {row.name: row for row in rows}


class Running:
    """A started process with all its children, pinned to cores given as for taskset; its output goes to a file."""

    def __init__(
        self, name: str, command: list[str], cores: str, log: Path, *, env: Mapping[str, str], favour: bool
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [tool("taskset"), "-c", cores, *command],
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

    def ended(self) -> bool:
        """True once the process has ended."""
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

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


def start_target(target: Target, scratch: Path, cores: str, *, favour: bool) -> Running | None:
    """Starts a target's processes; None if it has none. The target's own variables are added to the environment."""
    if target.prepare is None:
        return None
    log = scratch / f"{target.name}.log"
    return Running(target.name, target.prepare(scratch), cores, log, env=target.env, favour=favour)


def start_mock(programs: Path, scratch: Path, cores: str, *, favour: bool) -> Running:
    """Starts the upstream of all targets."""
    specs = [f"{one.port}:{one.gap_us}:{one.body_bytes}" for one in UPSTREAMS.values()]
    return Running("mock", [str(programs / "mock"), *specs], cores, scratch / "mock.log", env={}, favour=favour)


def start_tls(scratch: Path, cores: str, *, favour: bool) -> Running:
    """Starts nginx that ends TLS in front of the plain upstream."""
    kept = tls.certificate()
    values = {"SCRATCH": str(scratch), "TLS_PORT": str(tls.PORT), "MOCK": str(UPSTREAMS[PLAIN].port)}
    values |= {"CERTIFICATE": str(kept.path), "KEY": str(kept.key_path)}
    command = nginx_command("tls", values, scratch)
    return Running("tls", command, cores, scratch / "tls-output.log", env={}, favour=favour)


def require_free_ports(chosen: Iterable[Target]) -> None:
    """Raises BenchError if anything listens on a port that the benchmark is about to use."""
    ports = {upstream.port for upstream in UPSTREAMS.values()} | {tls.PORT}
    ports |= {endpoint.port for target in chosen for endpoint in target.endpoints.values()}
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
