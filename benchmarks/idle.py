"""Memory under many connections: idle ones, then streams, all on loopback, against `pointsman serve` as users run it.

`python -m benchmarks.idle [--idle 10000] [--streams 1000]` prints the resident memory at each stage, what one
connection costs, and how fast a healthy client is answered meanwhile.
"""

import argparse
import contextlib
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

KEY = "sk-bench-0123456789abcdef0123456789abcdef"
PROGRAM = str(Path(sys.executable).with_name("pointsman"))
STREAM_MODEL = "sim/sim-model#tokens=100000,pace_ms=1000"
PATIENCE_S = 60.0


def chat(model: str, *, stream: bool) -> bytes:
    """The bytes of a chat request."""
    body = b'{"model":"%b","stream":%b,"messages":[{"role":"user","content":"hello"}]}' % (
        model.encode(),
        b"true" if stream else b"false",
    )
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    )
    return head % (KEY.encode(), len(body)) + body


@contextlib.contextmanager
def program(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A command of ours that tells the port it listens on in its first line."""
    process = subprocess.Popen(
        [PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found is not None, f"{arguments} did not start"
        yield process, int(found[1])
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def connect(port: int, count: int) -> list[socket.socket]:
    """Open connections."""
    return [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(count)]


def begin_streams(sockets: list[socket.socket]) -> int:
    """Ask for an endless stream on each; gives how many have begun within PATIENCE_S."""
    message = chat(STREAM_MODEL, stream=True)
    begun: set[int] = set()
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            one.sendall(message)
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        deadline = time.monotonic() + PATIENCE_S
        while len(begun) < len(sockets) and time.monotonic() < deadline:
            for key, _ in selector.select(1.0):
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if b"data: " in data:
                    begun.add(key.fd)
    return len(begun)


def answer_times(port: int, count: int = 50) -> list[float]:
    """Milliseconds that buffered calls took, one after the other on a connection of their own."""
    message, times = chat("sim/sim-model#tokens=3", stream=False), []
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        for _ in range(count):
            begin = time.perf_counter()
            client.sendall(message)
            answer = client.recv(65536)
            times.append((time.perf_counter() - begin) * 1000)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    return sorted(times)


def report(stage: str, pid: int, before: float, port: int) -> float:
    """Print a line; gives the memory."""
    memory, times = resident_mib(pid), answer_times(port)
    line = f"{stage:28s} {memory:7.1f} MiB  {memory - before:+7.1f} MiB"
    print(f"{line}   a healthy call: p50 {statistics.median(times):.2f} ms, longest {times[-1]:.2f} ms")
    return memory


def allow_files(wanted: int) -> None:
    """Let this process and its children open so many files; AssertionError when the machine doesn't."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard == resource.RLIM_INFINITY or hard > wanted, f"{wanted} open files are needed, {hard} are allowed"


@contextlib.contextmanager
def gateway(
    connections: int, streams: int = 0, server: Mapping[str, float] = MappingProxyType({})
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`pointsman serve` in front of a simulator, for so many client connections; ``server``: settings of its table."""
    with tempfile.TemporaryDirectory() as folder, program("simulate", "openai", "--port", "0") as (_, upstream):
        config = Path(folder) / "bench.toml"
        table = {"port": 0, "max_connections": connections, "keepalive_timeout_seconds": 600, **server}
        config.write_text(
            "[server]\n" + "".join(f"{name} = {value}\n" for name, value in table.items()) + "[upstream]\n"
            f"max_connections_per_host = {streams + 100}\n[local]\nenabled = false\n[log]\nrequests = false\n"
            f'[[connections]]\nid = "sim"\nkind = "openai"\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
        )
        environment = {"POINTSMAN_BOOTSTRAP_KEY": KEY, "PATH": "/usr/bin:/bin"} | _python_path()
        command = ("serve", "--data-dir", folder, "--config", str(config))
        with program(*command, environment=environment) as started:
            yield started


def measure(idle: int, streams: int) -> None:
    """Start all, open all, print."""
    wanted = idle + 2 * streams + 1000
    allow_files(wanted)
    with gateway(wanted, streams) as (server, port):
        answer_times(port)
        time.sleep(2.0)  # prices and management are imported after the start
        start = report("start", server.pid, 0.0, port)
        idlers = connect(port, idle)
        with_idle = report(f"{idle} idle connections", server.pid, start, port)
        listeners = connect(port, streams)
        begun = begin_streams(listeners)
        with_streams = report(f"and {begun} of {streams} streams", server.pid, with_idle, port)
        for one in (*idlers, *listeners):
            one.close()
        time.sleep(1.0)
        report("all closed", server.pid, with_streams, port)
        print(f"per idle connection {(with_idle - start) * 1024 / max(1, idle):.1f} KiB, ", end="")
        print(f"per stream {(with_streams - with_idle) * 1024 / max(1, streams):.1f} KiB (client and upstream side)")


def _python_path() -> dict[str, str]:
    """Our own sources first, as in this process."""
    return {"PYTHONPATH": str(Path(__file__).resolve().parent.parent / "src")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=1_000)
    options = parser.parse_args()
    measure(options.idle, options.streams)
