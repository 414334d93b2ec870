"""One data directory and its database: what commands share, and what one process alone does for it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from pointsman.accounting.ledger_service import LedgerService
from pointsman.cache_settings import MAX_TTL_SECONDS
from pointsman.clock import Clock, SystemClock
from pointsman.errors import ConfigError
from pointsman.identity.agents import WINDOW_SECONDS, AgentService
from pointsman.identity.audit_trail import AuditTrail
from pointsman.identity.key_source import KeySource
from pointsman.identity.key_table import KeyTable
from pointsman.identity.keys import PEPPER_PURPOSE, KeyService
from pointsman.identity.lockout import Lockout
from pointsman.identity.master_keys import MasterKeys
from pointsman.identity.sign_in import SignIn
from pointsman.identity.tokens import Tokens
from pointsman.identity.users import UserService
from pointsman.keyring import Secret
from pointsman.policy.aliases import AliasService
from pointsman.policy.budget_service import BudgetService
from pointsman.policy.combos import ComboService
from pointsman.policy.guardrail_service import GuardrailService
from pointsman.policy.guards import GuardService
from pointsman.policy.ip_filter import IpFilterService
from pointsman.policy.kept_answers import PURPOSE as ANSWERS
from pointsman.policy.key_codes import KeyCodes
from pointsman.policy.presets import PresetService
from pointsman.policy.profile_book import book_of
from pointsman.policy.resilience import ResilienceService
from pointsman.policy.response_cache import PURPOSE as CACHED
from pointsman.policy.router_keys import RouterKeys
from pointsman.policy.state_store import StateBounds, StateStore
from pointsman.policy.stored_files import StoredFiles
from pointsman.policy.stored_responses import ResponseBounds, StoredResponses
from pointsman.routing.catalogue import Naming
from pointsman.routing.profiles.making import profile_words
from pointsman.settings import Environment, Settings
from pointsman.storage.accounts import AccountRepository
from pointsman.storage.aliases import AliasRepository
from pointsman.storage.audit import AuditRepository
from pointsman.storage.authorization_codes import CodeRepository
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.cache_clearings import CacheClearings
from pointsman.storage.combos import ComboRepository
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.database import Database, StorageError
from pointsman.storage.files import FileRepository
from pointsman.storage.guardrails import GuardrailRepository
from pointsman.storage.guards import GuardRepository
from pointsman.storage.health import HealthRepository
from pointsman.storage.key_usage import KeyUsageRepository
from pointsman.storage.keys import KeyRepository
from pointsman.storage.master_keys import MasterKeyRepository
from pointsman.storage.model_lists import ModelListRepository
from pointsman.storage.model_words import ModelWordsRepository
from pointsman.storage.nodes import NodeRepository
from pointsman.storage.opaque_states import StateRepository
from pointsman.storage.presets import PresetRepository
from pointsman.storage.provider_nodes import ProviderNodeRepository
from pointsman.storage.requests import RequestRepository
from pointsman.storage.responses import ResponseRepository
from pointsman.storage.routing_engines import EngineRepository
from pointsman.storage.sign_in_failures import SignInFailures
from pointsman.storage.users import UserRepository
from pointsman.upstream.connections import ConnectionService
from pointsman.upstream.declared import FileConnections
from pointsman.upstream.engines import EngineService
from pointsman.upstream.model_facts import FactSources
from pointsman.upstream.model_words import ModelWords
from pointsman.upstream.provider_nodes import ProviderNodeService

if TYPE_CHECKING:
    from pointsman.resealing import Resealer
    from pointsman.rotation import Rotation
    from pointsman.upstream.client import UpstreamClient
    from pointsman.upstream.open_id import OpenIdProvider

DEAD_AFTER_SECONDS: Final = 10.0
APPLY_POLL_SECONDS: Final = 0.02
APPLIED_WITHIN_SECONDS: Final = 5.0  # a server takes a tenth of a second; one under heavy load, some seconds
log = structlog.get_logger("pointsman.installation")


class Installation:
    """One data directory and its database: what every command and the server work on."""

    def __init__(
        self, settings: Settings, environment: Environment, database: Database, clock: Clock, secrets: MasterKeys
    ) -> None:
        self.settings = settings
        self.environment = environment
        self.data_dir = environment.data_dir
        self.applied_within_seconds = APPLIED_WITHIN_SECONDS
        self.database = database
        self.database_url = database_url(settings, environment)
        self.clock = clock
        self.secrets = secrets
        self.master = secrets.master
        self.audit = AuditTrail(AuditRepository(database), self.master, clock, self.data_dir)
        self.key_rows = KeyRepository(database)
        self.requests = RequestRepository(database)
        self.nodes = NodeRepository(database)
        self.configuration = ConfigurationRepository(database)
        self._open_kept(settings, database)
        self._open_people(settings, database)
        self._open_routing(settings, database)
        self._open_money(database)

    def _open_kept(self, settings: Settings, database: Database) -> None:
        """What calls leave behind for later ones."""
        master, clock = self.master, self.clock
        kept = settings.responses
        bounds = ResponseBounds(
            lifetime_seconds=kept.retention_days * 86_400,
            max_bytes=kept.max_bytes,
            max_per_workspace=kept.max_per_workspace,
        )
        self.responses = StoredResponses(ResponseRepository(database), master, clock, bounds)
        rows, vault = StateRepository(database), settings.vault
        reasoning = self._bounds(vault.retention_hours * 3600.0, vault.max_per_workspace)
        answers = self._bounds(settings.answers.keep_seconds, settings.answers.max_per_workspace)
        cached = self._bounds(MAX_TTL_SECONDS, settings.cache.max_per_workspace)
        self.states = StateStore(rows, master, clock, reasoning)
        self.answers = StateStore(rows, master, clock, answers, ANSWERS)
        self.cached = StateStore(rows, master, clock, cached, CACHED)
        self.clearings = CacheClearings(database)
        self.files = StoredFiles(FileRepository(database), master, clock, allow_unknown=settings.files.allow_unknown)

    def _bounds(self, lifetime_seconds: float, most: int) -> StateBounds:
        vault = self.settings.vault
        return StateBounds(
            lifetime_seconds=lifetime_seconds,
            max_per_workspace=most,
            max_bytes=vault.max_bytes,
            read_seconds=vault.read_timeout_seconds,
        )

    def _open_people(self, settings: Settings, database: Database) -> None:
        """Who there is, and who may come in."""
        master, clock, environment = self.master, self.clock, self.environment
        self.accounts = AccountRepository(database)
        self.user_rows = user_rows = UserRepository(database)
        identity = settings.identity
        self.tokens = Tokens(user_rows, master, identity, settings.issuers, _issuer_secrets(settings, environment))
        self.keys = KeyService(self.key_rows, master, clock)
        self.users = UserService(user_rows, self.keys, self.key_rows, clock)
        seconds = identity.sign_in_window_seconds
        sign_ins = self._lockout("sign-in", identity.sign_in_failures, seconds)
        self.sign_in = SignIn(self.users, self.tokens, self.accounts, identity, clock, sign_ins)
        most = identity.agent_registrations
        registration = identity.agent_registration_secret
        self.agents = AgentService(
            self.accounts,
            self.keys,
            clock,
            self._lockout("registration", most, WINDOW_SECONDS) if most else None,
            environment.resolve(registration, "identity.agent_registration_secret") if registration else None,
            self._lockout("registration secret", identity.sign_in_failures, seconds),
        )
        self.ip_filter = IpFilterService(self.accounts, clock)

    def _lockout(self, what: str, failures: int, seconds: float) -> Lockout:
        rows = SignInFailures(self.database)
        return Lockout(rows, self.master, self.clock, what=what, failures=failures, seconds=seconds)

    def _open_routing(self, settings: Settings, database: Database) -> None:
        """Where calls may go."""
        master, clock, environment = self.master, self.clock, self.environment
        self.health_rows = HealthRepository(database)
        self.resilience = ResilienceService(self.health_rows, settings.resilience)
        self.model_lists = ModelListRepository(database)
        self.model_words = ModelWords(ModelWordsRepository(database), clock, settings.facts)
        self.engines = EngineService(
            EngineRepository(database), master, clock, settings.profiles.notdiamond, environment
        )
        self.connections = ConnectionService(
            database,
            master,
            clock,
            FileConnections(settings.connections, settings.models, environment),
            facts=FactSources(self.model_lists, self.model_words),
            naming=Naming(settings.routing.ambiguous, profile_words(book_of(settings.profiles))),
        )
        self.aliases = AliasService(AliasRepository(database), clock, settings.models)
        self.guards = GuardService(GuardRepository(database), master, clock, settings.guards, environment)
        self.presets = PresetService(PresetRepository(database), clock)
        self.combos = ComboService(ComboRepository(database), clock, settings.combos)
        self.provider_nodes = ProviderNodeService(ProviderNodeRepository(database), self.connections, clock)

    def _open_money(self, database: Database) -> None:
        """Budgets, keys that have some, and the ledger."""
        clock = self.clock
        self.budget_rows = BudgetRepository(database)
        self.budgets = BudgetService(self.budget_rows, clock)
        self.guardrails = GuardrailService(GuardrailRepository(database), self.accounts, clock)
        self.key_source = KeySource(self.key_rows, self.budget_rows, self.settings.identity.keys_in_memory, self.tokens)
        self.router_keys = RouterKeys(self.keys, self.budgets, KeyUsageRepository(database), self.accounts, clock)
        self.key_codes = KeyCodes(CodeRepository(database), self.router_keys, self.guardrails, clock)
        self.ledger = LedgerService(database, clock)

    def key_table(self) -> KeyTable:
        """An empty table of keys for a process."""
        identity = self.settings.identity
        pepper = self.master.derive(PEPPER_PURPOSE)
        return KeyTable(pepper, (), self.tokens, identity.public_origin, identity.keys_in_memory)

    def resealer(self) -> "Resealer":
        """What seals everything anew with the current master key."""
        from pointsman.resealing import Resealer

        return Resealer(self.database, self.master)

    def rotation(self) -> "Rotation":
        """What changes the master key."""
        from pointsman.rotation import Rotation

        return Rotation(self.secrets, self.configuration, self.resealer(), self.clock, self.await_revision)

    def open_id_providers(self, client: "UpstreamClient") -> "dict[str, OpenIdProvider]":
        """Where people can sign in, by name. Raises ConfigError for a secret that can't be read."""
        from pointsman.upstream.open_id import OpenIdProvider, callback_address

        found: dict[str, OpenIdProvider] = {}
        for index, row in enumerate(self.settings.sign_in):
            place = f"sign_in[{index}].client_secret"
            secret = self.environment.resolve(row.client_secret, place) if row.client_secret is not None else None
            callback = callback_address(self.settings.identity.public_url or "", row.id)
            surroundings = (client, self.master, self.clock)
            found[row.id] = OpenIdProvider(row, secret, callback, self.users, surroundings)
        return found

    async def await_revision(self, revision: int, seconds: float | None = None) -> bool:
        """Wait until every live server works with ``revision`` or a later one; False when one does not in time.

        ``seconds``: None is what callers of the management API and of the command line wait.
        """
        deadline = self.clock.monotonic() + (self.applied_within_seconds if seconds is None else seconds)
        while True:
            live = await self.nodes.live(self.clock.now_us() - int(DEAD_AFTER_SECONDS * 1e6))
            if all(node.revision >= revision for node in live):
                return True
            if self.clock.monotonic() > deadline:
                log.warning("a server does not take the configuration over", revision=revision)
                return False
            await asyncio.sleep(APPLY_POLL_SECONDS)


