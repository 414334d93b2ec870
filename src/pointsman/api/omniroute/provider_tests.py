"""Trying connections out: one, many at once, or credentials that aren't stored; and which models there are."""

import asyncio
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.configured import Configured, note, told
from pointsman.api.omniroute.management import invalid, read_object, whole_number
from pointsman.api.omniroute.provider_bodies import BatchBody, ValidateBody, ignored, is_masked, read
from pointsman.api.omniroute.provider_kinds import base_of
from pointsman.api.omniroute.provider_views import instant, result_view
from pointsman.errors import ConfigError
from pointsman.keyring import Secret
from pointsman.providers.hosts import GENERIC
from pointsman.routing.targets import Connection
from pointsman.upstream.connections import ConnectionInfo, probe_new
from pointsman.upstream.declared import LOCAL_KIND, NewConnection, check_fields, completed
from pointsman.upstream.probes import Finding, try_out

AT_ONCE: Final = 5  # tests of a batch that run at the same time
MAX_BATCH: Final = 50
DEFAULT_MODELS: Final = 500
MAX_MODELS: Final = 5000
MAX_OFFSET: Final = 10_000_000
NO_CREDENTIALS: Final = ("oauth", "web-cookie", "search", "audio", "upstream-proxy")  # modes that nothing here is of


