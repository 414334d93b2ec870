"""Connections: where they come from (file or database), how they are kept, and what is built of them."""

import difflib
import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from pointsman.accounting.price_lookup import Question
from pointsman.canonical.halves import Upstream
from pointsman.clock import Clock
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.keyring import MasterKey, Secret
from pointsman.providers import azure_openai, openai
from pointsman.providers.departures import departures_of, quirks_of
from pointsman.providers.formats import NO_CHAT, listing_of, parse_model_list, provider_format
from pointsman.providers.hosts import Host, address_of, effective_host, find_host
from pointsman.providers.operation_table import LOCAL as LOCAL_OPERATIONS
from pointsman.providers.operation_table import operations_of
from pointsman.routing.catalogue import Ambiguous, Catalogue
from pointsman.routing.combos import Combo, Entry
from pointsman.routing.facts import FactBook, Served
from pointsman.routing.targets import Connection
from pointsman.settings import ComboSettings, ConnectionSettings, Environment, ModelSettings, check_connection
from pointsman.storage.aliases import AliasRepository
from pointsman.storage.connections import ConnectionRepository, ConnectionRow
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.egress import is_public
from pointsman.upstream.endpoints import (
    Endpoint,
    LocalChildren,
    LocalEndpoint,
    Prices,
    RemoteEndpoint,
    header_lines,
    host_header,
)
from pointsman.upstream.minilm import MODEL_NAME as MINILM
from pointsman.upstream.minilm import installed as embedder_installed
from pointsman.upstream.model_facts import FactSources, own_prices
from pointsman.upstream.origins import Origin, Proxy, TlsFiles
from pointsman.upstream.proxies import parse_proxy
from pointsman.upstream.tls import make_context

SECRET_PURPOSE: Final = "connection-secret"
PROXY_PURPOSE: Final = "connection-proxy"
MARK_PURPOSE: Final = "connection-mark"
LOCAL_KIND: Final = "local"
API_KEY: Final = "api-key"  # the header that Azure takes a key in
LOCAL_MODEL: Final = "smollm2-135m-instruct"
log = structlog.get_logger("pointsman.connections")


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as it is shown: no credential, only whether there is one."""

    id: str
    kind: str
    source: str
    base_url: str | None
    models: tuple[str, ...]
    priority: int
    has_secret: bool
    allow_private: bool
    problem: str | None = None
    max_concurrent: int | None
    provider: str | None


class NewConnection(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to add a connection by command. ``proxy`` is a URL, which may hold a password."""

    id: str
    kind: str
    base_url: str | None = None
    secret: Secret | None = None
    models: tuple[str, ...] = ()
    priority: int = 0
    max_concurrent: int | None = None
    allow_private: bool = False
    provider: str | None = None
    proxy: Secret | None = None
    tls: TlsFiles = TlsFiles()
    options: dict[str, str] = {}


class _Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A connection from either source, with its credential in the clear: never leaves this module."""

    row: ConnectionRow
    secret: Secret | None
    source: str
    problem: str | None = None  # why it can't be used
    proxy: Proxy | None = None
    tls: TlsFiles | None = None


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to ask an upstream for its model list, and how to read it."""

    origin: Origin
    message: bytes
    secret: Secret | None
    wire: str = "openai.chat"

    def __repr__(self) -> str:
        return f"Probe({self.origin})"  # the message holds the credential


