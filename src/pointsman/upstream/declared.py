"""A connection in the clear: how it is declared in the file or over the API, checked, sealed for storage and opened."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey, Secret
from pointsman.providers.hosts import address_of, effective_host, find_host
from pointsman.settings import ConnectionSettings, Environment, ModelSettings, check_connection
from pointsman.storage.connections import ConnectionRow
from pointsman.upstream.egress import is_public
from pointsman.upstream.origins import Proxy, TlsFiles, ascii_host, port_of
from pointsman.upstream.proxies import parse_proxy
from pointsman.upstream.request_headers import check_headers
from pointsman.upstream.tls import make_context

SECRET_PURPOSE: Final = "connection-secret"
PROXY_PURPOSE: Final = "connection-proxy"
HEADERS_PURPOSE: Final = "connection-headers"
EXTRA_PURPOSE: Final = "connection-extra-keys"
LOCAL_KIND: Final = "local"
MAX_EXTRA_KEYS: Final = 64
MAX_TEXT: Final = 200  # characters of a name or a tag
MAX_AUTHORITIES: Final = 256 * 1024  # characters of certificates that come over the API
# Fields that are the same in the clear and stored.
_PLAIN: Final = (
    "id", "kind", "base_url", "models", "priority", "max_concurrent", "requests_per_minute", "requests_per_day",
    "tokens_per_minute", "allow_private", "provider", "options", "enabled", "name", "display_name", "default_model",
    "node_id", "prefix", "excluded_models", "tags",
)  # fmt: skip


class NewConnection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection's fields in the clear, as it is added or changed. ``proxy`` is a URL, which may hold a password.

    ``extra_secrets`` take turns with ``secret``; ``headers`` go with every request. ``node_id`` and ``prefix`` are
    those of the provider node it belongs to. ``excluded_models`` may hold ``*``.
    """

    id: str
    kind: str
    base_url: str | None = None
    secret: Secret | None = None
    models: tuple[str, ...] = ()
    priority: int = 0
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    allow_private: bool = False
    provider: str | None = None
    proxy: Secret | None = None
    tls: TlsFiles = TlsFiles()
    options: dict[str, str] = {}
    enabled: bool = True
    name: str | None = None
    display_name: str | None = None
    default_model: str | None = None
    node_id: str | None = None
    prefix: str | None = None
    excluded_models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    headers: dict[str, Secret] = {}
    extra_secrets: tuple[Secret, ...] = ()

    def header_lines(self) -> tuple[tuple[str, str], ...]:
        """Its own headers, revealed."""
        return tuple((name, value.reveal()) for name, value in self.headers.items())


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A connection from either source, ready to be built of: it holds the credential and is never shown."""

    row: ConnectionRow
    secret: Secret | None
    source: str
    problem: str | None = None  # why it can't be used
    proxy: Proxy | None = None
    tls: TlsFiles | None = None
    headers: dict[str, Secret] = {}
    extra: tuple[Secret, ...] = ()

    def header_lines(self) -> tuple[tuple[str, str], ...]:
        """Its own headers, revealed."""
        return tuple((name, value.reveal()) for name, value in self.headers.items())


class Sealer:
    """Between connections in the clear and rows of the database."""

    def __init__(self, master: MasterKey) -> None:
        self._master = master

    def seal(self, new: NewConnection, created_at: int, updated_at: int) -> ConnectionRow:
        """The row to be stored; every credential in it is sealed for this connection alone."""
        headers = {name: value.reveal() for name, value in new.headers.items()}
        extra = [secret.reveal() for secret in new.extra_secrets]
        return ConnectionRow(
            **{name: getattr(new, name) for name in _PLAIN},
            created_at=created_at,
            updated_at=updated_at,
            sealed_secret=self._seal(SECRET_PURPOSE, new.id, new.secret),
            sealed_proxy=self._seal(PROXY_PURPOSE, new.id, new.proxy),
            sealed_headers=self._seal(HEADERS_PURPOSE, new.id, _packed(headers)),
            sealed_extra=self._seal(EXTRA_PURPOSE, new.id, _packed(extra)),
            ca_file=new.tls.ca_file,
            ca_certificates=new.tls.authorities,
            client_certificate=new.tls.certificate,
            client_key=new.tls.key,
        )

    def clear(self, row: ConnectionRow) -> NewConnection:
        """A stored connection in the clear. Raises ConfigError when its credentials can't be opened."""
        headers = self._open(HEADERS_PURPOSE, row.id, row.sealed_headers)
        extra = self._open(EXTRA_PURPOSE, row.id, row.sealed_extra)
        return NewConnection(
            **{name: getattr(row, name) for name in _PLAIN},
            secret=self._open(SECRET_PURPOSE, row.id, row.sealed_secret),
            proxy=self._open(PROXY_PURPOSE, row.id, row.sealed_proxy),
            headers={name: Secret(text) for name, text in _unpacked(headers, dict[str, str], {}).items()},
            extra_secrets=tuple(map(Secret, _unpacked(extra, list[str], []))),
            tls=TlsFiles(
                ca_file=row.ca_file,
                authorities=row.ca_certificates,
                certificate=row.client_certificate,
                key=row.client_key,
            ),
        )

    def open(self, row: ConnectionRow) -> Declared:
        """A stored connection; one that can't be opened has a problem, and the others go on serving."""
        try:
            new = self.clear(row)
            proxy = read_proxy(new.proxy, row.base_url, "connection.proxy")
        except ConfigError as error:
            return Declared(row=row, secret=None, source="database", problem=str(error))
        return Declared(
            row=row,
            secret=new.secret,
            source="database",
            proxy=proxy,
            tls=new.tls if new.tls != TlsFiles() else None,
            headers=new.headers,
            extra=new.extra_secrets,
        )

    def _seal(self, purpose: str, connection_id: str, secret: Secret | None) -> bytes | None:
        return self._master.seal(purpose, connection_id, secret) if secret is not None else None

    def _open(self, purpose: str, connection_id: str, sealed: bytes | None) -> Secret | None:
        return self._master.open(purpose, connection_id, sealed) if sealed is not None else None


