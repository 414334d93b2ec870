"""The composition root: settings in, every object out. The only module that constructs the parts.

`Installation` is what commands share (data directory, database, keys, connections); `Server` adds what serves requests.
"""

import asyncio
import fcntl
import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, cast

import structlog

from pointsman import __version__
from pointsman.accounting.burst import Burst
from pointsman.accounting.counters import Counters, open_counters
from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger import Ledger
from pointsman.accounting.prices import PriceService
from pointsman.accounting.projector import Projector
from pointsman.accounting.telemetry import Meter
from pointsman.clock import Clock, SystemClock
from pointsman.dialects import openai_chat
from pointsman.errors import ConfigError
from pointsman.flow import Gateway, Snapshot, serve
from pointsman.identity.keys import KeyService
from pointsman.keyring import Secret, load_master_key
from pointsman.logs import RequestLog
from pointsman.policy.limits import Limiter, build_limit_table
from pointsman.server.admission import Admission
from pointsman.server.edge import Edge, error_headers
from pointsman.server.host import Host
from pointsman.server.management import AsgiApp, ManagementMount, Plane
from pointsman.server.operations import Operations
from pointsman.server.routes import Router
from pointsman.settings import Environment, Settings
from pointsman.storage.aliases import AliasRepository
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.connections import ConnectionRepository
from pointsman.storage.database import Database, StorageError
from pointsman.storage.keys import KeyRepository
from pointsman.storage.nodes import NodeRepository, NodeRow
from pointsman.storage.requests import RequestRepository
from pointsman.ticker import Ticker
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.connections import ConnectionService
from pointsman.upstream.local_model import LocalModel
from pointsman.upstream.local_weights import weights_path, weights_status

WATCH_SECONDS: Final = 0.1
HEARTBEAT_SECONDS: Final = 2.0
DEAD_AFTER_SECONDS: Final = 10.0
APPLY_POLL_SECONDS: Final = 0.02
LOG_FLUSH_SECONDS: Final = 0.05
GC_THRESHOLD: Final = 10_000  # requests make few cycles; the default of 700 looks for them every handful of requests
COUNTER_FLUSH_SECONDS: Final = 0.5
LAST_PROJECTION_SECONDS: Final = 5.0
CHAT_PATHS: Final = ("/v1/chat/completions", "/api/v1/chat/completions")
MODEL_BASES: Final = ("/v1/models", "/api/v1/models")

log = structlog.get_logger("pointsman.app")


class Installation:
    """One data directory and its database: what every command and the server work on."""

    def __init__(self, settings: Settings, environment: Environment, database: Database, clock: Clock) -> None:
        self.settings = settings
        self.environment = environment
        self.data_dir = environment.data_dir
        self.database = database
        self.database_url = database_url(settings, environment)
        self.clock = clock
        master = load_master_key(self.data_dir, environment.secret_key)
        self.key_rows = KeyRepository(database)
        self.requests = RequestRepository(database)
        self.nodes = NodeRepository(database)
        self.configuration = ConfigurationRepository(database)
        self.keys = KeyService(self.key_rows, master, clock)
        self.connections = ConnectionService(
            ConnectionRepository(database),
            AliasRepository(database),
            master,
            clock,
            (settings.connections, settings.models),
            environment,
        )

    async def await_revision(self, revision: int, seconds: float = 3.0) -> bool:
        """Wait until every live server works with ``revision`` or a later one; False when one does not in time."""
        deadline = self.clock.monotonic() + seconds
        while True:
            live = await self.nodes.live(self.clock.now_us() - int(DEAD_AFTER_SECONDS * 1e6))
            if all(node.revision >= revision for node in live):
                return True
            if self.clock.monotonic() > deadline:
                return False
            await asyncio.sleep(APPLY_POLL_SECONDS)


@asynccontextmanager
async def open_installation(settings: Settings, environment: Environment) -> AsyncIterator[Installation]:
    """Open (and at first use create) the data directory and database. Raises ConfigError."""
    _make_data_dir(environment.data_dir)
    database = Database.open(database_url(settings, environment), environment.data_dir)
    try:
        await database.migrate()
        yield Installation(settings, environment, database, SystemClock())
    finally:
        await database.aclose()