class ConnectionService:
    """Adds, lists and removes connections, and builds what the request path uses."""

    def __init__(
        self,
        repository: ConnectionRepository,
        aliases: AliasRepository,
        master: MasterKey,
        clock: Clock,
        declared: tuple[list[ConnectionSettings], list[ModelSettings], list[ComboSettings]],
        environment: Environment,
        *,
        facts: FactSources | None = None,
        ambiguous: Ambiguous = "refuse",
    ) -> None:
        self._facts = facts
        self._ambiguous = ambiguous
        self._repository = repository
        self._aliases = aliases
        self._master = master
        self._clock = clock
        self._file_models = declared[1]
        self._combos = [combo_of(row) for row in declared[2]]
        self._file = [_from_file(row, index, environment) for index, row in enumerate(declared[0])]

    async def add(self, new: NewConnection) -> int:
        """Check and store a connection, its secret sealed; gives the new configuration revision.

        Raises ConfigError that names the field at fault.
        """
        new = completed(new)
        await self.check(new)
        now = self._clock.now_us()
        return await self._repository.add(
            ConnectionRow(
                id=new.id,
                kind=new.kind,
                base_url=new.base_url,
                sealed_secret=self._seal(SECRET_PURPOSE, new.id, new.secret),
                models=new.models,
                priority=new.priority,
                max_concurrent=new.max_concurrent,
                allow_private=new.allow_private,
                provider=new.provider,
                created_at=now,
                updated_at=now,
                sealed_proxy=self._seal(PROXY_PURPOSE, new.id, new.proxy),
                ca_file=new.tls.ca_file,
                client_certificate=new.tls.certificate,
                client_key=new.tls.key,
                options=new.options,
            )
        )

    def _seal(self, purpose: str, connection_id: str, secret: Secret | None) -> bytes | None:
        return self._master.seal(purpose, connection_id, secret) if secret is not None else None

    def _unseal(self, purpose: str, connection_id: str, sealed: bytes | None) -> Secret | None:
        return self._master.open(purpose, connection_id, sealed) if sealed is not None else None

    async def check(self, new: NewConnection) -> None:
        """Whether `add` would take it; raises ConfigError that names the field at fault."""
        new = completed(new)
        check_connection(new.id, new.kind, new.base_url, "connection")
        self._refuse_taken(new.id, [row.id for row in await self._repository.list()])
        if new.base_url is not None and not new.allow_private:
            refuse_private_literal(new.base_url)
        if new.secret is not None and not _fits_a_header(new.secret.reveal()):
            raise ConfigError("connection.api_key: must be visible ASCII characters without spaces")
        _proxy(new.proxy, new.base_url, "connection.proxy")
        _tls_files(new.tls, new.base_url, "connection")

    def _refuse_taken(self, connection_id: str, stored: Iterable[str]) -> None:
        if any(declared.row.id == connection_id for declared in self._file):
            raise ConfigError(f"connection.id: '{connection_id}' is declared in the configuration file")
        if connection_id in stored:
            raise ConfigError(f"connection.id: '{connection_id}' exists already; remove it first")

    async def remove(self, connection_id: str) -> int:
        """Delete a stored connection; gives the new revision. Raises ConfigError when there is none of that id."""
        if any(declared.row.id == connection_id for declared in self._file):
            raise ConfigError(f"'{connection_id}' is declared in the configuration file: remove it there")
        revision = await self._repository.remove(connection_id)
        if revision is None:
            raise _unknown(connection_id, [row.id for row in await self._repository.list()])
        return revision

    async def list_all(self) -> list[ConnectionInfo]:
        """Every connection, those of the file first."""
        return [_info(declared) for declared in await self._all()]

    async def catalogue(self, *, local: bool, local_installed: bool, prices: Prices | None = None) -> Catalogue:
        """The model names of the present configuration; of connections with a problem there are none.

        With ``local`` the embedded model is there, under the id ``local`` unless the operator named it otherwise; it is
        offered in lists only when it is installed. ``prices`` are part of what is known of the models.
        """
        connections: list[Connection] = []
        served: dict[str, Served] = {}
        tables = {}
        for one in await self._all(local=local):
            row, is_local = one.row, one.row.kind == LOCAL_KIND
            if _problem(one) is not None or (is_local and not local):
                continue
            connection = _local(row, local_installed) if is_local else _connection(row)
            told = f"{row.base_url} {one.secret.reveal() if one.secret is not None else ''}"
            connections.append(msgspec.structs.replace(connection, mark=self._master.mark(MARK_PURPOSE, told)))
            if row.base_url is not None:
                host = effective_host(row.kind, row.base_url)
                served[row.id] = Served(host=host.id, wire=host.format)
                if prices is not None:
                    tables[row.id] = prices.table(row.provider, row.base_url)
        book = await self._facts.book(served, tables) if self._facts is not None else None
        return Catalogue(connections, await self._alias_table(), self._combos, book, ambiguous=self._ambiguous)

    async def price_questions(self, catalogue: Catalogue) -> list[Question]:
        """What to ask the price data about the offered models; it knows nothing of this machine's own."""
        places = {one.row.id: (one.row.provider, one.row.base_url) for one in await self._all() if one.row.base_url}
        return [
            Question(provider=places[found][0], base_url=places[found][1], model=target.model)
            for target in catalogue.targets
            if (found := target.connection.id) in places
        ]

    async def open_probes(self) -> dict[str, Probe]:
        """How to ask the connections that are open to any model for their lists, by id."""
        return {
            one.row.id: _probe_of(one, one.row.base_url)
            for one in await self._all()
            if not one.row.models and one.row.base_url is not None and _problem(one) is None
        }

    async def endpoints(
        self, children: LocalChildren | None, prices: Prices, book: FactBook | None = None
    ) -> dict[str, Endpoint]:
        """What calls are sent to, by `Target.endpoint`. ``children`` run on this machine, None when turned off. Prices
        in ``book`` win over the price data's.
        """
        found: dict[str, Endpoint] = {}
        for one in await self._all(local=children is not None):
            problem = _problem(one)
            if problem is not None:
                log.error("connection left out", connection=one.row.id, reason=problem)
            elif one.row.base_url is not None:
                endpoint = _remote(one, one.row.base_url, prices, self._clock)
                endpoint.own_price = own_prices(book, _connection(one.row)) if book is not None else None
                found[one.row.id] = endpoint
            elif children is not None:
                found |= _local_endpoints(one.row.id, children)
        return found

    async def find(self, connection_id: str) -> ConnectionInfo:
        """One connection. Raises ConfigError with the nearest ids when there is none."""
        found = {declared.row.id: declared for declared in await self._all()}
        if connection_id not in found:
            raise _unknown(connection_id, found)
        return _info(found[connection_id])

    async def find_origin(self, connection_id: str) -> Probe:
        """Address, request for the model list and credential of a connection, to test it. Raises ConfigError."""
        found = {declared.row.id: declared for declared in await self._all()}
        if connection_id not in found:
            raise _unknown(connection_id, found)
        declared = found[connection_id]
        if declared.row.base_url is None:
            raise ConfigError(f"the connection '{connection_id}' has no base_url")
        return _probe_of(declared, declared.row.base_url)

    async def _alias_table(self) -> dict[str, str]:
        table = {alias.name: alias.target for alias in await self._aliases.list()}
        table.update({alias.name: alias.target for alias in self._file_models})
        return table

    async def _all(self, *, local: bool = False) -> list[_Declared]:
        """Every connection that is turned on, those of the file first; some may have a problem."""
        result = list(self._file)
        taken = {declared.row.id for declared in result}
        result += [self._open(row) for row in await self._repository.list() if row.enabled and row.id not in taken]
        if local and not any(one.row.kind == LOCAL_KIND for one in result):
            row = ConnectionRow(id=LOCAL_KIND, kind=LOCAL_KIND, created_at=0, updated_at=0)
            result.append(_Declared(row=row, secret=None, source="built in"))
        return result

    def _open(self, row: ConnectionRow) -> _Declared:
        """Unseal a stored connection; one that can't be has a problem, and the others go on serving."""
        try:
            secret = self._unseal(SECRET_PURPOSE, row.id, row.sealed_secret)
            proxy = _proxy(self._unseal(PROXY_PURPOSE, row.id, row.sealed_proxy), row.base_url, "connection.proxy")
        except ConfigError as error:
            return _Declared(row=row, secret=None, source="database", problem=str(error))
        tls = TlsFiles(ca_file=row.ca_file, certificate=row.client_certificate, key=row.client_key)
        return _Declared(row=row, secret=secret, source="database", proxy=proxy, tls=tls if tls != TlsFiles() else None)


