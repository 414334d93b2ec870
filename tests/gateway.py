"""A real gateway in a thread of its own, and what its journal holds: for tests of whole requests."""

import asyncio
import io
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvloop

from databases import give_migrated_file
from pointsman.accounting.journal import list_segments, read_segment
from pointsman.app import Server
from pointsman.canonical.limits import NO_LIMITS, Limits, Priority
from pointsman.canonical.record import RequestRecord
from pointsman.installation import Installation, open_installation
from pointsman.keyring import Secret
from pointsman.logs import RequestLog, configure_logging
from pointsman.server.host import Host
from pointsman.settings import Environment, parse_settings

KEY = "sk-pm-test-0123456789abcdefghijklmnopqrstuvwxyz"
UPSTREAM_KEY = "sk-upstream-QwErTy0123456789AsDfGh-zxcv"
PATIENCE_S = 20.0  # of a machine that is busy with other work; usually it takes a fraction of a second

T = TypeVar("T")


def wait_until(found: Callable[[], T | None], what: str, seconds: float = PATIENCE_S) -> T:
    """What ``found`` gives, once it gives something; AssertionError that names ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.002)


class JournalView:
    """The records in a journal directory, read again and again while it grows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._positions: dict[str, int] = {}
        self._records: list[RequestRecord] = []

    def records(self) -> list[RequestRecord]:
        """Every record there is now, in the order of writing."""
        for name in list_segments(self._directory):
            while True:
                part = read_segment(self._directory / name, self._positions.get(name, 0), 1000, live=True)
                self._positions[name] = part.position
                self._records += part.records
                assert part.damages == []
                if part.at_end:
                    break
        return self._records

    def of(self, request_id: str) -> list[RequestRecord]:
        """The records of one request: there must never be two."""
        return [record for record in self.records() if record.request_id == request_id]

    def the(self, request_id: str) -> RequestRecord:
        """The one record of a request whose answer is complete: it is written before the answer's last byte."""
        [record] = self.of(request_id)
        return record


class RunningGateway:
    """A gateway that listens; its objects may be touched only through `call`."""

    def __init__(self, server: Server, installation: Installation, log: io.StringIO) -> None:
        self.server = server
        self.installation = installation
        self.address = server.address
        self.port = int(server.address.rpartition(":")[2])
        self.data_dir = installation.data_dir
        self.journal = JournalView(self.data_dir / "journal")
        self._loop = asyncio.get_running_loop()
        self._log = log

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def read(self, read: Callable[[], T]) -> T:
        """What ``read`` gives in the gateway's loop."""

        async def work() -> T:
            return read()

        return self.call(work())

    def log_text(self) -> str:
        """Everything logged so far, request lines included."""
        request_log = self.server._request_log
        assert request_log is not None
        self.read(request_log.flush)
        return self._log.getvalue()


@contextmanager
def running_gateway(data_dir: Path, settings: Mapping[str, Any]) -> Iterator[RunningGateway]:
    """A gateway with ``settings`` (as in pointsman.toml) on a free port, without the local model unless asked for.

    No request waits for an account to recover, unless a test asks for it.
    """
    hasty = {"wait_for_cooldown": {"enabled": False}, "combo_cooldown_wait": {"enabled": False}}
    quiet = {"local": {"enabled": False}, "journal": {"interval_seconds": 0.01}, "routing": {"model_lists": False}}
    document = {**quiet, **settings}
    document["resilience"] = {**hasty, **document.get("resilience", {})}
    document["server"] = {"port": 0, "shutdown_grace_seconds": 0.01, **document.get("server", {})}
    give_migrated_file(data_dir)
    started: list[RunningGateway] = []
    ready, stop = threading.Event(), asyncio.Event()
    failures: list[BaseException] = []
    complaints: list[str] = []

    async def live() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
        environment = Environment(data_dir=data_dir, bootstrap_key=Secret(KEY))
        async with open_installation(parse_settings(document, "test"), environment) as installation:
            installation.applied_within_seconds = PATIENCE_S
            server = Server(installation, RequestLog(log))
            host: Host | None = None
            try:
                host = await server.start()
                started.append(RunningGateway(server, installation, log))
                ready.set()
                await stop.wait()
            finally:
                if host is not None:
                    await host._drain()  # what `Host.serve` does at a signal, which only a main thread can have
                await server.aclose()

    def run() -> None:
        try:
            uvloop.run(live())
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)
        finally:
            ready.set()

    with captured_log() as log:
        thread = threading.Thread(target=run, name="gateway", daemon=True)
        thread.start()
        assert ready.wait(PATIENCE_S), "the gateway did not start"
        try:
            if not failures:
                yield started[0]
        finally:
            if started:
                started[0]._loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "the gateway did not stop"
        if failures:
            raise failures[0]
        assert not complaints, f"the event loop complained: {complaints}"


def limited_key(gateway: RunningGateway, limits: Limits = NO_LIMITS, priority: Priority = "normal") -> str:
    """A key that the gateway knows already."""
    installation = gateway.installation

    async def work() -> str:
        _, secret = await installation.keys.create("limited", limits=limits, priority=priority)
        assert await installation.await_revision(await installation.configuration.revision())
        return secret.reveal()

    return gateway.call(work())


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Structured logs as the server writes them, kept in memory."""
    before = structlog.get_config()
    log = io.StringIO()
    configure_logging("debug", log)  # type: ignore[arg-type]
    try:
        yield log
    finally:
        structlog.configure(**before)
