"""The configuration that requests are served by, built anew at each of its revisions."""

import math
from collections.abc import Callable
from typing import Final

import msgspec

from pointsman.accounting.prices import PriceService
from pointsman.gateway import Snapshot
from pointsman.guard_parts import GuardDesk
from pointsman.hub.profile_runs import ProfileRuns
from pointsman.identity.key_table import KeyNews
from pointsman.installation import Installation
from pointsman.policy.limits import Limiter, build_limit_table
from pointsman.routing.health import HealthBook
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import LocalChildren
from pointsman.upstream.engines import Engine, make_engine
from pointsman.upstream.local_weights import weights_status
from pointsman.upstream.price_watch import PriceWatch

STALE_SECONDS: Final = 600.0  # without a look at the database, after which all keys are read anew


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a process that the configuration reaches. ``wake_lists``: look at upstreams' own lists of models."""

    health: HealthBook
    prices: PriceService
    unpriced: PriceWatch
    limiter: Limiter
    profiles: ProfileRuns
    client: UpstreamClient
    children: LocalChildren | None
    guards: GuardDesk
    wake_lists: Callable[[], None]


class SnapshotMaker:
    """Reads the configuration from the database, and tells those parts that keep some of it themselves."""

    def __init__(self, installation: Installation, parts: Configured) -> None:
        self._installation = installation
        self._parts = parts
        self._engine: Engine | None = None  # who chooses for profiles
        self.keys = installation.key_table()
        self._looked_at = -math.inf  # when no change of keys was missed

    async def make(self) -> Snapshot:
        """The present one. Raises StorageError, ConfigError."""
        parts, installation = self._parts, self._installation
        revision = await installation.configuration.revision()
        await installation.secrets.refresh()
        is_fresh = installation.clock.monotonic() - self._looked_at < STALE_SECONDS
        news = await installation.key_source.news(self.keys.revision if is_fresh else None, revision)
        try:
            snapshot = await self._build(news)
        except Exception:
            self.keys.forget(news.gone)  # no key outlives its revocation because something else can't be read
            if is_fresh:
                self.note_current()
            raise
        resilience = await installation.resilience.current()
        parts.health.settings, parts.health.protected = resilience.settings, resilience.protection
        parts.unpriced.look(snapshot.catalogue, snapshot.endpoints)  # prices are looked up before the first call
        parts.wake_lists()
        engine = await installation.engines.current()
        if engine != self._engine:
            self._engine, parts.profiles.engine = engine, make_engine(engine, parts.client, installation.clock)
        self.keys.apply(news)  # at the very end: with the new snapshot, not before it
        return snapshot

    def note_current(self) -> None:
        """The database was just asked, and no key that is gone is known here."""
        self._looked_at = self._installation.clock.monotonic()

    async def _build(self, news: KeyNews) -> Snapshot:
        installation, parts, prices = self._installation, self._parts, self._parts.prices
        installed = weights_status(installation.data_dir).installed
        connections, settings = installation.connections, installation.settings
        local, guardrails = parts.children is not None, await installation.guardrails.table()
        combos = await installation.combos.book()
        catalogue = await connections.catalogue(local=local, local_installed=installed, prices=prices, combos=combos)
        return Snapshot(
            revision=news.revision,
            keys=self.keys,
            catalogue=catalogue,
            endpoints=await connections.endpoints(parts.children, prices, catalogue.facts),
            limits=build_limit_table(settings, news.limited, await connections.limits(), parts.limiter.counters),
            login_required=await installation.sign_in.login_required(),
            presets=await installation.presets.table(),
            ip_filter=await installation.ip_filter.filter(),
            guards=await parts.guards.guarding(),
            budgets=await installation.budgets.table(
                credits=settings.credits.enforced, prepaid=news.prepaid, guardrails=guardrails
            ),
            guardrails=guardrails,
        )
