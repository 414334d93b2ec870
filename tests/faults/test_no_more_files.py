"""A server that can open no more files: calls are refused as its own fault, and go on when there is room again."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import wait_until
from raw_client import Connection, chat
from scripted_upstream import running_upstream
from serve_process import serving, toml

BODY = b'{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
USUAL = 1024


@contextmanager
def soft_limit(count: int) -> Iterator[None]:
    """Processes that are started meanwhile may open so many files, unless they ask for more."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_calls_are_refused_as_our_own_fault_while_no_file_can_be_opened(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    settings = {"resilience.wait_for_cooldown": {"enabled": False}}
    with running_upstream() as upstream, soft_limit(USUAL):
        upstream.script = lambda number, body: [ANSWER]  # and the connection ends: each call needs a new one
        row = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "models": ["m"]}
        with serving(tmp_path, toml([row], settings)) as server, Connection(server.port) as client:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
            assert client.ask(chat(model="up/m")).text == "hi"
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, hard))
            for _ in range(20):
                answer = client.ask(chat(model="up/m"))
                assert answer.status == 503, answer.body
                assert answer.headers["retry-after"] == "1"
                assert "limit of open files" in answer.error["message"]
            assert upstream.requests == 1
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
            assert client.ask(chat(model="up/m")).text == "hi", "nothing is held against the upstream"
            assert upstream.requests == 2
            wait_until(lambda: "no more files can be opened" in server.log, "line of the log")
            assert server.log.count("no more files can be opened") == 1
            assert "Traceback" not in server.log
            server.process.terminate()
            assert server.wait() == 0