def _probe_of(declared: _Declared, base_url: str) -> Probe:
    host, ways = effective_host(declared.row.kind, base_url), (declared.proxy, declared.tls)
    return probe(base_url, declared.secret, host, allow_private=declared.row.allow_private, ways=ways)


async def fetch_models(client: UpstreamClient, probe: Probe) -> tuple[str, ...]:
    """Ask an upstream which models it has. Raises GatewayError as a call would."""
    listing = listing_of(probe.wire)
    if listing is None:
        raise GatewayError(Kind.UNSUPPORTED, "upstreams of this kind have no list of models")
    answer = CollectedAnswer()
    await client.send(probe.origin, probe.message, answer)
    if answer.status != 200:
        text = probe.secret.reveal() if probe.secret is not None else None
        error = provider_format(probe.wire).parse_error(answer.status, answer.headers, answer.body, text)
        raise error.of(answer.status, answer.headers, answer.body)
    return parse_model_list(answer.body, listing)


def completed(new: NewConnection) -> NewConnection:
    """``new`` with what the table of hosts knows of its kind: the address, whose prices hold. Raises ConfigError."""
    base_url, provider = _from_table(new.kind, new.base_url, new.provider, "connection")
    return msgspec.structs.replace(new, base_url=base_url, provider=provider)


