"""A webhook that judges requests and answers, on a real socket of this machine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class HookServer(ThreadingHTTPServer):
    """``answer`` is what it says, ``status`` how; ``asked`` what it was sent, ``heads`` with which header lines.

    While ``held`` is clear it says nothing.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Any = None
        self.status = 200
        self.asked: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.held = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/judge"
        self.allow()

    def allow(self) -> None:
        """Allow everything from now on, and forget what was asked."""
        self.answer, self.status = {"action": "allow"}, 200
        self.asked.clear()
        self.heads.clear()
        self.held.set()


class _Handler(BaseHTTPRequestHandler):
    server: HookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        self.server.asked.append(msgspec.json.decode(body))
        self.server.held.wait(10)
        said = self.server.answer
        answer = said if isinstance(said, bytes) else msgspec.json.encode(said)
        try:
            self.send_response(self.server.status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            pass  # whoever asked has gone

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running_hook() -> Iterator[HookServer]:
    """A webhook that listens."""
    server = HookServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.held.set()
        server.shutdown()
        server.server_close()
        thread.join()