def database_url(settings: Settings, environment: Environment) -> str | None:
    """Which database: the environment's, else the file's; None is SQLite in the data directory."""
    return environment.database_url or settings.storage.database_url


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make the data directory {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise ConfigError(f"the data directory {path} can't be written to")


class Server:
    """A running gateway process."""

    def __init__(self, installation: Installation, request_log: RequestLog | None) -> None:
        self._installation = installation
        self._clock = installation.clock
        self._settings = settings = installation.settings
        self._loop = loop = asyncio.get_running_loop()
        self._request_log = request_log
        self._node_id = self._clock.new_id("node")
        self._tasks: set[asyncio.Task[None]] = set()
        self._patient: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._lock: IO[str] = _lock_data_dir(installation.data_dir)
        self.prices = PriceService()
        self.ticker = Ticker(loop, self._clock)
        self.client = UpstreamClient(loop, settings.upstream, self.ticker)
        self.local_model = self._make_local_model()
        self.limiter = Limiter(_open_counters(installation), self._clock, settings.limits.on_failure)
        self.admission = Admission(settings.server, self.ticker)
        journal_dir = installation.data_dir / "journal"
        journal = _open_journal(journal_dir, self._clock, settings.journal.segment_bytes)
        self.ledger = Ledger(journal, request_log.line if request_log is not None else None)
        self.projector = Projector(
            installation.database,
            journal_dir,
            self._clock,
            batch_rows=settings.journal.batch_rows,
            retention_days=settings.journal.retention_days,
            high_rate=Burst(installation.data_dir, installation.database_url),
        )
        self.meter = Meter()
        self.gateway: Gateway
        self.edge: Edge
        self.first_key: Secret | None = None
        self.address = ""

    def _make_local_model(self) -> LocalModel | None:
        local = self._settings.local
        if not local.enabled:
            return None
        return LocalModel(
            weights_path(self._installation.data_dir),
            self._clock,
            idle_seconds=local.idle_seconds,
            start_timeout_seconds=local.start_timeout_seconds,
        )

    async def start(self) -> Host:
        """Build the snapshot, listen, and begin the background work; gives the host to `Host.serve`."""
        installation, settings = self._installation, self._settings
        self.first_key = await installation.keys.ensure_first(installation.environment.bootstrap_key)
        self.ticker.start()
        self.gateway = Gateway(
            clock=self._clock,
            client=self.client,
            ledger=self.ledger,
            observe=self.meter.observe,
            snapshot=await self._snapshot(),
            error_headers=error_headers,
            admission=self.admission,
            limiter=self.limiter,
        )
        mount = ManagementMount(self._load_management)
        self.edge = Edge(settings.server, self.ticker, self._clock, self._router(mount), openai_chat.render_error)
        self._show_gauges()
        host = Host(self.edge, settings.server.host, settings.server.port, settings.server.shutdown_grace_seconds)
        port = await host.listen()
        self.address = f"http://{_bracketed(settings.server.host)}:{port}"
        await self._register()
        self._spawn("prices", self.prices.run())
        self._spawn("management", mount.run())
        self._patient.add(self._spawn("projector", self.projector.run(settings.journal.interval_seconds)))
        self._patient.add(self._spawn("configuration", self._watch()))
        self._spawn("upkeep", self._upkeep())
        self._spawn("counters", self._flush_counters())
        gc.collect()
        gc.freeze()  # what was made so far lives as long as the process: the collector need not look at it again
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        return host

    async def aclose(self) -> None:
        """End background work, project what is left for some seconds, close everything.

        Work that may hold a transaction is asked to end, not cancelled. What isn't projected now is at the next start.
        """
        self._stopping.set()
        self.projector.stop()
        await asyncio.gather(*self._patient)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.limiter.counters.aclose()
        self.ticker.stop()
        self.client.close()
        if self.local_model is not None:
            await self.local_model.aclose()
        self.ledger.close()
        if self._request_log is not None:
            self._request_log.flush()
        await self._project_rest()
        self._lock.close()

    async def _project_rest(self) -> None:
        deadline = self._clock.monotonic() + LAST_PROJECTION_SECONDS
        try:
            while self._clock.monotonic() < deadline and await self.projector.step():
                pass
            await self._installation.nodes.remove(self._node_id)
        except StorageError as error:
            log.warning("not everything was projected; the next start does it", reason=str(error))

    # requests

    def _router(self, mount: ManagementMount) -> Router:
        operations = Operations(self.gateway, self.meter, self._health)
        router = Router(mount)

        chat = partial(serve, self.gateway, openai_chat)
        for path in CHAT_PATHS:
            router.add("POST", path, chat)
        for base in MODEL_BASES:
            router.add("GET", base, operations.models)
            router.add("GET", f"{base}/*", operations.model)
        router.add("GET", "/health", operations.health)
        router.add("GET", "/metrics", operations.metrics)
        return router

    def _load_management(self) -> Plane:
        from pointsman.api import ManagementServices, build_management  # Litestar: imported after the start

        services = ManagementServices(gateway=self.gateway, requests=self._installation.requests)
        application = build_management(services)
        return cast(AsgiApp, application), frozenset(route.path.encode() for route in application.routes)

    def _health(self) -> dict[str, str]:
        return {"journal": "ok" if self.ledger.closed_reason is None else "can't be written"}

    def _show_gauges(self) -> None:
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "pointsman_requests_in_flight": ("Requests being served.", lambda: self.edge.active),
            "pointsman_requests_queued": ("Calls that wait for a place.", lambda: self.admission.queued),
            "pointsman_client_connections": ("Open client connections.", lambda: len(self.edge.connections)),
            "pointsman_upstream_connections": ("Open upstream connections.", lambda: self.client.open_connections),
            "pointsman_event_loop_lag_seconds": ("How late the last timer came.", lambda: self.ticker.lag_seconds),
            "pointsman_journal_lag_bytes": ("Journal not yet in the database.", lambda: self.projector.lag().bytes),
            "pointsman_journal_parked_records": ("Records waiting for the journal.", lambda: self.ledger.parked),
            "pointsman_journal_damaged": ("Unreadable journal pieces.", lambda: self.projector.counts.damaged),
            "pointsman_configuration_revision": ("Revision in use.", lambda: self.gateway.snapshot.revision),
        }
        for name, (text, read) in gauges.items():
            self.meter.gauge(name, text, read)
        limiter = self.limiter
        counters: dict[str, tuple[str, str, Callable[[], dict[str, int]]]] = {
            "pointsman_rate_limited_requests": ("Calls refused by a limit.", "limit", lambda: limiter.refused),
            "pointsman_overload_refusals": ("Calls refused by overload.", "reason", lambda: self.admission.refused),
            "pointsman_limit_store_events": (
                "Failures of the limits' store, and calls let through without a limit because of them.",
                "event",
                lambda: {"failure": limiter.counters.failures, "let_through": limiter.unlimited},
            ),
        }
        for name, (text, label, counts) in counters.items():
            self.meter.counter(name, text, label, counts)

    # configuration

    async def _snapshot(self) -> Snapshot:
        snapshot = await self._build_snapshot()
        for target in snapshot.catalogue.targets:
            snapshot.endpoints[target.connection.id].known_price(target.model)  # looked up before the first call
        return snapshot

    async def _build_snapshot(self) -> Snapshot:
        installation = self._installation
        revision = await installation.configuration.revision()
        keys = await installation.keys.table()
        installed = weights_status(installation.data_dir).installed
        connections = installation.connections
        return Snapshot(
            revision=revision,
            keys=keys,
            catalogue=await connections.catalogue(local=self.local_model is not None, local_installed=installed),
            endpoints=await connections.endpoints(self.local_model, self.prices),
            limits=build_limit_table(self._settings, keys, self.limiter.counters),
        )

    async def _watch(self) -> None:
        """Notice changes made by commands and other nodes, swap the snapshot, and tell that this node has."""
        installed = weights_status(self._installation.data_dir).installed
        last_beat = 0.0
        while not self._stopping.is_set():
            await asyncio.sleep(WATCH_SECONDS)
            try:
                revision = await self._installation.configuration.revision()
                installed_now = weights_status(self._installation.data_dir).installed
                changed = revision != self.gateway.snapshot.revision or installed_now != installed
                if changed:
                    installed = installed_now
                    self.gateway.snapshot = await self._snapshot()
                    log.info("configuration applied", revision=revision)
                if changed or self._clock.monotonic() - last_beat > HEARTBEAT_SECONDS:
                    last_beat = self._clock.monotonic()
                    await self._beat()
            except (StorageError, ConfigError) as error:
                log.warning("configuration not refreshed", reason=str(error))
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _register(self) -> None:
        now = self._clock.now_us()
        await self._installation.nodes.register(
            NodeRow(
                id=self._node_id,
                address=self.address,
                version=__version__,
                started_at=now,
                heartbeat_at=now,
                revision=self.gateway.snapshot.revision,
            )
        )

    async def _beat(self) -> None:
        known = await self._installation.nodes.beat(self._node_id, self._clock.now_us(), self.gateway.snapshot.revision)
        if not known:
            await self._register()

    # background work

    async def _upkeep(self) -> None:
        """Flush the request log, and try a closed journal again."""
        while True:
            await asyncio.sleep(LOG_FLUSH_SECONDS)
            if self._request_log is not None:
                self._request_log.flush()
            if self.ledger.closed_reason is not None:
                await asyncio.sleep(1.0)
                self.ledger.retry()

    async def _flush_counters(self) -> None:
        while True:
            await asyncio.sleep(COUNTER_FLUSH_SECONDS)
            await self.limiter.counters.flush()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def supervised() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("background work ended", work=name)

        task = self._loop.create_task(supervised(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _open_counters(installation: Installation) -> Counters:
    url = installation.environment.redis_url or installation.settings.storage.redis_url
    return open_counters(Secret(url) if url is not None else None, installation.clock)


def _lock_data_dir(data_dir: Path) -> IO[str]:
    """One server per data directory: two would project each other's journal and fight over the local model."""
    handle = open(data_dir / "server.lock", "a+")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise ConfigError(f"another server already runs with the data directory {data_dir}") from None
    return handle


def _open_journal(directory: Path, clock: Clock, segment_bytes: int) -> Journal:
    try:
        return Journal(directory, clock, segment_bytes)
    except OSError as error:
        raise ConfigError(f"can't write the request journal in {directory}: {error.strerror}") from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
