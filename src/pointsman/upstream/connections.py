"""Connections: where they come from (file or database), how they are changed, and what is built of them."""

import difflib
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from pointsman.accounting.price_lookup import Question
from pointsman.canonical.limits import Limits
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey
from pointsman.providers.hosts import effective_host
from pointsman.routing.catalogue import Catalogue, Naming
from pointsman.routing.combos import ComboBook
from pointsman.routing.facts import FactBook, Served
from pointsman.routing.strategies.openrouter import OWN, OWN_LAST
from pointsman.routing.targets import Connection
from pointsman.settings import check_connection
from pointsman.storage.aliases import AliasRepository
from pointsman.storage.connections import ConnectionRepository, ConnectionRow, ConnectionTest
from pointsman.storage.database import Database
from pointsman.upstream.declared import (
    LOCAL_KIND,
    Declared,
    FileConnections,
    NewConnection,
    Sealer,
    check_fields,
    check_kept_secrets,
    completed,
    from_table,
    read_proxy,
)
from pointsman.upstream.declared_endpoints import endpoint_of_host, local_endpoints, remote_endpoint
from pointsman.upstream.endpoints import LocalChildren, Prices
from pointsman.upstream.keyed_endpoints import EndpointTable
from pointsman.upstream.minilm import MODEL_NAME as MINILM
from pointsman.upstream.minilm import installed as embedder_installed
from pointsman.upstream.model_facts import FactSources, own_prices
from pointsman.upstream.origins import Proxy, TlsFiles
from pointsman.upstream.probes import Finding, Probe, Ways, probe

MARK_PURPOSE: Final = "connection-mark"
LOCAL_MODEL: Final = "smollm2-135m-instruct"
CHANGE_ATTEMPTS: Final = 5  # when others change the same connection at the same time
log = structlog.get_logger("pointsman.connections")


class UnknownConnectionError(ConfigError):
    """There is no connection of that id."""


