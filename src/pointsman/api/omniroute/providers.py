"""``/api/providers``: connections are made, listed, changed and removed; every running server knows it at once."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from litestar import Response, delete, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.configured import Configured, note, told
from pointsman.api.omniroute.management import invalid, read_object, whole_number
from pointsman.api.omniroute.provider_bodies import ConnectionBody, changes, ignored, is_masked, read
from pointsman.api.omniroute.provider_kinds import base_of, is_node
from pointsman.api.omniroute.provider_views import client_view, view
from pointsman.providers.hosts import Host, find_host
from pointsman.upstream.connections import ConnectionInfo
from pointsman.upstream.declared import NewConnection
from pointsman.upstream.provider_nodes import trimmed

DEFAULT_LIMIT: Final = 200
MAX_LIMIT: Final = 500
MAX_OFFSET: Final = 1_000_000
MAX_ID: Final = 48
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9._]+")


class Providers:
    """The views."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        self._connections = configured.connections

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/providers")
        async def list_connections(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            return answer(await self._page(request, view))

        @get("/api/providers/client")
        async def list_for_clients(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            return answer(await self._page(request, client_view))

        @post("/api/providers")
        async def make_connection(request: HttpRequest) -> Response[bytes]:
            return await self._create(request)

        @get("/api/providers/{connection_id:str}")
        async def get_connection(request: HttpRequest, connection_id: FromPath[str]) -> Response[bytes]:
            self._configured.admit(request)
            with told():
                return answer({"connection": await self._shown(connection_id)})

        @route("/api/providers/{connection_id:str}", http_method=["PATCH", "PUT"])
        async def update_connection(request: HttpRequest, connection_id: FromPath[str]) -> Response[bytes]:
            return await self._update(request, connection_id)

        @delete("/api/providers/{connection_id:str}", status_code=200)
        async def delete_connection(request: HttpRequest, connection_id: FromPath[str]) -> Response[bytes]:
            key = self._configured.admit(request)
            with told():
                revision = await self._connections.remove(connection_id)
            note("provider.credentials.revoked", key, connection_id)
            return _with(
                {"message": "Connection deleted successfully"}, await self._configured.applied(revision), status=200
            )

        return [
            list_connections,
            list_for_clients,
            make_connection,
            get_connection,
            update_connection,
            delete_connection,
        ]

    async def _page(self, request: HttpRequest, shown: Any) -> dict[str, Any]:
        limit = whole_number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
        offset = whole_number(request, "offset", 0, (0, MAX_OFFSET))
        provider = request.query_params.get("provider")
        found = [info for info in await self._connections.list_all() if provider in (None, info.node_id, info.kind)]
        tests = await self._connections.tests()
        page = [shown(info, tests.get(info.id)) for info in found[offset : offset + limit]]
        return {"connections": page, "total": len(found), "limit": limit, "offset": offset}

    async def _shown(self, connection_id: str) -> dict[str, Any]:
        info = await self._connections.find(connection_id)
        return view(info, (await self._connections.tests()).get(connection_id))

    async def _create(self, request: HttpRequest) -> Response[bytes]:
        key = self._configured.admit(request)
        document = await read_object(request)
        body = read(document, ConnectionBody)
        if not isinstance(body.provider, str):
            raise invalid([("provider", "is missing")])
        with told():
            known = await self._connections.list_all()
            base = await self._base(body, body.provider)
            same = _same(known, base, body)
            if same is not None:
                revision, connection_id = await self._connections.update(same.id, _changed(body, base)), same.id
                action = "provider.credentials.updated"
            else:
                connection_id = _new_id(body.name if isinstance(body.name, str) else body.provider, known)
                new = msgspec.structs.replace(base, id=connection_id, name=_name(body, base, known))
                revision = await self._connections.add(msgspec.structs.replace(new, **_named(changes(body, None))))
                action = "provider.credentials.created"
            note(action, key, connection_id, provider=body.provider, fields=sorted(document))
            shown = {"connection": await self._shown(connection_id)}
        warnings = [*ignored(document, ConnectionBody), *await self._configured.applied(revision)]
        return _with(shown, warnings, status=201)

    async def _base(self, body: ConnectionBody, provider: str) -> NewConnection:
        """What provider and address say of a new connection. Raises ConfigError, ManagementError."""
        address = body.address()
        base = await base_of(self._configured.nodes, provider, address)
        if address is None and base.node_id is None and _needs_key(find_host(base.kind, "connection"), body):
            raise invalid([("apiKey", "is missing")])
        return base

    async def _update(self, request: HttpRequest, connection_id: str) -> Response[bytes]:
        key = self._configured.admit(request)
        document = await read_object(request)
        if not document:
            raise invalid([("body", "must have a member to be changed")])
        body = read(document, ConnectionBody)
        with told():
            info = await self._connections.find(connection_id)
            moved = await self._moved(info, body)
            revision = await self._connections.update(connection_id, _changed(body, moved))
            note("provider.credentials.updated", key, connection_id, fields=sorted(document))
            shown = {"connection": await self._shown(connection_id)}
        warnings = [*ignored(document, ConnectionBody), *await self._configured.applied(revision)]
        return _with(shown, warnings, status=200)

    async def _moved(self, info: ConnectionInfo, body: ConnectionBody) -> NewConnection | None:
        """The provider and address that a change gives it; None when it keeps both."""
        address = body.address()
        provider = body.provider if isinstance(body.provider, str) else None
        if provider is not None and provider not in (info.kind, info.node_id):
            if address is None and not is_node(provider):
                raise invalid([("url", "must be sent together with another provider")])
            return await base_of(self._configured.nodes, provider, address)
        if address is None:
            return None
        if info.node_id is not None:
            if trimmed(address, find_host(info.kind, "connection").format) == info.base_url:
                return None
            raise invalid([("url", "is its provider node's: change it there")])
        if info.kind == "local":
            return None
        return await base_of(self._configured.nodes, info.kind, address)


def _changed(body: ConnectionBody, moved: NewConnection | None) -> Any:
    """A change for `ConnectionService.update`; ``moved`` has provider and address where those change too."""

    def change(old: NewConnection) -> NewConnection:
        if moved is not None:
            old = msgspec.structs.replace(
                old,
                kind=moved.kind,
                base_url=moved.base_url,
                provider=None if moved.base_url != old.base_url else old.provider,
                node_id=moved.node_id,
                prefix=moved.prefix,
                options={**old.options, **moved.options},
            )
        return msgspec.structs.replace(old, **changes(body, old))

    return change


def _same(known: list[ConnectionInfo], base: NewConnection, body: ConnectionBody) -> ConnectionInfo | None:
    """The stored connection of the same provider and name, which a new one takes the place of."""
    for info in known:
        same_provider = (info.kind, info.node_id) == (base.kind, base.node_id)
        if info.source == "database" and same_provider and info.name is not None and info.name == body.name:
            return info
    return None


def _needs_key(host: Host, body: ConnectionBody) -> bool:
    sent = isinstance(body.api_key, str) and not is_masked(body.api_key)
    return host.auth != "none" and not sent and host.complete


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """The members of a new connection, which has a name already."""
    return {name: value for name, value in fields.items() if name != "name"}


def _name(body: ConnectionBody, base: NewConnection, known: list[ConnectionInfo]) -> str:
    """The name that was sent, else the provider's, numbered when that is taken."""
    if isinstance(body.name, str):
        return body.name
    plain = find_host(base.kind, "connection").name
    taken = {info.name for info in known}
    return next(name for name in _numbered(plain, " ") if name not in taken)


def _new_id(name: str, known: list[ConnectionInfo]) -> str:
    """A short id made of a name: it stands before the models' names."""
    plain = _NOT_PLAIN.sub("-", name.lower()).strip("-._")[:MAX_ID].strip("-._")
    taken = {"local", "client", "validate", "test-batch", *(info.id for info in known)}
    return next(one for one in _numbered(plain or "connection", "-") if one not in taken)


def _numbered(text: str, joint: str) -> Iterator[str]:
    yield text
    number = 2
    while True:
        yield f"{text}{joint}{number}"
        number += 1


def _with(shown: dict[str, Any], warnings: list[str], *, status: int) -> Response[bytes]:
    return answer({**shown, "warnings": warnings} if warnings else shown, status)
