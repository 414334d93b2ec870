"""All settings, typed, read once: ``pointsman.toml`` overlaid by the environment. The only reader of the environment.

What operators change while the server runs (keys, connections added by command) is data in storage, not a setting.
"""

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from pointsman.budget_settings import BudgetSettings, CreditSettings, check_budgets
from pointsman.cache_settings import CacheSettings
from pointsman.charges import LedgerSettings
from pointsman.contracts.operations import Contract
from pointsman.errors import ConfigError
from pointsman.fact_settings import FactSettings, check_fact
from pointsman.guard_settings import GuardSettings, check_guards
from pointsman.identity_settings import IdentitySettings, IssuerSettings, SignInSettings, check_issuers
from pointsman.kept_settings import AnswerSettings, FileSettings, ResponseSettings, VaultSettings
from pointsman.keyring import Secret
from pointsman.payment_settings import X402Settings, check_x402
from pointsman.profile_settings import ProfileSettings
from pointsman.resilience import ResilienceSettings

DEFAULT_PORT: Final = 20128
DEFAULT_CONFIG_NAME: Final = "pointsman.toml"
# As browsers write it.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=256)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; unknown keys are refused."""


class ServerSettings(_Section, frozen=True, kw_only=True):
    """``[server]``: the listening side. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    workers: Workers = 1
    max_body_bytes: Count = 32 * 1024 * 1024
    max_body_memory_bytes: Count = 256 * 1024 * 1024
    max_header_bytes: Count = 32 * 1024
    max_header_count: Count = 128
    max_connections: Count = 16384
    max_concurrent_requests: Count = 8192
    max_queued_requests: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 1024
    queue_timeout_seconds: Seconds = 10.0
    max_loop_lag_seconds: Seconds = 0.5
    header_timeout_seconds: Seconds = 20.0
    body_timeout_seconds: Seconds = 60.0
    keepalive_timeout_seconds: Seconds = 75.0
    write_timeout_seconds: Seconds = 60.0
    stream_silence_seconds: Delay = 15.0
    shutdown_grace_seconds: Delay = 30.0
    max_decompression_ratio: Count = 100
    tls_certificate: str | None = None
    tls_key: str | None = None
    cors_origins: list[str] = []
    trusted_proxies: list[str] = []
    hosts: dict[str, Contract] = {}

    def address(self, port: int) -> str:
        """The URL of the server that listens on ``port``."""
        scheme = "http" if self.tls_certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}"


class UpstreamSettings(_Section, frozen=True, kw_only=True):
    """``[upstream]``: limits of every call to a provider. Times in seconds, sizes in bytes."""

    connect_timeout_seconds: Seconds = 10.0
    tls_handshake_timeout_seconds: Seconds = 10.0
    headers_timeout_seconds: Seconds = 300.0
    first_byte_timeout_seconds: Seconds = 300.0
    idle_timeout_seconds: Seconds = 120.0
    hold_seconds: Delay = 5.0
    total_timeout_seconds: Seconds = 1800.0
    queue_timeout_seconds: Seconds = 60.0
    keepalive_seconds: Seconds = 30.0
    max_connection_age_seconds: Seconds = 900.0
    dns_ttl_seconds: Delay = 30.0
    dns_negative_ttl_seconds: Delay = 2.0
    max_connections_per_host: Count = 1024
    max_waiting_per_host: Count = 4096
    max_response_bytes: Count = 64 * 1024 * 1024
    max_header_bytes: Count = 64 * 1024
    max_header_count: Count = 256


class HedgeSettings(_Section, frozen=True, kw_only=True):
    """``[attempts.hedging]``: a second attempt beside one that takes unusually long (docs/failover.md)."""

    enabled: bool = False
    percentile: Annotated[float, msgspec.Meta(ge=50, lt=100)] = 95.0
    least_seconds: Delay = 0.2
    least_samples: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    max_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    max_cost_nano_usd: Annotated[int, msgspec.Meta(ge=0, le=10**15)] = 50_000_000


class AttemptSettings(_Section, frozen=True, kw_only=True):
    """``[attempts]``: how a request is tried, at one target or several (docs/failover.md). Times in seconds."""

    timeout_seconds: Seconds = 1800.0
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    retry_delay_seconds: Delay = 0.5
    max_retry_wait_seconds: Delay = 5.0
    last_resorts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    continuation: bool = False
    hedging: HedgeSettings = HedgeSettings()


class LocalSettings(_Section, frozen=True, kw_only=True):
    """``[local]``: the embedded model."""

    enabled: bool = True
    idle_seconds: Delay = 300.0
    start_timeout_seconds: Seconds = 60.0


class JournalSettings(_Section, frozen=True, kw_only=True):
    """``[journal]``: the append-only request journal."""

    segment_bytes: Count = 64 * 1024 * 1024
    retention_days: Delay = 7.0
    plan_days: Delay = 2.0
    batch_rows: Count = 200
    interval_seconds: Delay = 0.1


class LimitSettings(_Section, frozen=True, kw_only=True):
    """``[limits]``: what each key and each workspace may use, unless a key has limits of its own (docs/limits.md)."""

    key_requests_per_minute: Count | None = None
    key_requests_per_day: Count | None = None
    key_tokens_per_minute: Count | None = None
    workspace_requests_per_minute: Count | None = None
    workspace_requests_per_day: Count | None = None
    workspace_tokens_per_minute: Count | None = None
    key_sessions: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    on_failure: typing.Literal["open", "closed"] = "open"


class LogSettings(_Section, frozen=True, kw_only=True):
    """``[log]``: structured lines on standard error."""

    level: typing.Literal["debug", "info", "warning", "error"] = "info"
    requests: bool = True


class ConnectionSettings(_Section, frozen=True, kw_only=True):
    """One ``[[connections]]`` row: an account at an upstream."""

    id: str
    kind: str
    base_url: str | None = None
    api_key: Secret | None = None  # env:NAME, file:PATH or the credential itself; see Environment.resolve
    models: list[str] = []
    priority: int = 0
    max_concurrent: Count | None = None
    requests_per_minute: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_minute: Count | None = None
    allow_private: bool = True  # the operator wrote the file: trusted
    provider: str | None = None
    proxy: Secret | None = None  # env:NAME, file:PATH or the URL itself: it may hold a password
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    options: dict[str, str] = {}
    tags: list[str] = []
    headers: dict[str, Secret] = {}  # of every request; env:NAME, file:PATH or the value itself
    extra_api_keys: list[Secret] = []  # take turns with api_key


class ModelSettings(_Section, frozen=True, kw_only=True):
    """One ``[[models]]`` row: an alias."""

    name: str
    target: str


class ComboSettings(_Section, frozen=True, kw_only=True):
    """One ``[[combos]]`` row: a name for several targets, tried in the order that ``strategy`` makes of them.

    ``settings`` are those of docs/combos.md, by OmniRoute's names.
    """

    name: str
    targets: list[str]
    weights: list[float] = []
    strategy: str = "priority"
    settings: dict[str, typing.Any] = {}


class RoutingSettings(_Section, frozen=True, kw_only=True):
    """``[routing]``: what names of models mean, and where facts of them come from."""

    ambiguous: typing.Literal["refuse", "route"] = "refuse"
    model_lists: bool = True
    model_list_hours: Seconds = 24.0
    default_model: str | None = None


class StorageSettings(_Section, frozen=True, kw_only=True):
    """``[storage]``: where data lives; the environment's URLs win."""

    database_url: str | None = None
    redis_url: str | None = None


