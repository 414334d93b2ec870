"""What one process alone does for a data directory: its lock, the projector, the local models, old state's end."""

import asyncio
import fcntl
from functools import partial
from pathlib import Path
from typing import IO, Final

import structlog

from pointsman.accounting.burst import Burst
from pointsman.accounting.homes import home_of, leave_home
from pointsman.accounting.lease_keeper import LeaseKeeper
from pointsman.accounting.projector import Projector
from pointsman.accounting.telemetry import Meter
from pointsman.background import Background
from pointsman.budget_settings import lease_seconds_of
from pointsman.canonical.audit import Entry
from pointsman.errors import ConfigError
from pointsman.installation import Installation
from pointsman.keyring import Secret
from pointsman.storage.budget_leases import BudgetLeaseRepository
from pointsman.storage.database import StorageError
from pointsman.upstream.local_embedder import make_embedder
from pointsman.upstream.local_model import LocalModel
from pointsman.upstream.local_weights import weights_path

LAST_PROJECTION_SECONDS: Final = 5.0
CHAT: Final = "chat"  # names of local programs
EMBEDDER: Final = "embedder"
log = structlog.get_logger("pointsman.housekeeping")


class Housekeeping:
    """What one process alone does for a data directory: its lock, the projector, the local model, old state's end."""

    def __init__(self, installation: Installation) -> None:
        settings = installation.settings
        self._installation = installation
        self._lock: IO[str] = _lock_data_dir(installation.data_dir)
        self._interval_seconds = settings.journal.interval_seconds
        self._background = Background()
        self._stopping = asyncio.Event()
        self.first_key: Secret | None = None
        leave_home(installation.data_dir / "journal")
        self.projector = Projector(
            installation.database,
            installation.data_dir / "journal",
            installation.clock,
            batch_rows=settings.journal.batch_rows,
            retention_days=settings.journal.retention_days,
            plan_days=settings.journal.plan_days,
        )
        home = home_of(installation.data_dir / "journal")
        lease_seconds = lease_seconds_of(settings.budgets)
        escrow = BudgetLeaseRepository(installation.database)
        self._leases = LeaseKeeper(escrow, installation.clock, home, lease_seconds)
        self.children = _make_children(installation) if settings.local.enabled else {}

    async def ensure_first_key(self) -> None:
        """Make the administrator, and the first key when there is none; ``first_key`` is it then."""
        installation = self._installation
        await installation.users.ensure_administrator(installation.environment.admin_password)
        self.first_key = await installation.keys.ensure_first(installation.environment.bootstrap_key)
        if installation.keys.first_made is not None:
            await installation.audit.note(_first_key(installation))

    def start(self) -> None:
        """Begin to project, to sweep the vault, and to look after leases of budgets."""
        burst = Burst(self._installation.data_dir, self._installation.database_url)
        self._background.spawn_patient("projector", partial(self.projector.run, self._interval_seconds, burst))
        self._background.spawn_patient("leases", partial(self._leases.run, self._stopping))
        self._background.spawn_patient("vault", partial(self._installation.states.sweep_until, self._stopping))

    def show_gauges(self, meter: Meter) -> None:
        """The figures of the projector."""
        projector = self.projector
        meter.gauge("pointsman_journal_lag_bytes", "Journal not yet in the database.", lambda: projector.lag().bytes)
        meter.gauge("pointsman_journal_damaged", "Unreadable journal pieces.", lambda: projector.counts.damaged)

    async def stop(self) -> None:
        """End them after the batch in hand: they may hold a transaction."""
        self.projector.stop()
        self._stopping.set()
        await self._background.aclose()

    async def aclose(self) -> None:
        """Stop the local programs, project what is left for some seconds, give the lock back. The journal is closed."""
        await self.stop()
        await asyncio.gather(*(child.aclose() for child in self.children.values()))
        clock = self._installation.clock
        deadline = clock.monotonic() + LAST_PROJECTION_SECONDS
        try:
            while clock.monotonic() < deadline and await self.projector.step():
                pass
        except StorageError as error:
            log.warning("not everything was projected; the next start does it", reason=str(error))
        self._lock.close()


def _first_key(installation: Installation) -> Entry:
    return Entry(
        at=installation.clock.now_us(),
        source="server",
        action="apikey.created",
        outcome="success",
        status=0,
        object_kind="apikey",
        object_id=installation.keys.first_made,
    )


def _make_children(installation: Installation) -> dict[str, LocalModel]:
    """The programs that run beside the gateway, none of them started yet."""
    local, clock = installation.settings.local, installation.clock
    chat = LocalModel(
        weights_path(installation.data_dir),
        clock,
        idle_seconds=local.idle_seconds,
        start_timeout_seconds=local.start_timeout_seconds,
    )
    embedder = make_embedder(clock, idle_seconds=local.idle_seconds, start_timeout_seconds=local.start_timeout_seconds)
    return {CHAT: chat, EMBEDDER: embedder}


def _lock_data_dir(data_dir: Path) -> IO[str]:
    """One server per data directory: two would project each other's journal and fight over the local model."""
    handle = open(data_dir / "server.lock", "a+")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise ConfigError(f"another server already runs with the data directory {data_dir}") from None
    return handle
