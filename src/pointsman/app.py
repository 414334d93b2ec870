"""The composition root: settings in, every object out. The only module that constructs the parts.

`Installation` is what commands share (installation.py); `Server` adds what serves requests; several: supervision.py.
"""

import asyncio
import gc
import random
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import structlog

from pointsman import __version__
from pointsman.accounting.billing import billing_rules
from pointsman.accounting.counters import Counters, open_counters
from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger import Ledger
from pointsman.accounting.prices import PriceService
from pointsman.accounting.telemetry import Meter, Sums
from pointsman.budget_parts import alert_sender, open_budgets
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.gateway import Gateway, Snapshot
from pointsman.gauges import show_gauges
from pointsman.guard_parts import open_guards
from pointsman.heap import keep_freed_memory
from pointsman.hub.combo_runs import ComboRuns
from pointsman.hub.profile_runs import ProfileRuns
from pointsman.installation import CHAT, EMBEDDER, Housekeeping, Installation, supervised
from pointsman.keyring import Secret
from pointsman.logs import RequestLog
from pointsman.policy.combo_memory import ComboMemory
from pointsman.policy.endpoint_figures import EndpointFiguresBook
from pointsman.policy.handoffs import HandoffBook
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.kept_answers import KeptAnswers
from pointsman.policy.limits import Limiter, build_limit_table
from pointsman.policy.opaque_state import Vault
from pointsman.policy.response_cache import ResponseCache
from pointsman.policy.route_sharing import RouteSharing
from pointsman.policy.shared_calls import SharedCalls
from pointsman.routing.health import HealthBook
from pointsman.server.admission import Admission
from pointsman.server.chat_socket_routes import ChatSocketRoutes
from pointsman.server.contract_models import ContractModels
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import error_headers
from pointsman.server.file_routes import FileRoutes
from pointsman.server.file_uploads import FileUploads
from pointsman.server.host import Host
from pointsman.server.inference import InferenceRoutes
from pointsman.server.management import AsgiApp, ManagementMount, Plane, served_paths
from pointsman.server.openrouter_models import OpenRouterModels
from pointsman.server.operation_routes import OperationRoutes
from pointsman.server.operations import Operations
from pointsman.server.response_routes import ResponseRoutes
from pointsman.server.routes import Router, contract_hosts
from pointsman.server.tls import ServerCertificate
from pointsman.server.translator_send import TranslatorSend
from pointsman.server.vendor_models import VendorModels
from pointsman.server.worker_link import WorkerLink
from pointsman.storage.combo_figures import ComboFigureRepository
from pointsman.storage.combo_memories import ComboMemoryRepository
from pointsman.storage.database import StorageError
from pointsman.storage.endpoint_figures import EndpointFigures
from pointsman.storage.nodes import NodeRow
from pointsman.storage.route_memory import RouteMemoryRepository
from pointsman.ticker import Ticker
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import LocalChildren
from pointsman.upstream.engines import Engine, make_engine
from pointsman.upstream.identity_documents import IssuerKeys
from pointsman.upstream.local_vectors import LocalVectors
from pointsman.upstream.local_weights import weights_status
from pointsman.upstream.model_lists import ModelLists
from pointsman.upstream.price_watch import PriceWatch
from pointsman.upstream.probing import Prober

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
        self._node_id = self._clock.new_id("node")
        self._tasks: set[asyncio.Task[None]] = set()
        self._patient: set[asyncio.Task[None]] = set()
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
        self.alerts = alert_sender(installation, self.client)
        self.ledger = Ledger(journal, request_log.line if request_log is not None else None)
        self.combo_memory = ComboMemory(ComboMemoryRepository(installation.database), self._clock)
        self.profiles = ProfileRuns(self.combo_memory, self._clock)
        self._engine: Engine | None = None  # who chooses for profiles
        self.combos = ComboRuns(self.combo_memory, self._handoffs())
        self.meter = Meter()
        self.health = HealthBook(settings.resilience)
        self.sharing = HealthSharing(installation.health_rows, self.health, self._clock, self._node_id)
        self.route_sharing = RouteSharing(RouteMemoryRepository(installation.database), self._clock, self._node_id)
        self.gateway: Gateway
        self.edge: Edge
        self.responses: ResponseRoutes
        self.files: FileRoutes
        self.address = ""

    async def start(self) -> Host:
        """Build the snapshot, listen, and begin the background work; gives the host to `Host.serve`."""
        settings, house = self._settings, self.house
        if house is not None:
            await house.ensure_first_key()
        self.ticker.start()
        await self.combo_memory.share()
        await self.sharing.load()
        self.gateway = Gateway(
            clock=self._clock,
            client=self.client,
            ledger=self.ledger,
            observe=self.meter.observe,
            snapshot=await self._snapshot(),
            error_headers=error_headers,
            admission=self.admission,
            limiter=self.limiter,
            vault=self._vault(),
            files=self._installation.files,
            health=self.health,
            attempts=settings.attempts,
            shared=SharedCalls(self._clock, settings.answers),
            kept_answers=self._kept_answers(),
            cache=self._cache(),
            seed=partial(random.getrandbits, 64),
            combos=self.combos,
            profiles=self.profiles,
            default_model=settings.routing.default_model,
            most_sessions=settings.limits.key_sessions,
            billing=billing_rules(settings.ledger),
            keep_plans=settings.journal.plan_days > 0,
            budgets=self.budgets,
            guards=open_guards(settings, self._installation.environment, self.client, self._clock),
        )
        semantic = settings.cache.semantic
        if semantic.enabled and self.children is not None:
            embedder = self.children.embedder
            self.gateway.vectors = LocalVectors(embedder, self.client, self._clock, semantic.timeout_seconds)
        await self._refresh_cache()
        self.meter.listen(self.gateway.planner.observe)
        self.route_sharing.of(self.gateway.planner.measurements, self.gateway.planner.sticky)
        await self.route_sharing.load()
        self.gateway.planner.catch_up = self.meter.catch_up
        mount = ManagementMount(self._load_management)
        self.edge = Edge(settings.server, self.ticker, self._clock, self._router(mount), error_dialect)
        self.edge.ip_filter = self.gateway.snapshot.ip_filter
        show_gauges(self, self._installation, self._clock)
        server, certificate = settings.server, self._certificate()
        host = Host(self.edge, server.host, server.port, server.shutdown_grace_seconds, certificate)
        if self._link is None:
            self.address = server.address(await host.listen())
            await self._register()
        else:
            await self._start_as_worker(self._link, host)
        self._spawn("prices", self.prices.run())
        if settings.issuers:
            installation = self._installation
            issuers = IssuerKeys(self.client, settings.issuers, installation.tokens, self._clock)
            self._spawn("issuers", issuers.run())
        if settings.routing.model_lists:
            self._spawn("model lists", self.lists.run())
        if house is not None:
            house.start()
        self._patient.add(self._spawn("configuration", self._watch()))
        self._patient.add(self._spawn("combos", self.combo_memory.run()))
        self._spawn("upkeep", self._upkeep())
        self._spawn("counters", self._flush_counters())
        self._patient.add(self._spawn("budgets", self.budgets.desk.run()))
        if self.alerts is not None and (self._link is None or self._link.first):
            self._patient.add(self._spawn("budget alerts", self.alerts.run(self._stopping)))
        self._spawn("responses", self.responses.upkeep())
        self._patient.add(self._spawn("vault", self._installation.states.run()))
        self._patient.add(self._spawn("answers", self._installation.answers.run()))
        self._patient.add(self._spawn("cache", self._installation.cached.run()))
        self._spawn("files", self.files.upkeep())
        self._patient.add(self._spawn("health", self.sharing.run()))
        self._patient.add(self._spawn("routes", self.route_sharing.run()))
        if self._link is None or self._link.first:
            self._spawn("probes", self._prober().run())
        keep_freed_memory()
        gc.collect()
        gc.freeze()  # what was made so far lives as long as the process: the collector need not look at it again
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        return host

    def _prober(self) -> Prober:
        return Prober(
            self.health,
            self.client,
            self._installation.connections,
            self._clock,
            find=lambda name: self.gateway.snapshot.catalogue.connections.get(name),
            chance=random.Random().random,
        )

    def _vault(self) -> Vault:
        settings, states = self._settings.vault, self._installation.states
        return Vault(
            settings.memory_bytes,
            keep_seconds=settings.retention_hours * 3600.0,
            max_entry_bytes=settings.max_entry_bytes,
            secret=states.names_secret,
            store=states if settings.durable else None,
        )

    def _handoffs(self) -> HandoffBook:
        states = self._installation.states
        return HandoffBook(self._clock, states.names_secret, states if self._settings.vault.durable else None)

    def _kept_answers(self) -> KeptAnswers | None:
        store = self._installation.answers
        return KeptAnswers(store, store.names_secret) if self._settings.answers.durable else None

    def _cache(self) -> ResponseCache | None:
        settings, store = self._settings.cache, self._installation.cached
        if settings.mode == "off":
            return None
        return ResponseCache(settings, self._clock, store.names_secret, store if settings.durable else None)

    def _certificate(self) -> ServerCertificate | None:
        server = self._settings.server
        if server.tls_certificate is None or server.tls_key is None:
            return None
        certificate = ServerCertificate(server.tls_certificate, server.tls_key)
        self._spawn("certificate", certificate.watch())
        return certificate

    async def _start_as_worker(self, link: WorkerLink, host: Host) -> None:
        """Known as a node before the first request: a change that is confirmed is in effect here too."""
        self.address = self._settings.server.address(link.port)
        await self._register()
        await link.connect(self.meter.sums)
        await link.listen(host, self._node_id)
        self._spawn("reports", link.report())

    async def aclose(self) -> None:
        """End background work, close everything, and project what is left for some seconds.

        Work that may hold a transaction is asked to end, not cancelled. What isn't projected now is at the next start.
        """
        self._stopping.set()
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
        await asyncio.gather(*self._patient)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.limiter.counters.aclose()
        self.ticker.stop()
        self.client.close()
        self.ledger.close()
        if self._request_log is not None:
            self._request_log.flush()
        try:
            await self._installation.nodes.remove(self._node_id)
        except StorageError as error:
            log.warning("this node is still listed for some seconds", reason=str(error))
        if self._link is not None:
            await self._link.aclose()
        if self.house is not None:
            await self.house.aclose()

    # requests

    def _router(self, mount: ManagementMount) -> Router:
        operations = Operations(self.gateway, self._sums, self._health)
        router = Router(mount, contract_hosts(self._settings.server))
        others = OperationRoutes(self.gateway)
        InferenceRoutes(self.gateway, others.of_provider).add_to(router)
        self.responses = ResponseRoutes(
            self.gateway, self._installation.responses, self._clock, keep=self._settings.responses.keep
        )
        self.responses.add_to(router)
        others.add_to(router)
        self.files = FileRoutes(self.gateway, self._installation.files, max_bytes=self._settings.files.max_bytes)
        self.files.add_to(router)
        FileUploads(self.gateway, self.files, self._installation.master, self._clock).add_to(router)
        vendors = VendorModels(self.gateway)
        vendors.add_to(router)
        router.add("GET", "/", vendors.root(mount))
        ChatSocketRoutes(self.gateway, router).add_to(router)
        router.add("POST", "/api/translator/send", TranslatorSend(self.gateway).send)
        listed = vendors.by_vendor(operations.models, vendors.anthropic_models, vendors.gemini_models)
        one = vendors.by_vendor(operations.model, vendors.anthropic_model, vendors.gemini_model)
        models = ContractModels(self.gateway, operations, listed, one)
        models.add_to(router)
        router.add("GET", "/api/v1/providers/*", models.of_provider)
        figures = EndpointFiguresBook(EndpointFigures(self._installation.database), self._clock)
        OpenRouterModels(self.gateway, figures).add_to(router, models.models, models.model)
        router.add("GET", "/health", operations.health)
        router.add("GET", "/metrics", operations.metrics)
        return router

    def _load_management(self) -> Plane:
        from pointsman.api import build_management  # Litestar: imported when it is needed
        from pointsman.api.services import ManagementServices

        installation = self._installation
        services = ManagementServices(
            gateway=self.gateway,
            requests=installation.requests,
            connections=installation.connections,
            provider_nodes=installation.provider_nodes,
            resilience=installation.resilience,
            sharing=self.sharing,
            apply=installation.await_revision,
            checks=self._health,
            aliases=installation.aliases,
            presets=installation.presets,
            clearings=installation.clearings,
            combos=self._installation.combos,
            sign_in=installation.sign_in,
            providers=installation.open_id_providers(self.client),
            combo_figures=ComboFigureRepository(self._installation.database),
            budgets=installation.budgets,
            guardrails=installation.guardrails,
            ledger=installation.ledger,
            database=installation.database,
            journal=installation.data_dir / "journal",
            router_keys=installation.router_keys,
            key_codes=installation.key_codes,
            model_words=installation.model_words,
            engines=installation.engines,
            keys=installation.keys,
            users=installation.user_rows,
            accounts=installation.accounts,
            agents=installation.agents,
            ip_filter=installation.ip_filter,
        )
        application = build_management(services)
        return cast(AsgiApp, application), served_paths(route.path for route in application.routes)

    def _local_children(self) -> LocalChildren | None:
        """This machine's models: our own programs, or as a worker the supervisor's."""
        if self._link is not None:
            return LocalChildren(chat=self._link.child(CHAT), embedder=self._link.child(EMBEDDER))
        children = self.house.children if self.house is not None else {}
        return LocalChildren(chat=children[CHAT], embedder=children[EMBEDDER]) if children else None

    async def _sums(self) -> Sums:
        return self.meter.sums() if self._link is None else await self._link.total()

    def _health(self) -> dict[str, str]:
        return {"journal": "ok" if self.ledger.closed_reason is None else "can't be written"}

    # configuration

    async def _snapshot(self) -> Snapshot:
        snapshot = await self._build_snapshot()
        resilience = await self._installation.resilience.current()
        self.health.settings, self.health.protected = resilience.settings, resilience.protection
        self.unpriced.look(snapshot.catalogue, snapshot.endpoints)  # prices are looked up before the first call
        self.lists.wake()
        engine = await self._installation.engines.current()
        if engine != self._engine:
            self._engine, self.profiles.engine = engine, make_engine(engine, self.client, self._clock)
        return snapshot

    async def _build_snapshot(self) -> Snapshot:
        installation = self._installation
        revision = await installation.configuration.revision()
        keys = await installation.keys.table()
        installed = weights_status(installation.data_dir).installed
        connections, prices = installation.connections, self.prices
        local = self.children is not None
        guardrails = await installation.guardrails.table()
        combos = await installation.combos.book()
        catalogue = await connections.catalogue(local=local, local_installed=installed, prices=prices, combos=combos)
        return Snapshot(
            revision=revision,
            keys=keys,
            catalogue=catalogue,
            endpoints=await connections.endpoints(self.children, prices, catalogue.facts),
            limits=build_limit_table(self._settings, keys, await connections.limits(), self.limiter.counters),
            login_required=await installation.sign_in.login_required(),
            presets=await installation.presets.table(),
            ip_filter=await installation.ip_filter.filter(),
            budgets=await installation.budgets.table(
                credits=self._settings.credits.enforced, prepaid=keys.prepaid, guardrails=guardrails
            ),
            guardrails=guardrails,
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
                changed = self.unpriced.has_changed() or changed
                if changed:
                    installed = installed_now
                    await self._refresh_cache()
                    self.gateway.snapshot = await self._snapshot()
                    self.edge.ip_filter = self.gateway.snapshot.ip_filter
                    log.info("configuration applied", revision=revision)
                if changed or self._clock.monotonic() - last_beat > HEARTBEAT_SECONDS:
                    last_beat = self._clock.monotonic()
                    await self._beat()
            except (StorageError, ConfigError) as error:
                log.warning("configuration not refreshed", reason=str(error))
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _refresh_cache(self) -> None:
        if self.gateway.cache is not None:
            self.gateway.cache.cleared = await self._installation.clearings.table()

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
        task = self._loop.create_task(supervised(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _open_counters(installation: Installation, link: WorkerLink | None) -> Counters:
    """Redis' when there is one; without it workers count at their supervisor."""
    url = installation.environment.redis_url or installation.settings.storage.redis_url
    return open_counters(Secret(url) if url is not None else None, installation.clock, link)


def _open_journal(directory: Path, clock: Clock, segment_bytes: int) -> Journal:
    try:
        return Journal(directory, clock, segment_bytes)
    except OSError as error:
        raise ConfigError(f"can't write the request journal in {directory}: {error.strerror}") from error