class ProviderTests:
    """The views."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        self._connections = configured.connections

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/providers/{connection_id:str}/test", status_code=200)
        async def test_connection(request: HttpRequest, connection_id: FromPath[str]) -> Response[bytes]:
            self._configured.admit(request)
            with told():
                info = await self._connections.find(connection_id)
                return answer(result_view(await self._test(info)))

        @post("/api/providers/test-batch", status_code=200)
        async def test_connections(request: HttpRequest) -> Response[bytes]:
            return await self._batch(request)

        @post("/api/providers/validate", status_code=200)
        async def validate_credentials(request: HttpRequest) -> Response[bytes]:
            return await self.validate(request)

        @get("/api/providers/{connection_id:str}/models")
        async def list_models(request: HttpRequest, connection_id: FromPath[str]) -> Response[bytes]:
            self._configured.admit(request)
            with told():
                info = await self._connections.find(connection_id)
                return answer(await self._models(info))

        @get("/api/provider-models")
        async def list_offered(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            return answer(self._offered(request))

        return [test_connection, test_connections, validate_credentials, list_models, list_offered]

    async def _test(self, info: ConnectionInfo) -> Finding:
        """Try a connection out and keep what was found. Raises ConfigError."""
        if info.kind == LOCAL_KIND:
            raise ConfigError("connection.id: the embedded model is not reached over the network")
        clock = self._configured.gateway.clock
        if info.problem is not None:
            return Finding(verdict="unsupported", latency_ms=0, tested_at=clock.now_us(), message=info.problem)
        probe = await self._connections.find_origin(info.id)
        finding = await try_out(self._configured.gateway.client, probe, clock)
        await self._connections.note_test(info.id, finding)
        return finding

    async def _batch(self, request: HttpRequest) -> Response[bytes]:
        self._configured.admit(request)
        document = await read_object(request) if await request.body() else {}
        body = read(document, BatchBody)
        if body.mode == "provider" and body.provider_id is None:
            raise invalid([("providerId", "is missing")])
        found = [info for info in await self._connections.list_all() if _is_meant(info, body)]
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(info: ConnectionInfo) -> dict[str, Any]:
            async with turn:
                return {**_named(info), **result_view(await self._test(info))}

        with told():
            results = await asyncio.gather(*map(one, found[:MAX_BATCH]))
        passed = sum(result["valid"] for result in results)
        summary = {"total": len(results), "passed": passed, "failed": len(results) - passed}
        left = len(found) - len(results)
        now = instant(self._configured.gateway.clock.now_us())
        shown = {
            "mode": body.mode,
            "providerId": body.provider_id,
            "results": results,
            "testedAt": now,
            "summary": {**summary, "notTested": left} if left else summary,
        }
        return answer(shown)

    async def validate(self, request: HttpRequest) -> Response[bytes]:
        """Try out credentials that are not stored, of a provider or a node. Raises ManagementError."""
        key = self._configured.admit(request)
        document = await read_object(request)
        body = read(document, ValidateBody)
        if body.provider is None and body.type is None:
            raise invalid([("provider", "is missing")])
        with told():
            new = await self._to_be_tried(body)
            check_fields(new)
            probe = probe_new(new)
        finding = await try_out(self._configured.gateway.client, probe, self._configured.gateway.clock)
        host = probe.origin.host
        if finding.verdict == "unsupported":
            raise invalid([("provider", "its credentials can't be tried out: it has no list of models")])
        note("provider.validation", key, body.provider or str(body.type), host=host, verdict=finding.verdict)
        warnings = ignored(document, ValidateBody)
        shown = {
            "valid": finding.valid,
            "error": finding.message,
            "warning": "; ".join(warnings) or None,
            "method": "models",
            "modelCount": len(finding.models),
            "latencyMs": finding.latency_ms,
            "statusCode": finding.status,
            "diagnosis": result_view(finding)["diagnosis"],
        }
        return answer(shown)

    async def _to_be_tried(self, body: ValidateBody) -> NewConnection:
        """The connection that is meant, complete. Raises ConfigError, ManagementError."""
        address = body.base_url or body.url
        if body.type is not None and address is None:
            raise invalid([("baseUrl", "is missing")])
        base = await base_of(self._configured.nodes, body.type or body.provider or "", address)
        if body.api_key is not None and body.api_key.strip() and is_masked(body.api_key):
            raise invalid([("apiKey", "is masked: there is no stored value that it could stand for")])
        options = base.options | body.options
        if body.models_path:
            options["models_path"] = body.models_path
        new = msgspec.structs.replace(
            base,
            secret=Secret(body.api_key.strip()) if body.api_key and body.api_key.strip() else None,
            allow_private=body.allow_private,
            proxy=Secret(body.proxy) if body.proxy else None,
            options=options,
        )
        return completed(new)

    async def _models(self, info: ConnectionInfo) -> dict[str, Any]:
        """The upstream's own list; what is stored, with a warning, when that can't be had."""
        shown: dict[str, Any] = {"provider": info.node_id or info.kind, "connectionId": info.id}
        offers = self._configured.gateway.snapshot.catalogue
        if info.kind != LOCAL_KIND and info.problem is None:
            probe = await self._connections.find_origin(info.id)
            finding = await try_out(self._configured.gateway.client, probe, self._configured.gateway.clock)
            await self._connections.note_test(info.id, finding)
            if finding.valid:
                return {**shown, "models": _listed(info, finding.models), "source": "api"}
            shown["warning"] = finding.message
        connection = offers.connections.get(info.id)
        models = connection.models if connection is not None else info.models
        return {**shown, "models": _listed(info, models), "source": "local_catalog"}

    def _offered(self, request: HttpRequest) -> dict[str, Any]:
        """The models that connections in use offer by name, of one provider when that is asked for."""
        limit = whole_number(request, "limit", DEFAULT_MODELS, (1, MAX_MODELS))
        offset = whole_number(request, "offset", 0, (0, MAX_OFFSET))
        provider = request.query_params.get("provider")
        rows = [
            {"id": target.model, "name": target.model, "provider": target.connection.kind,
             "connectionId": target.connection.id, "fullModel": target.id, "source": "manual"}
            for target in self._configured.gateway.snapshot.catalogue.targets
            if target.listed and provider in (None, *_names(target.connection))
        ]  # fmt: skip
        page = rows[offset : offset + limit]
        return {"models": page, "modelCompatOverrides": [], "total": len(rows), "limit": limit, "offset": offset}


def _is_meant(info: ConnectionInfo, body: BatchBody) -> bool:
    """Whether a batch of this mode tests a connection."""
    if info.kind == LOCAL_KIND or not info.enabled or body.mode in NO_CREDENTIALS:
        return False
    if body.provider_id is not None and body.provider_id not in (info.kind, info.node_id, info.id):
        return False
    return {
        "apikey": info.has_secret,
        "free": not info.has_secret,
        "compatible": info.node_id is not None or info.kind == GENERIC,
        "local": info.allow_private,
    }.get(body.mode, True)


def _named(info: ConnectionInfo) -> dict[str, Any]:
    return {
        "provider": info.node_id or info.kind,
        "connectionId": info.id,
        "connectionName": info.name or info.id,
        "authType": "apikey" if info.has_secret else "none",
    }


def _names(connection: Connection) -> tuple[str | None, ...]:
    return connection.kind, connection.id, connection.prefix


def _listed(info: ConnectionInfo, models: tuple[str, ...]) -> list[dict[str, str]]:
    """Models less those that the operator has excluded."""
    rule = Connection(id=info.id, kind=info.kind, excluded=info.excluded_models)
    return [{"id": model, "name": model} for model in models[:MAX_MODELS] if rule.offers(model)]