def _issuer_secrets(settings: Settings, environment: Environment) -> dict[str, Secret]:
    return {
        row.issuer: environment.resolve(row.secret, f"issuers[{index}].secret")
        for index, row in enumerate(settings.issuers)
        if row.secret is not None
    }


@asynccontextmanager
async def open_installation(settings: Settings, environment: Environment) -> AsyncIterator[Installation]:
    """Open (and at first use create) the data directory and database. Raises ConfigError."""
    async with _open_database(settings, environment) as database:
        await database.migrate()
        clock, secret = SystemClock(), environment.secret_key
        secrets = MasterKeys(MasterKeyRepository(database), clock, environment.data_dir, secret)
        try:
            await secrets.load()
        except StorageError as error:
            raise ConfigError(f"can't use the database: {error}") from error
        yield Installation(settings, environment, database, clock, secrets)


async def is_upgraded(settings: Settings, environment: Environment) -> bool:
    """Bring the database's tables up to date; True when they were not. Raises ConfigError."""
    async with _open_database(settings, environment) as database:
        return await database.migrate()


@asynccontextmanager
async def _open_database(settings: Settings, environment: Environment) -> AsyncIterator[Database]:
    _make_data_dir(environment.data_dir)
    database = Database.open(database_url(settings, environment), environment.data_dir)
    try:
        yield database
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