def combo_of(row: ComboSettings) -> Combo:
    """A combo of the configuration file."""
    weights = row.weights or [0.0] * len(row.targets)
    entries = tuple(Entry(target=name, weight=weight) for name, weight in zip(row.targets, weights, strict=True))
    return Combo(name=row.name, entries=entries, strategy=row.strategy)


def _from_table(kind: str, base_url: str | None, provider: str | None, place: str) -> tuple[str | None, str | None]:
    """The address and the price list of a connection, the operator's own first. Raises ConfigError."""
    if kind == LOCAL_KIND:
        return base_url, provider
    host = find_host(kind, place)
    base_url = address_of(host, base_url, place)
    return base_url, provider or effective_host(kind, base_url).pricing


def probe_new(new: NewConnection) -> Probe:
    """Where and how to ask the upstream of a connection that isn't stored yet for its model list."""
    url = new.base_url or ""
    proxy = _proxy(new.proxy, new.base_url, "connection.proxy")
    tls = new.tls if new.tls != TlsFiles() else None
    host = effective_host(new.kind, url)
    return probe(url, new.secret, host, allow_private=new.allow_private, ways=(proxy, tls))


def probe(
    base_url: str,
    secret: Secret | None,
    host: Host,
    *,
    allow_private: bool,
    ways: tuple[Proxy | None, TlsFiles | None] = (None, None),
) -> Probe:
    """Where and how to ask the upstream at ``base_url`` for its model list."""
    parts = urlsplit(base_url)
    name = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxy, tls = ways
    origin = Origin(scheme=parts.scheme, host=name, port=port, allow_private=allow_private, proxy=proxy, tls=tls)
    text = secret.reveal() if secret is not None else None
    prefix, header = parts.path.rstrip("/"), host_header(parts.scheme, name, port)
    if host.auth == API_KEY:
        message = azure_openai.build_models_request(prefix, header, text, host.chat_path)
        return Probe(origin=origin, message=message, secret=secret)
    listing = listing_of(host.format)
    path = listing.path if listing is not None else "/"
    credentials: tuple[tuple[str, str], ...] = ()
    if text is not None:
        credentials = provider_format(host.format).auth_headers(text, Upstream(model="", quirks=host.quirk_map()))
    message = b"GET %b HTTP/1.1\r\n%b\r\n" % ((prefix + path).encode("ascii"), header_lines(header, credentials))
    return Probe(origin=origin, message=message, secret=secret, wire=host.format)


def refuse_private_literal(base_url: str) -> None:
    """Say at once what the egress guard would say at the first call; names are judged when they are resolved.

    Raises ConfigError for a literal private address and for localhost.
    """
    host = (urlsplit(base_url).hostname or "").removesuffix(".")
    try:
        private = not is_public(ipaddress.ip_address(host))
    except ValueError:
        private = host == "localhost" or host.endswith(".localhost")
    if private:
        raise ConfigError("connection.base_url: the address is private or local; add --allow-private if that is meant")