def completed(new: NewConnection) -> NewConnection:
    """``new`` with what the table of hosts knows of its kind: the address, whose prices hold. Raises ConfigError."""
    base_url, provider = from_table(new.kind, new.base_url, new.provider, "connection")
    return msgspec.structs.replace(new, base_url=base_url, provider=provider)


def check_fields(new: NewConnection) -> None:
    """Whether a completed connection makes sense in itself; raises ConfigError that names the field at fault."""
    check_connection(new.id, new.kind, new.base_url, "connection")
    for field, texts in (("name", (new.name,)), ("display_name", (new.display_name,)), ("tags", new.tags)):
        if any(text is not None and not _is_plain(text) for text in texts):
            raise ConfigError(f"connection.{field}: must be 1 to {MAX_TEXT} printable characters")
    if new.base_url is not None and not new.allow_private:
        refuse_private_literal(new.base_url)
    if new.secret is not None and not fits_a_header(new.secret.reveal()):
        raise ConfigError("connection.api_key: must be visible ASCII characters without spaces")
    if len(new.extra_secrets) > MAX_EXTRA_KEYS:
        raise ConfigError(f"connection.extra_keys: {MAX_EXTRA_KEYS} further keys at most")
    if not all(fits_a_header(secret.reveal()) for secret in new.extra_secrets):
        raise ConfigError("connection.extra_keys: must be visible ASCII characters without spaces")
    check_headers({name: value.reveal() for name, value in new.headers.items()}, "connection.headers")
    for name in ("chat_path", "models_path"):
        check_path(new.options.get(name), f"connection.{name}")
    if len(new.tls.authorities or "") > MAX_AUTHORITIES:
        raise ConfigError(f"connection.ca_certificates: {MAX_AUTHORITIES} characters at most")
    read_proxy(new.proxy, new.base_url, "connection.proxy")
    read_tls(new.tls, new.base_url, "connection")


def check_kept_secrets(old: NewConnection, new: NewConnection) -> None:
    """Whether what was stored goes where it was given for: raises ConfigError when an address leads to another host.

    Who changes a connection is never shown its secrets; a host of its own choice would be shown them. A secret that was
    given again is another object, even if it is the same text.
    """
    if origin_of(old.base_url) == origin_of(new.base_url):
        return
    kept = new.secret is not None and new.secret is old.secret
    further = any(one is other for one in new.extra_secrets for other in old.extra_secrets)
    headers = any(value is old.headers.get(name) for name, value in new.headers.items())
    for field, stays in (("api_key", kept), ("extra_keys", further), ("headers", headers)):
        if stays:
            raise ConfigError(f"connection.{field}: must be given again, or null: the address leads to another host")


def origin_of(base_url: str | None) -> tuple[str, str, int]:
    """Scheme, host and port of an address that was checked."""
    parts = urlsplit(base_url or "")
    return parts.scheme, (parts.hostname or "").removesuffix("."), port_of(parts)