class DeclaredInFileError(ConfigError):
    """The connection stands in the configuration file, where alone it can be changed."""


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as it is shown: no credential, only whether there is one. Instants in us, 0 for those of the file.

    ``proxy`` is shown without its user and password, of ``headers`` the names.
    """

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
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    provider: str | None
    enabled: bool = True
    name: str | None = None
    display_name: str | None = None
    default_model: str | None = None
    node_id: str | None = None
    prefix: str | None = None
    excluded_models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    extra_keys: int = 0
    proxy: str | None = None
    has_authorities: bool = False
    options: dict[str, str] = {}
    created_at: int = 0
    updated_at: int = 0


class ConnectionService:
    """Adds, lists and removes connections, and builds what the request path uses."""

    def __init__(
        self,
        database: Database,
        master: MasterKey,
        clock: Clock,
        file: FileConnections,
        *,
        facts: FactSources | None = None,
        naming: Naming = Naming(),  # noqa: B008 - immutable
    ) -> None:
        self._facts = facts
        self._naming = naming
        self._repository = ConnectionRepository(database)
        self._aliases = AliasRepository(database)
        self._master = master
        self._sealer = Sealer(master)
        self._clock = clock
        self._file = file

    async def add(self, new: NewConnection) -> int:
        """Check and store a connection, its secrets sealed; gives the new configuration revision.

        Raises ConfigError that names the field at fault.
        """
        new = completed(new)
        await self.check(new)
        now = self._clock.now_us()
        return await self._repository.add(self._sealer.seal(new, now, now))

    async def check(self, new: NewConnection) -> None:
        """Whether `add` would take it; raises ConfigError that names the field at fault."""
        new = completed(new)
        check_connection(new.id, new.kind, new.base_url, "connection")
        self._refuse_taken(new.id, [row.id for row in await self._repository.list()])
        check_fields(new)

    async def update(self, connection_id: str, change: Callable[[NewConnection], NewConnection]) -> int:
        """Store what ``change`` makes of a connection, whose id stays; gives the new configuration revision.

        ``change`` may be asked again when somebody else was faster. Raises ConfigError that names the field at fault,
        UnknownConnectionError, DeclaredInFileError.
        """
        for _ in range(CHANGE_ATTEMPTS):
            row = await self._stored(connection_id)
            new = self._changed(row, change)
            now = max(self._clock.now_us(), row.updated_at + 1)
            revision = await self._repository.replace(
                self._sealer.seal(new, row.created_at, now), known_at=row.updated_at
            )
            if revision is not None:
                return revision
        raise ConfigError(f"the connection '{connection_id}' is being changed by somebody else; try again")

    async def preview(self, connection_id: str, change: Callable[[NewConnection], NewConnection]) -> NewConnection:
        """What `update` would store; raises ConfigError as it does."""
        return self._changed(await self._stored(connection_id), change)

    def _changed(self, row: ConnectionRow, change: Callable[[NewConnection], NewConnection]) -> NewConnection:
        old = self._sealer.clear(row)
        new = completed(change(old))
        check_fields(new)
        check_kept_secrets(old, new)
        return new

    async def _stored(self, connection_id: str) -> ConnectionRow:
        self._refuse_declared(connection_id)
        row = await self._repository.find(connection_id)
        if row is None:
            raise _unknown(connection_id, [row.id for row in await self._repository.list()])
        return row

    def _refuse_declared(self, connection_id: str) -> None:
        if connection_id in self._file.ids:
            raise DeclaredInFileError(
                f"'{connection_id}' is declared in the configuration file: change or remove it there"
            )

    def _refuse_taken(self, connection_id: str, stored: Iterable[str]) -> None:
        if connection_id in self._file.ids:
            raise ConfigError(f"connection.id: '{connection_id}' is declared in the configuration file")
        if connection_id in stored:
            raise ConfigError(f"connection.id: '{connection_id}' exists already; remove it first")

    async def remove(self, connection_id: str) -> int:
        """Delete a stored connection; gives the new revision. Raises ConfigError when there is none of that id."""
        self._refuse_declared(connection_id)
        revision = await self._repository.remove(connection_id)
        if revision is None:
            raise _unknown(connection_id, [row.id for row in await self._repository.list()])
        return revision

    async def note_test(self, connection_id: str, finding: Finding) -> None:
        """Keep what a test found, for whoever lists the connections."""
        await self._repository.note_test(
            ConnectionTest(
                connection_id=connection_id,
                tested_at=finding.tested_at,
                valid=finding.valid,
                verdict=finding.verdict,
                message=finding.message,
                status=finding.status,
                latency_ms=finding.latency_ms,
            )
        )

    async def tests(self) -> dict[str, ConnectionTest]:
        """The last test of each connection, by its id."""
        return await self._repository.tests()

    async def list_all(self) -> list[ConnectionInfo]:
        """Every connection, those of the file first."""
        return [_info(declared) for declared in await self._all(disabled=True)]

    async def limits(self) -> dict[str, Limits]:
        """What may be asked of each connection in a minute and a day, whoever asks."""
        return {
            one.row.id: Limits(
                requests_per_minute=one.row.requests_per_minute,
                requests_per_day=one.row.requests_per_day,
                tokens_per_minute=one.row.tokens_per_minute,
            )
            for one in await self._all()
        }

    async def catalogue(
        self, *, local: bool, local_installed: bool, prices: Prices | None = None, combos: ComboBook | None = None
    ) -> Catalogue:
        """The model names of the present configuration; of connections with a problem there are none.

        With ``local`` the embedded model is there, under the id ``local`` unless the operator named it otherwise; it is
        offered in lists only when it is installed. ``prices`` are part of what is known of the models.
        """
        connections: list[Connection] = []
        served: dict[str, Served] = {}
        tables = {}
        aliases = await self._alias_table()
        for one in await self._all(local=local):
            row, is_local = one.row, one.row.kind == LOCAL_KIND
            if _problem(one) is not None or (is_local and not local):
                continue
            connection = _local(row, local_installed) if is_local else _connection(row)
            if connection is None:
                continue
            told = f"{row.base_url} {one.secret.reveal() if one.secret is not None else ''}"
            connections.append(msgspec.structs.replace(connection, mark=self._master.mark(MARK_PURPOSE, told)))
            if row.default_model is not None:  # the connection's own name is its default model's
                aliases.setdefault(row.id, f"{row.id}/{row.default_model}")
            if row.base_url is not None:
                host = effective_host(row.kind, row.base_url)
                served[row.id] = Served(host=host.id, wire=host.format)
                if prices is not None:
                    tables[row.id] = prices.table(row.provider, row.base_url)
        book = await self._facts.book(served, tables) if self._facts is not None else None
        return Catalogue(connections, aliases, combos, book, self._naming)

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
    ) -> EndpointTable:
        """What calls are sent to, by `Target.endpoint`. ``children`` run on this machine, None when turned off. Prices
        in ``book`` win over the price data's.
        """
        found = EndpointTable(lambda host, secret: endpoint_of_host(host, secret, prices, self._clock))
        for one in await self._all(local=children is not None):
            problem = _problem(one)
            if problem is not None:
                log.error("connection left out", connection=one.row.id, reason=problem)
            elif one.row.base_url is not None:
                endpoint = remote_endpoint(one, one.row.base_url, prices, self._clock)
                connection = _connection(one.row)
                if book is not None and connection is not None:
                    endpoint.own_price = own_prices(book, connection)
                found[one.row.id] = endpoint
            elif children is not None:
                found.update(local_endpoints(one.row.id, children))
        return found

    async def find(self, connection_id: str) -> ConnectionInfo:
        """One connection. Raises ConfigError with the nearest ids when there is none."""
        found = {declared.row.id: declared for declared in await self._all(disabled=True)}
        if connection_id not in found:
            raise _unknown(connection_id, found)
        return _info(found[connection_id])

    async def find_origin(self, connection_id: str) -> Probe:
        """Address, request for the model list and credential of a connection, to test it.

        Raises ConfigError and StorageError.
        """
        found = {declared.row.id: declared for declared in await self._all(disabled=True)}
        if connection_id not in found:
            raise _unknown(connection_id, found)
        declared = found[connection_id]
        if declared.row.base_url is None:
            raise ConfigError(f"the connection '{connection_id}' has no base_url")
        return _probe_of(declared, declared.row.base_url)

    async def _alias_table(self) -> dict[str, str]:
        table = {alias.name: alias.target for alias in await self._aliases.list()}
        table.update({alias.name: alias.target for alias in self._file.models})
        return table

    async def _all(self, *, local: bool = False, disabled: bool = False) -> list[Declared]:
        """Every connection, those of the file first, those turned off when asked for; some may have a problem."""
        result, taken = list(self._file.declared), self._file.ids
        rows = [row for row in await self._repository.list() if row.id not in taken and (row.enabled or disabled)]
        result += [self._sealer.open(row) for row in rows]
        if local and not any(one.row.kind == LOCAL_KIND for one in result):
            row = ConnectionRow(id=LOCAL_KIND, kind=LOCAL_KIND, created_at=0, updated_at=0)
            result.append(Declared(row=row, secret=None, source="built in"))
        return result


def probe_new(new: NewConnection) -> Probe:
    """Where and how to ask the upstream of a connection that isn't stored yet for its models. Raises ConfigError."""
    url = new.base_url or ""
    ways = Ways(
        proxy=read_proxy(new.proxy, new.base_url, "connection.proxy"),
        tls=new.tls if new.tls != TlsFiles() else None,
        headers=new.header_lines(),
        models_path=new.options.get("models_path"),
    )
    host = effective_host(new.kind, url)
    return probe(url, new.secret, host, allow_private=new.allow_private, ways=ways)


