"""The composition root: settings in, every object out. The only module that constructs the parts.

`Installation` is what commands share (installation.py); `Server` adds what serves requests; several: supervision.py.
"""

import asyncio
import gc
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from pointsman.accounting.billing import billing_rules
from pointsman.accounting.counters import Counters, open_counters
from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger import Ledger
from pointsman.accounting.prices import PriceService
from pointsman.accounting.telemetry import Meter, Sums
from pointsman.background import Background
from pointsman.budget_parts import alert_sender, open_budgets
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.gateway import Gateway, Snapshot
from pointsman.gauges import show_gauges
from pointsman.guard_parts import GuardDesk
from pointsman.heap import give_back_regularly, keep_freed_memory
from pointsman.housekeeping import CHAT, EMBEDDER, Housekeeping
from pointsman.hub.combo_runs import ComboRuns
from pointsman.hub.lone_calls import LoneCalls
from pointsman.hub.profile_runs import ProfileRuns
from pointsman.identity.guessing import Guessing
from pointsman.identity.late_keys import LateKeys
from pointsman.installation import Installation
from pointsman.keyring import Secret
from pointsman.logs import RequestLog
from pointsman.policy.combo_memory import ComboMemory
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.limits import Limiter
from pointsman.policy.route_sharing import RouteSharing
from pointsman.policy.shared_calls import SharedCalls
from pointsman.presence import Presence
from pointsman.routing.health import HealthBook
from pointsman.server.admission import Admission
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import error_headers
from pointsman.server.file_routes import FileRoutes
from pointsman.server.host import Host
from pointsman.server.response_routes import ResponseRoutes
from pointsman.server.tls import ServerCertificate
from pointsman.server.worker_link import WorkerLink
from pointsman.server_routes import build_router
from pointsman.snapshots import Configured, SnapshotMaker
from pointsman.state_parts import open_cache, open_handoffs, open_kept_answers, open_vault
from pointsman.storage.combo_memories import ComboMemoryRepository
from pointsman.storage.database import StorageError
from pointsman.storage.route_memory import RouteMemoryRepository
from pointsman.ticker import Ticker
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import LocalChildren
from pointsman.upstream.identity_documents import IssuerKeys
from pointsman.upstream.local_vectors import LocalVectors
from pointsman.upstream.local_weights import weights_status
from pointsman.upstream.model_lists import ModelLists
from pointsman.upstream.price_watch import PriceWatch
from pointsman.upstream.probing import Prober

if TYPE_CHECKING:
    from pointsman.payment_parts import Payments

WATCH_SECONDS: Final = 0.1
HEARTBEAT_SECONDS: Final = 2.0
LOG_FLUSH_SECONDS: Final = 0.05
GC_THRESHOLD: Final = 10_000  # requests make few cycles; the default of 700 looks for them every handful of requests
COUNTER_FLUSH_SECONDS: Final = 0.5

log = structlog.get_logger("pointsman.app")