def _unknown(connection_id: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(connection_id[:100], list(known), 3, 0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "pointsman connections list shows them"
    return ConfigError(f"there is no connection {connection_id[:100]!r}; {hint}")


def _fits_a_header(secret: str) -> bool:
    return bool(secret) and all("!" <= character <= "~" for character in secret)


def _from_file(row: ConnectionSettings, index: int, environment: Environment) -> _Declared:
    place = f"connections[{index}].api_key"
    secret = environment.resolve(row.api_key, place) if row.api_key is not None else None
    if secret is not None and not _fits_a_header(secret.reveal()):
        raise ConfigError(f"{place}: must be visible ASCII characters without spaces")
    base_url, provider = _from_table(row.kind, row.base_url, row.provider, f"connections[{index}]")
    stored = ConnectionRow(
        id=row.id,
        kind=row.kind,
        base_url=base_url,
        models=tuple(row.models),
        priority=row.priority,
        max_concurrent=row.max_concurrent,
        allow_private=row.allow_private,
        provider=provider,
        options=row.options,
        created_at=0,
        updated_at=0,
    )
    place = f"connections[{index}]"
    proxy = environment.resolve(row.proxy, f"{place}.proxy") if row.proxy is not None else None
    files = TlsFiles(ca_file=row.ca_file, certificate=row.client_certificate, key=row.client_key)
    return _Declared(
        row=stored,
        secret=secret,
        source="file",
        proxy=_proxy(proxy, base_url, f"{place}.proxy"),
        tls=_tls_files(files, base_url, place),
    )


def _proxy(url: Secret | None, base_url: str | None, place: str) -> Proxy | None:
    """The proxy of a connection. Raises ConfigError."""
    if url is None:
        return None
    if base_url is None:
        raise ConfigError(f"{place}: a local connection has none")
    return parse_proxy(url.reveal(), place)


def _tls_files(files: TlsFiles, base_url: str | None, place: str) -> TlsFiles | None:
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
    return files


def _problem(declared: _Declared) -> str | None:
    """Why a connection can't be used: its secret is sealed with another key, or a stored address makes no sense."""
    row = declared.row
    if declared.problem is not None:
        return declared.problem
    try:
        check_connection(row.id, row.kind, row.base_url, "connection")
        _from_table(row.kind, row.base_url, row.provider, "connection")
    except ConfigError as error:
        return str(error)
    return None


def _local_endpoints(connection_id: str, children: LocalChildren) -> dict[str, Endpoint]:
    chat = LocalEndpoint(connection_id, children.chat, openai, provider_format("openai.chat"))
    embedder = LocalEndpoint(connection_id, children.embedder, openai, provider_format(NO_CHAT), LOCAL_OPERATIONS)
    return {connection_id: chat, f"{connection_id}/{MINILM}": embedder}


def _remote(declared: _Declared, base_url: str, prices: Prices, clock: Clock) -> RemoteEndpoint:
    row = declared.row
    host = effective_host(row.kind, base_url)
    quirks = quirks_of(host, row.options)
    return RemoteEndpoint(
        row.id,
        base_url,
        declared.secret,
        azure_openai.AzureOpenAI(host) if host.auth == API_KEY else openai,
        prices,
        hub=provider_format(host.format),
        operations=operations_of(host),
        quirks=quirks,
        options=row.options,
        departures=departures_of(host, quirks),
        stream_usage=host.quirks.stream_usage,
        provider=row.provider,
        allow_private=row.allow_private,
        max_concurrent=row.max_concurrent,
        proxy=declared.proxy,
        tls=declared.tls,
        clock=clock,
    )


def _connection(row: ConnectionRow) -> Connection:
    return Connection(
        id=row.id,
        kind=row.kind,
        provider=row.provider,
        models=row.models,
        priority=row.priority,
        created_at=row.created_at,
    )


def _local(row: ConnectionRow, chat_installed: bool) -> Connection:
    """The models of this machine; those that aren't installed can be asked for, and then say how to install them."""
    hidden = [name for name, here in ((LOCAL_MODEL, chat_installed), (MINILM, embedder_installed())) if not here]
    local = msgspec.structs.replace(row, models=(LOCAL_MODEL, MINILM))
    return msgspec.structs.replace(_connection(local), hidden=tuple(hidden), apart=(MINILM,))


def _info(declared: _Declared) -> ConnectionInfo:
    row = declared.row
    return ConnectionInfo(
        id=row.id,
        kind=row.kind,
        source=declared.source,
        base_url=row.base_url,
        models=row.models,
        priority=row.priority,
        has_secret=declared.secret is not None,
        allow_private=row.allow_private,
        max_concurrent=row.max_concurrent,
        provider=row.provider,
        problem=_problem(declared),
    )