def _probe_of(declared: Declared, base_url: str) -> Probe:
    host = effective_host(declared.row.kind, base_url)
    ways = Ways(
        proxy=declared.proxy,
        tls=declared.tls,
        headers=declared.header_lines(),
        models_path=declared.row.options.get("models_path"),
    )
    return probe(base_url, declared.secret, host, allow_private=declared.row.allow_private, ways=ways)


def _unknown(connection_id: str, known: Iterable[str]) -> UnknownConnectionError:
    near = difflib.get_close_matches(connection_id[:100], list(known), 3, 0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "pointsman connections list shows them"
    return UnknownConnectionError(f"there is no connection {connection_id[:100]!r}; {hint}")


def _problem(declared: Declared) -> str | None:
    """Why a connection can't be used: its secret is sealed with another key, or a stored address makes no sense."""
    row = declared.row
    if declared.problem is not None:
        return declared.problem
    try:
        check_connection(row.id, row.kind, row.base_url, "connection")
        from_table(row.kind, row.base_url, row.provider, "connection")
    except ConfigError as error:
        return str(error)
    return None


def _connection(row: ConnectionRow) -> Connection | None:
    """As routing sees it; None when every model that it has is excluded, for an empty list would mean any."""
    connection = Connection(
        id=row.id,
        kind=row.kind,
        provider=row.provider,
        models=row.models,
        priority=row.priority,
        created_at=row.created_at,
        tags=_tags(row),
        excluded=row.excluded_models,
        prefix=row.prefix,
    )
    if not row.excluded_models or not row.models:
        return connection
    models = tuple(model for model in row.models if connection.offers(model))
    return msgspec.structs.replace(connection, models=models) if models else None


def _tags(row: ConnectionRow) -> frozenset[str]:
    """An account that the upstream bills to the caller itself is one of the caller's own, for routing too."""
    tags = frozenset(row.tags)
    own = row.options.get("byok") == "true" and tags.isdisjoint((OWN, OWN_LAST))
    return tags | {OWN} if own else tags


def _local(row: ConnectionRow, chat_installed: bool) -> Connection:
    """The models of this machine; those that aren't installed can be asked for, and then say how to install them."""
    hidden = [name for name, here in ((LOCAL_MODEL, chat_installed), (MINILM, embedder_installed())) if not here]
    return Connection(
        id=row.id,
        kind=row.kind,
        provider=row.provider,
        models=(LOCAL_MODEL, MINILM),
        priority=row.priority,
        created_at=row.created_at,
        hidden=tuple(hidden),
        apart=(MINILM,),
    )


def _info(declared: Declared) -> ConnectionInfo:
    row, proxy = declared.row, declared.proxy
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
        requests_per_minute=row.requests_per_minute,
        requests_per_day=row.requests_per_day,
        tokens_per_minute=row.tokens_per_minute,
        provider=row.provider,
        problem=_problem(declared),
        enabled=row.enabled,
        name=row.name,
        display_name=row.display_name,
        default_model=row.default_model,
        node_id=row.node_id,
        prefix=row.prefix,
        excluded_models=row.excluded_models,
        tags=row.tags,
        headers=tuple(declared.headers),
        extra_keys=len(declared.extra),
        proxy=shown_proxy(proxy) if proxy is not None else None,
        options=row.options,
        has_authorities=row.ca_certificates is not None or row.ca_file is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def shown_proxy(proxy: Proxy) -> str:
    """A proxy's address for people; four asterisks stand for its user and password."""
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"{proxy.kind}://{'****@' if proxy.username is not None else ''}{host}:{proxy.port}"
