"""Lists of models on the paths that several contracts share, each in the shape of its client's.

Anybody may see the list, unless the host or the mount says that it is a contract's which wants a key.
"""

from typing import Any, Final
from urllib.parse import unquote

import msgspec

from pointsman.contracts.operations import Contract
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.policy.authentication import authenticate
from pointsman.routing.targets import Target
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import JSON, Exchange, refuse
from pointsman.server.inference import dialect_module
from pointsman.server.operations import CATALOGUE_LINES, Operations, offered
from pointsman.server.routes import Handler, Router
from pointsman.server.views import VARY, contract_of

_KEYED: Final = (Contract.CROSSCOMPUTE, Contract.HYBRID, Contract.OMNIROUTE)
_HEALTH: Final = "/health"
_encode: Final = msgspec.json.Encoder().encode


class ContractModels:
    """Handlers. ``listed`` and ``one`` answer clients of no contract, each vendor's in its own shape."""

    def __init__(self, gateway: Gateway, operations: Operations, listed: Handler, one: Handler) -> None:
        self._gateway = gateway
        self._operations = operations
        self._listed = listed
        self._one = one

    def add_to(self, router: Router) -> None:
        """Serve the paths."""
        router.add("GET", "/v1/models", self.models)
        router.add("GET", "/v1/models/*", self.model)

    async def models(self, exchange: Exchange) -> None:
        """``GET /v1/models``."""
        contract = contract_of(exchange)
        exchange.api_head = VARY
        if contract is None:
            await self._listed(exchange)
            return
        try:
            self._admit(exchange)
            body, extra = self._list_for(contract)
        except GatewayError as error:
            refuse(exchange, error_dialect(exchange), error)
            return
        exchange.respond(200, body, JSON, extra)

    async def model(self, exchange: Exchange) -> None:
        """``GET /v1/models/{id}``, and ``GET /v1/models/{id}/health`` where no model has that for its id."""
        contract, name = contract_of(exchange), self._name(exchange)
        healthy = "/" in name.strip("/") and name.endswith(_HEALTH) and self._find(name) is None
        if healthy or contract is Contract.HYBRID:
            await self._health(exchange, name.removesuffix(_HEALTH))
        elif contract is None:
            await self._one(exchange)
        else:
            try:
                self._admit(exchange)
                await self._operations.model(exchange)
            except GatewayError as error:
                refuse(exchange, error_dialect(exchange), error)

    async def of_provider(self, exchange: Exchange) -> None:
        """``GET /api/v1/providers/{provider}/models``: that connection's models, named without it."""
        provider, _, rest = exchange.path.partition(b"/providers/")[2].partition(b"/")
        if rest != b"models":
            raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
        try:
            authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
            name = unquote(provider.decode("latin-1"), errors="replace")
            found = [row for row in self._targets() if row[1].connection.id == name]
            if name not in self._gateway.snapshot.catalogue.connections:
                raise GatewayError(Kind.INVALID_REQUEST, "the path names no known provider", param="provider")
        except GatewayError as error:
            refuse(exchange, error_dialect(exchange), error)
            return
        rows = [{**self._operations.told(*row), "id": row[1].model} for row in found]
        exchange.respond(200, _encode({"object": "list", "data": rows}))

    def _admit(self, exchange: Exchange) -> None:
        """Whoever shows a key must show a right one; some contracts want one, when it is sure that they are meant."""
        if exchange.contract in _KEYED:
            authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
        else:
            self._operations.authenticate_if_sent(exchange)

    def _list_for(self, contract: Contract) -> tuple[bytes, bytes]:
        """The body, and header lines."""
        if contract is Contract.HYBRID:
            dialect = dialect_module("hybrid")
            cards = [self._card(dialect, name, target) for name, target in self._targets()]
            return dialect.write_models(cards), b""
        rows = self._operations.rows()
        extra = CATALOGUE_LINES % len(rows) if contract is Contract.CROSSCOMPUTE else b""
        return _encode({"object": "list", "data": rows}), extra

    async def _health(self, exchange: Exchange, name: str) -> None:
        dialect = dialect_module("hybrid")
        try:
            authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
            target = self._find(name)
            if target is None:
                raise GatewayError(Kind.NOT_FOUND, "there is no such model")
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        condition = self._gateway.health.condition(target, self._gateway.clock.now_us())
        ready = condition is None or condition.usable
        exchange.respond(200, dialect.write_health(ready, None if ready else "left alone for now, after failures"))

    def _card(self, dialect: Any, name: str, target: Target) -> Any:
        facts, connection = target.facts, target.connection
        return dialect.ModelCard(
            id=name,
            name=facts.name or name,
            provider=connection.provider or connection.id,
            local=connection.vendor == "local",
            most_output=facts.max_output_tokens,
        )

    def _targets(self) -> list[tuple[str, Target]]:
        return offered(self._gateway.snapshot.catalogue)

    def _find(self, name: str) -> Target | None:
        """The target of any name that can be asked for; ``provider:model`` is one too."""
        try:
            return self._gateway.snapshot.catalogue.resolve(name)
        except GatewayError:
            return None

    def _name(self, exchange: Exchange) -> str:
        return unquote(exchange.path.partition(b"/models/")[2].decode("latin-1"), errors="replace")