class Settings(_Section, frozen=True, kw_only=True):
    """Everything the operator chose."""

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    attempts: AttemptSettings = AttemptSettings()
    answers: AnswerSettings = AnswerSettings()
    cache: CacheSettings = CacheSettings()
    local: LocalSettings = LocalSettings()
    limits: LimitSettings = LimitSettings()
    journal: JournalSettings = JournalSettings()
    ledger: LedgerSettings = LedgerSettings()
    responses: ResponseSettings = ResponseSettings()
    vault: VaultSettings = VaultSettings()
    resilience: ResilienceSettings = ResilienceSettings()
    files: FileSettings = FileSettings()
    log: LogSettings = LogSettings()
    routing: RoutingSettings = RoutingSettings()
    profiles: ProfileSettings = ProfileSettings()
    storage: StorageSettings = StorageSettings()
    identity: IdentitySettings = IdentitySettings()
    issuers: list[IssuerSettings] = []
    sign_in: list[SignInSettings] = []
    budgets: BudgetSettings = BudgetSettings()
    credits: CreditSettings = CreditSettings()
    x402: X402Settings = X402Settings()
    connections: list[ConnectionSettings] = []
    models: list[ModelSettings] = []
    combos: list[ComboSettings] = []
    facts: list[FactSettings] = []
    guards: list[GuardSettings] = []


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the process environment says (design: fixed names, scripts rely on them)."""

    data_dir: Path
    database_url: str | None = None
    redis_url: str | None = None
    secret_key: Secret | None = None
    bootstrap_key: Secret | None = None
    admin_password: Secret | None = None
    api_key: Secret | None = None  # what client commands (`pointsman chat`) present
    variables: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Environment(data_dir={str(self.data_dir)!r})"  # the rest may hold credentials

    def resolve(self, reference: Secret, field: str) -> Secret:
        """The credential that ``reference`` stands for: ``env:NAME``, ``file:PATH`` or the literal itself.

        Raises ConfigError naming ``field`` when the variable or file is missing or empty.
        """
        kind, _, rest = reference.reveal().partition(":")
        if kind == "env":
            text = self.variables.get(rest, "")
            if not text:
                raise ConfigError(f"{field}: the environment variable {rest} is not set")
            return Secret(text)
        if kind == "file":
            try:
                text = Path(rest).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{field}: can't read the file {rest}") from error
            if not text:
                raise ConfigError(f"{field}: the file {rest} is empty")
            return Secret(text)
        return reference


def read_environment(data_dir: Path | None = None) -> Environment:
    """The process environment; ``data_dir`` (from the command line) wins over POINTSMAN_DATA_DIR."""
    env = dict(os.environ)
    chosen = data_dir or Path(env.get("POINTSMAN_DATA_DIR") or _default_data_dir(env))

    def secret(name: str) -> Secret | None:
        return Secret(env[name]) if env.get(name) else None

    return Environment(
        data_dir=chosen.expanduser().absolute(),
        database_url=env.get("POINTSMAN_DATABASE_URL") or None,
        redis_url=env.get("POINTSMAN_REDIS_URL") or None,
        secret_key=secret("POINTSMAN_SECRET_KEY"),
        bootstrap_key=secret("POINTSMAN_BOOTSTRAP_KEY"),
        admin_password=secret("POINTSMAN_ADMIN_PASSWORD"),
        api_key=secret("POINTSMAN_API_KEY"),
        variables=env,
    )


def _default_data_dir(env: Mapping[str, str]) -> str:
    """XDG Base Directory Specification: data belongs under $XDG_DATA_HOME, by default ~/.local/share."""
    return os.path.join(env.get("XDG_DATA_HOME") or "~/.local/share", "pointsman")


def load_settings(path: Path | None) -> Settings:
    """Read ``path`` (or ./pointsman.toml when there is one, else the defaults).

    Raises ConfigError with the file, the place and, for an unknown key, the nearest known name.
    """
    if path is None:
        path = Path(DEFAULT_CONFIG_NAME)
        if not path.exists():
            return Settings()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the configuration file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return parse_settings(document, str(path))


def parse_settings(document: Mapping[str, Any], source: str) -> Settings:
    """Check ``document`` and make it Settings; raises ConfigError."""
    _refuse_unknown_keys(document, Settings, source, "")
    try:
        settings = msgspec.convert(document, Settings, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}") from error
    _check_server(settings.server, f"{source}: server")
    _check_connections(settings, source)
    _check_combos(settings.combos, source)
    check_issuers(settings.identity, settings.issuers, settings.sign_in, source)
    for index, row in enumerate(settings.facts):
        check_fact(row, f"{source}: facts[{index}]")
    check_base_url(settings.profiles.notdiamond.base_url, f"{source}: profiles.notdiamond.base_url")
    check_budgets(settings.budgets, f"{source}: budgets")
    check_guards(settings.guards, source)
    check_x402(settings.x402, f"{source}: x402")
    seen: set[str] = set()
    for index, model in enumerate(settings.models):
        if "*" in model.target and "*" not in model.name:
            raise ConfigError(f"{source}: models[{index}].target: has a '*', and the name has none")
        if model.name in seen:
            raise ConfigError(f"{source}: models[{index}].name: '{model.name}' is declared twice")
        seen.add(model.name)
    return settings


def _decode(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds the place


def _refuse_unknown_keys(table: Mapping[str, Any], struct: type[msgspec.Struct], source: str, place: str) -> None:
    hints = typing.get_type_hints(struct)
    for key, value in table.items():
        where = f"{place}.{key}" if place else key
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1, 0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(hints))}"
            raise ConfigError(f"{source}: unknown key '{where}' ({hint})")
        kind = hints[key]
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            _refuse_unknown_keys(value, kind, source, where)
        elif isinstance(value, list) and typing.get_origin(kind) is list:
            row = typing.get_args(kind)[0]
            for index, item in enumerate(value):
                if isinstance(item, Mapping) and isinstance(row, type) and issubclass(row, msgspec.Struct):
                    _refuse_unknown_keys(item, row, source, f"{where}[{index}]")


def _check_server(server: ServerSettings, place: str) -> None:
    if (server.tls_certificate is None) != (server.tls_key is None):
        raise ConfigError(f"{place}: tls_certificate and tls_key belong together; one of them is missing")
    for index, origin in enumerate(server.cors_origins):
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            raise ConfigError(f"{place}.cors_origins[{index}]: must be '*' or like https://example.org, lower case")
    for index, network in enumerate(server.trusted_proxies):
        try:
            ip_network(network)
        except ValueError as error:
            raise ConfigError(f"{place}.trusted_proxies[{index}]: {error}") from None


def _check_combos(combos: list[ComboSettings], source: str) -> None:
    seen: set[str] = set()
    for index, row in enumerate(combos):
        place = f"{source}: combos[{index}]"
        if row.name in seen:
            raise ConfigError(f"{place}.name: '{row.name}' is declared twice")
        if not row.targets:
            raise ConfigError(f"{place}.targets: must name at least one target")
        if row.weights and len(row.weights) != len(row.targets):
            raise ConfigError(f"{place}.weights: there must be one for each of the {len(row.targets)} targets")
        if any(not 0 <= weight <= 1e9 for weight in row.weights):
            raise ConfigError(f"{place}.weights: must be numbers from 0")
        seen.add(row.name)


def _check_connections(settings: Settings, source: str) -> None:
    seen: set[str] = set()
    for index, row in enumerate(settings.connections):
        place = f"{source}: connections[{index}]"
        check_connection(row.id, row.kind, row.base_url, place)
        if row.id in seen:
            raise ConfigError(f"{place}.id: '{row.id}' is declared twice")
        seen.add(row.id)


def check_connection(connection_id: str, kind: str, base_url: str | None, place: str) -> None:
    """What every connection must satisfy, from a file or a command; raises ConfigError that names the field.

    Whether ``kind`` is a known one, and which address it has of its own, is the table of hosts' to say
    (providers/hosts.py).
    """
    if not connection_id or not connection_id.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ConfigError(f"{place}.id: '{connection_id}' must be letters, digits, '-', '_' or '.'")
    if kind == "local":
        if base_url is not None:
            raise ConfigError(f"{place}.base_url: a local connection has none")
        return
    if connection_id == "local":
        raise ConfigError(f"{place}.id: 'local' is the embedded model's own; choose another")
    if base_url is not None:
        check_base_url(base_url, f"{place}.base_url")


def check_base_url(base_url: str, place: str) -> None:
    """Only what makes a request line and a Host header without any doubt; raises ConfigError."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
        if ":" not in host:
            host.encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise ConfigError(f"{place}: is not a URL with a valid host and port") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{place}: must be http:// or https:// with a host")
    if port == 0:
        raise ConfigError(f"{place}: the port must be from 1 to 65535")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{place}: must not hold a user or password; use api_key")
    if parts.query or parts.fragment or "?" in base_url or "#" in base_url:
        raise ConfigError(f"{place}: must not hold a query or fragment")
    if any(not "!" <= character <= "~" for character in parts.path) or any(c.isspace() or c < " " for c in base_url):
        raise ConfigError(f"{place}: must not hold blanks, control or non-ASCII characters in its path")
