"""``/api/provider-nodes``: addresses of compatible APIs, each with a prefix for its models."""

from typing import Any, Final

from litestar import Response, delete, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import UNSET

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.configured import Configured, note, told
from pointsman.api.omniroute.management import invalid, read_object, whole_number
from pointsman.api.omniroute.provider_bodies import NodeBody, ignored, read
from pointsman.api.omniroute.provider_tests import ProviderTests
from pointsman.api.omniroute.provider_views import node_view
from pointsman.upstream.provider_nodes import DEFAULT_BASES, OPENAI

DEFAULT_LIMIT: Final = 200
MAX_LIMIT: Final = 1000


class ProviderNodes:
    """The views."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        self._tests = ProviderTests(configured)

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/provider-nodes")
        async def list_nodes(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            limit = whole_number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            offset = whole_number(request, "offset", 0, (0, MAX_LIMIT))
            found = await self._configured.nodes.list()
            page = [node_view(row) for row in found[offset : offset + limit]]
            shown = {"nodes": page, "ccCompatibleProviderEnabled": False, "total": len(found)}
            return answer({**shown, "limit": limit, "offset": offset})

        @post("/api/provider-nodes")
        async def create_node(request: HttpRequest) -> Response[bytes]:
            return await self._create(request)

        @route("/api/provider-nodes/{node_id:str}", http_method=["PATCH", "PUT"])
        async def update_node(request: HttpRequest, node_id: FromPath[str]) -> Response[bytes]:
            return await self._update(request, node_id)

        @delete("/api/provider-nodes/{node_id:str}", status_code=200)
        async def delete_node(request: HttpRequest, node_id: FromPath[str]) -> Response[bytes]:
            key = self._configured.admit(request)
            with told():
                revision, gone = await self._configured.nodes.remove(node_id)
            note("provider.node.removed", key, node_id, connections=list(gone))
            return _with({"success": True, "removedConnections": gone}, await self._configured.applied(revision))

        @post("/api/provider-nodes/validate", status_code=200)
        async def validate_node(request: HttpRequest) -> Response[bytes]:
            return await self._tests.validate(request)

        return [list_nodes, create_node, update_node, delete_node, validate_node]

    async def _create(self, request: HttpRequest) -> Response[bytes]:
        key = self._configured.admit(request)
        document = await read_object(request)
        body = read(document, NodeBody)
        faults = [(name, "is missing") for name, value in (("name", body.name), ("prefix", body.prefix)) if not value]
        if faults:
            raise invalid(faults)
        node_type = body.type or OPENAI
        fields = {**_fields(body), "type": node_type}
        fields["api_type"] = (fields.get("api_type") or "chat") if node_type == OPENAI else None
        fields.setdefault("base_url", DEFAULT_BASES[node_type])
        with told():
            row, revision = await self._configured.nodes.add(fields, allow_private=body.allow_private is True)
        note("provider.node.added", key, row.id, fields=sorted(document))
        warnings = [*ignored(document, NodeBody), *await self._configured.applied(revision)]
        return _with({"node": node_view(row)}, warnings, 201)

    async def _update(self, request: HttpRequest, node_id: str) -> Response[bytes]:
        key = self._configured.admit(request)
        document = await read_object(request)
        if not document:
            raise invalid([("body", "must have a member to be changed")])
        body = read(document, NodeBody)
        with told():
            old = await self._configured.nodes.find(node_id)
            if body.type not in (UNSET, old.type):
                raise invalid([("type", "stays as it is; make another node")])
            fields = {name: value for name, value in _fields(body).items() if name != "type"}
            if old.type != OPENAI:
                fields.pop("api_type", None)
            row, revision = await self._configured.nodes.update(
                node_id, fields, allow_private=body.allow_private is True
            )
        note("provider.node.updated", key, node_id, fields=sorted(document))
        warnings = [*ignored(document, NodeBody), *await self._configured.applied(revision)]
        return _with({"node": node_view(row)}, warnings)


def _fields(body: NodeBody) -> dict[str, Any]:
    """What was sent, as members of `ProviderNodeRow`."""
    sent = {
        "name": body.name,
        "prefix": body.prefix,
        "api_type": body.api_type,
        "base_url": body.base_url.rstrip("/").removesuffix("/messages") if body.base_url else UNSET,
        "chat_path": body.chat_path if body.chat_path is UNSET else body.chat_path or None,
        "models_path": body.models_path if body.models_path is UNSET else body.models_path or None,
    }
    found = {name: value for name, value in sent.items() if value is not UNSET}
    if found.get("api_type", "") is None:
        del found["api_type"]
    return found


def _with(shown: dict[str, Any], warnings: list[str], status: int = 200) -> Response[bytes]:
    return answer({**shown, "warnings": warnings} if warnings else shown, status)