def _is_plain(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= MAX_TEXT


def check_path(path: str | None, place: str) -> None:
    """Whether it may follow a base URL; raises ConfigError."""
    if path is None:
        return
    if not path.startswith("/") or len(path) > 500 or "//" in path or "/../" in f"{path}/" or "#" in path:
        raise ConfigError(f"{place}: must begin with / and lead to one place, e.g. /v1/chat/completions")
    if any(not "!" <= character <= "~" for character in path):
        raise ConfigError(f"{place}: must be visible ASCII characters")


def from_table(kind: str, base_url: str | None, provider: str | None, place: str) -> tuple[str | None, str | None]:
    """The address and the price list of a connection, the operator's own first. Raises ConfigError."""
    if kind == LOCAL_KIND:
        return base_url, provider
    host = find_host(kind, place)
    base_url = address_of(host, base_url, place)
    return base_url, provider or effective_host(kind, base_url).pricing


def refuse_private_literal(base_url: str) -> None:
    """Say at once what the egress guard would say at the first call; names are judged when they are resolved.

    Raises ConfigError for a literal private address and for localhost.
    """
    host = ascii_host(urlsplit(base_url).hostname or "").removesuffix(".")
    try:
        private = not is_public(ipaddress.ip_address(host))
    except ValueError:
        private = host == "localhost" or host.endswith(".localhost")
    if private:
        raise ConfigError("connection.base_url: the address is private or local; add --allow-private if that is meant")


def fits_a_header(secret: str) -> bool:
    """Whether a credential can be sent at all."""
    return bool(secret) and all("!" <= character <= "~" for character in secret)


class FileConnections:
    """The configuration file's connections, and its names for models. Raises ConfigError that names a place in it."""

    def __init__(
        self, connections: list[ConnectionSettings], models: list[ModelSettings], environment: Environment
    ) -> None:
        self.declared = [from_file(row, index, environment) for index, row in enumerate(connections)]
        self.models = models
        self.ids = frozenset(one.row.id for one in self.declared)


def from_file(row: ConnectionSettings, index: int, environment: Environment) -> Declared:
    """A connection of the configuration file, the ``index``-th. Raises ConfigError that names its place."""
    place = f"connections[{index}]"
    secret = environment.resolve(row.api_key, f"{place}.api_key") if row.api_key is not None else None
    if secret is not None and not fits_a_header(secret.reveal()):
        raise ConfigError(f"{place}.api_key: must be visible ASCII characters without spaces")
    base_url, provider = from_table(row.kind, row.base_url, row.provider, place)
    for name in ("chat_path", "models_path"):
        check_path(row.options.get(name), f"{place}.options.{name}")
    stored = ConnectionRow(
        id=row.id,
        kind=row.kind,
        base_url=base_url,
        models=tuple(row.models),
        priority=row.priority,
        max_concurrent=row.max_concurrent,
        requests_per_minute=row.requests_per_minute,
        requests_per_day=row.requests_per_day,
        tokens_per_minute=row.tokens_per_minute,
        allow_private=row.allow_private,
        provider=provider,
        options=row.options,
        tags=tuple(row.tags),
        created_at=0,
        updated_at=0,
    )
    proxy = environment.resolve(row.proxy, f"{place}.proxy") if row.proxy is not None else None
    files = TlsFiles(ca_file=row.ca_file, certificate=row.client_certificate, key=row.client_key)
    return Declared(
        row=stored,
        secret=secret,
        source="file",
        proxy=read_proxy(proxy, base_url, f"{place}.proxy"),
        tls=read_tls(files, base_url, place),
        headers=_headers_of(row, place, environment),
        extra=_extra_of(row, place, environment),
    )


def _headers_of(row: ConnectionSettings, place: str, environment: Environment) -> dict[str, Secret]:
    headers = {name: environment.resolve(value, f"{place}.headers.{name[:100]}") for name, value in row.headers.items()}
    check_headers({name: value.reveal() for name, value in headers.items()}, f"{place}.headers")
    return headers


def _extra_of(row: ConnectionSettings, place: str, environment: Environment) -> tuple[Secret, ...]:
    if len(row.extra_api_keys) > MAX_EXTRA_KEYS:
        raise ConfigError(f"{place}.extra_api_keys: {MAX_EXTRA_KEYS} further keys at most")
    if row.extra_api_keys and row.api_key is None:
        raise ConfigError(f"{place}.extra_api_keys: needs an api_key, with which they take turns")
    found = []
    for number, key in enumerate(row.extra_api_keys):
        found.append(environment.resolve(key, f"{place}.extra_api_keys[{number}]"))
        if not fits_a_header(found[-1].reveal()):
            raise ConfigError(f"{place}.extra_api_keys[{number}]: must be visible ASCII characters without spaces")
    return tuple(found)


def read_proxy(url: Secret | None, base_url: str | None, place: str) -> Proxy | None:
    """The proxy of a connection. Raises ConfigError."""
    if url is None:
        return None
    if base_url is None:
        raise ConfigError(f"{place}: a local connection has none")
    return parse_proxy(url.reveal(), place)


def read_tls(files: TlsFiles, base_url: str | None, place: str) -> TlsFiles | None:
    """The files that a connection names, proven to be readable. Raises ConfigError."""
    if files == TlsFiles():
        return None
    if base_url is None or urlsplit(base_url).scheme != "https":
        raise ConfigError(f"{place}: ca_file, client_certificate and client_key are for https:// only")
    if files.key is not None and files.certificate is None:
        raise ConfigError(f"{place}.client_key: needs a client_certificate")
    try:
        make_context(files)
    except ConfigError as error:
        raise ConfigError(f"{place}.{error}") from None
    except OSError as error:
        raise ConfigError(f"{place}: the TLS files can't be opened now: {error.strerror}") from None
    return files


def _packed(value: Mapping[str, str] | list[str]) -> Secret | None:
    return Secret(msgspec.json.encode(value).decode()) if value else None


def _unpacked(packed: Secret | None, kind: Any, default: Any) -> Any:
    return msgspec.json.decode(packed.reveal(), type=kind) if packed is not None else default