class Server:
    """A process that takes requests: the only one, with all that one process does alone, or one of several workers."""

    def __init__(
        self, installation: Installation, request_log: RequestLog | None, link: WorkerLink | None = None
    ) -> None:
        self._installation = installation
        self._clock = installation.clock
        self._settings = settings = installation.settings
        self._loop = loop = asyncio.get_running_loop()
        self._request_log = request_log
        self._presence = Presence(installation.nodes, self._clock, self._clock.new_id("node"))
        self._background = Background()
        self._stopping = asyncio.Event()
        self._link = link
        self.house = Housekeeping(installation) if link is None else None
        self.projector = self.house.projector if self.house is not None else None
        self.children = self._local_children() if settings.local.enabled else None
        self.prices = PriceService()
        self.unpriced = PriceWatch(self.prices)
        self.ticker = Ticker(loop, self._clock)
        self.client = UpstreamClient(loop, settings.upstream, self.ticker)
        self.lists = ModelLists(
            self.client,
            installation.model_lists,
            installation.connections.open_probes,
            self._clock,
            hours=settings.routing.model_list_hours,
        )
        self.limiter = Limiter(_open_counters(installation, link), self._clock, settings.limits.on_failure)
        self.admission = Admission(settings.server, self.ticker)
        journal = _open_journal(installation.data_dir / "journal", self._clock, settings.journal.segment_bytes)
        self.budgets = open_budgets(installation, journal)
        self.guards = GuardDesk((installation.guards, installation.guardrails), self.client, self._clock)
        self.alerts = alert_sender(installation, self.client)
        self.payments = _open_payments(installation, self.client)
        self.ledger = Ledger(journal, request_log.line if request_log is not None else None)
        self.combo_memory = ComboMemory(ComboMemoryRepository(installation.database), self._clock)
        self.profiles = ProfileRuns(self.combo_memory, self._clock)
        self.combos = ComboRuns(self.combo_memory, open_handoffs(installation))
        self.lone = LoneCalls()
        self.meter = Meter()
        self.health = HealthBook(settings.resilience)
        node_id = self._presence.node_id
        self.sharing = HealthSharing(installation.health_rows, self.health, self._clock, node_id)
        self.route_sharing = RouteSharing(RouteMemoryRepository(installation.database), self._clock, node_id)
        self.gateway: Gateway
        self.edge: Edge
        self.responses: ResponseRoutes
        self.files: FileRoutes
        self._snapshots = SnapshotMaker(installation, self._configured())
        self.late_keys = LateKeys(self._snapshots.keys, installation.key_source, self._clock)

    async def start(self) -> Host:
        """Build the snapshot, listen, and begin the background work; gives the host to `Host.serve`."""
        if self.house is not None:
            await self.house.ensure_first_key()
        self.ticker.start()
        await self.combo_memory.share()
        await self.sharing.load()
        self.gateway = self._open_gateway(await self._snapshots.make())
        await self._refresh_cache()
        self.route_sharing.of(self.gateway.planner.measurements, self.gateway.planner.sticky)
        await self.route_sharing.load()
        server = self._settings.server
        self.edge = Edge(server, self.ticker, self._clock, build_router(self, self._installation), error_dialect)
        self.edge.ip_filter = self.gateway.snapshot.ip_filter
        self.gateway.late_keys = self.edge.late_keys = self.late_keys
        identity = self._settings.identity
        window = identity.wrong_credentials_window_seconds
        self.edge.guessing = Guessing(self._clock, identity.wrong_credentials, window)
        show_gauges(self, self._installation, self._clock)
        host = Host(self.edge, server.host, server.port, server.shutdown_grace_seconds, self._certificate(), self.lone)
        self._installation.secrets.takes_part = True  # from here on it is waited for, as one of the nodes
        if self._link is None:
            await self._start_alone(host)
        else:
            await self._start_as_worker(self._link, host)
        if self.house is not None:
            self.house.start()
        self._begin_work()
        keep_freed_memory()
        gc.collect()
        gc.freeze()  # what was made so far lives as long as the process: the collector need not look at it again
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        return host

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._presence.address

    def _configured(self) -> Configured:
        return Configured(
            health=self.health,
            prices=self.prices,
            unpriced=self.unpriced,
            limiter=self.limiter,
            profiles=self.profiles,
            client=self.client,
            children=self.children,
            guards=self.guards,
            wake_lists=self.lists.wake,
        )

    def _open_gateway(self, snapshot: Snapshot) -> Gateway:
        settings, installation = self._settings, self._installation
        gateway = Gateway(
            clock=self._clock,
            client=self.client,
            ledger=self.ledger,
            observe=self.meter.observe,
            snapshot=snapshot,
            error_headers=error_headers,
            admission=self.admission,
            limiter=self.limiter,
            vault=open_vault(installation),
            files=installation.files,
            health=self.health,
            attempts=settings.attempts,
            shared=SharedCalls(self._clock, settings.answers),
            lone=self.lone,
            kept_answers=open_kept_answers(installation),
            cache=open_cache(installation),
            seed=partial(random.getrandbits, 64),
            combos=self.combos,
            profiles=self.profiles,
            default_model=settings.routing.default_model,
            most_sessions=settings.limits.key_sessions,
            billing=billing_rules(settings.ledger),
            keep_plans=settings.journal.plan_days > 0,
            budgets=self.budgets,
        )
        semantic = settings.cache.semantic
        if semantic.enabled and self.children is not None:
            embedder = self.children.embedder
            gateway.vectors = LocalVectors(embedder, self.client, self._clock, semantic.timeout_seconds)
        self.meter.listen(gateway.planner.observe)
        gateway.planner.catch_up = self.meter.catch_up
        return gateway

    def _begin_work(self) -> None:
        settings, installation, begin = self._settings, self._installation, self._background
        patient = {
            "configuration": self._watch,
            "combos": self.combo_memory.run,
            "budgets": self.budgets.desk.run,
            "vault": installation.states.run,
            "answers": installation.answers.run,
            "cache": installation.cached.run,
            "health": self.sharing.run,
            "routes": self.route_sharing.run,
        }
        for name, work in patient.items():
            begin.spawn_patient(name, work)
        begin.spawn("prices", self.prices.run)
        begin.spawn("upkeep", self._upkeep)
        begin.spawn("counters", self._flush_counters)
        begin.spawn("memory", give_back_regularly)
        begin.spawn("responses", self.responses.upkeep)
        begin.spawn("files", self.files.upkeep)
        if settings.issuers:
            begin.spawn("issuers", IssuerKeys(self.client, settings.issuers, installation.tokens, self._clock).run)
        if settings.routing.model_lists:
            begin.spawn("model lists", self.lists.run)
        if self._link is None or self._link.first:
            begin.spawn("probes", self.prober().run)
            if self.alerts is not None:
                begin.spawn_patient("budget alerts", partial(self.alerts.run, self._stopping))
            if self.payments is not None:
                begin.spawn_patient("payments", partial(self.payments.run, self._stopping))

    def prober(self) -> Prober:
        """What looks whether accounts that are left alone are well again."""
        return Prober(
            self.health,
            self.client,
            self._installation.connections,
            self._clock,
            find=lambda name: self.gateway.snapshot.catalogue.connections.get(name),
            chance=random.Random().random,
        )

    def _certificate(self) -> ServerCertificate | None:
        server = self._settings.server
        if server.tls_certificate is None or server.tls_key is None:
            return None
        certificate = ServerCertificate(server.tls_certificate, server.tls_key)
        self._background.spawn("certificate", certificate.watch)
        return certificate

    async def _start_alone(self, host: Host) -> None:
        server = self._settings.server
        await self._register(server.port)
        port = await host.listen()
        if port != server.port:  # whichever was free
            await self._register(port)

    async def _start_as_worker(self, link: WorkerLink, host: Host) -> None:
        await self._register(link.port)
        await link.connect(self.meter.sums)
        await link.listen(host, self._presence.node_id)
        self._background.spawn("reports", link.report)

    async def _register(self, port: int) -> None:
        """Be known as a node, which comes before the first request: a change that is confirmed is in effect here, too.

        One that comes from now on waits for this node. One that came since the snapshot was made did not.
        """
        self._presence.address = self._settings.server.address(port)
        await self._presence.register(self.gateway.snapshot.revision)
        if await self._installation.configuration.revision() != self.gateway.snapshot.revision:
            await self._apply()

    async def aclose(self) -> None:
        """End background work, close everything, and project what is left for some seconds.

        Work that may hold a transaction is asked to end, not cancelled. What isn't projected now is at the next start.
        """
        self._stopping.set()
        await self.lone.aclose()
        await self.combos.beside.aclose()
        self._installation.states.stop()
        self._installation.answers.stop()
        self._installation.cached.stop()
        self.combo_memory.stop()
        self.sharing.stop()
        self.budgets.desk.stop()
        self.route_sharing.stop()
        if self.house is not None:
            await self.house.stop()
        await self._installation.audit.aclose()
        await self._background.aclose()
        if self.payments is not None:
            await self.payments.aclose()
        await self.limiter.counters.aclose()
        self.late_keys.close()
        self.ticker.stop()
        self.client.close()
        self.ledger.close()
        if self._request_log is not None:
            self._request_log.flush()
        await self._presence.leave()
        if self._link is not None:
            await self._link.aclose()
        if self.house is not None:
            await self.house.aclose()

    def _local_children(self) -> LocalChildren | None:
        """This machine's models: our own programs, or as a worker the supervisor's."""
        if self._link is not None:
            return LocalChildren(chat=self._link.child(CHAT), embedder=self._link.child(EMBEDDER))
        children = self.house.children if self.house is not None else {}
        return LocalChildren(chat=children[CHAT], embedder=children[EMBEDDER]) if children else None

    async def sums(self) -> Sums:
        """The metrics of all workers."""
        return self.meter.sums() if self._link is None else await self._link.total()

    def checks(self) -> dict[str, str]:
        """What a look at the server's health tells, part by part."""
        return {"journal": "ok" if self.ledger.closed_reason is None else "can't be written"}

    # configuration

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
                changed = self.unpriced.has_changed() or changed
                if changed:
                    installed = installed_now
                    await self._apply()
                    log.info("configuration applied", revision=revision)
                self._snapshots.note_current()
                if changed or self._clock.monotonic() - last_beat > HEARTBEAT_SECONDS:
                    last_beat = self._clock.monotonic()
                    await self._presence.beat(self.gateway.snapshot.revision)
            except (StorageError, ConfigError) as error:
                log.warning("configuration not refreshed", reason=str(error))
                await asyncio.sleep(HEARTBEAT_SECONDS)
            except Exception:  # what is revoked later would work here for ever if this ended
                log.exception("configuration not refreshed")
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _apply(self) -> None:
        """Serve by the configuration as it is now. Raises StorageError, ConfigError."""
        await self._refresh_cache()
        self.gateway.snapshot = await self._snapshots.make()
        self.edge.ip_filter = self.gateway.snapshot.ip_filter

    async def _refresh_cache(self) -> None:
        if self.gateway.cache is not None:
            self.gateway.cache.cleared = await self._installation.clearings.table()

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


def _open_counters(installation: Installation, link: WorkerLink | None) -> Counters:
    """Redis' when there is one; without it workers count at their supervisor."""
    url = installation.environment.redis_url or installation.settings.storage.redis_url
    return open_counters(Secret(url) if url is not None else None, installation.clock, link)


def _open_payments(installation: Installation, client: UpstreamClient) -> "Payments | None":
    """None, and nothing imported for it, unless the operator takes payments."""
    if not installation.settings.x402.enabled:
        return None
    from pointsman.payment_parts import Payments

    return Payments(installation, client)


def _open_journal(directory: Path, clock: Clock, segment_bytes: int) -> Journal:
    try:
        return Journal(directory, clock, segment_bytes)
    except OSError as error:
        raise ConfigError(f"can't write the request journal in {directory}: {error.strerror}") from error
