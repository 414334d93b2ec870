"""The small routes that the edge answers itself: health, metrics, and the list of models."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from pointsman import __version__
from pointsman.accounting.telemetry import Sums
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.policy.authentication import authenticate, is_credential_sent
from pointsman.policy.local_callers import is_of_this_machine
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.profiles.budgets import PROFILES, present_name
from pointsman.routing.targets import Target
from pointsman.runner import in_task
from pointsman.server.exchange import Exchange
from pointsman.server.model_cards import extras_of
from pointsman.wire.openai_chat import ModelObject

# CrossCompute's header lines of a list: where it comes from, and how many models are in it.
CATALOGUE_LINES: Final = b"x-crosscompute-model-catalog: local\r\nx-crosscompute-model-count: %d\r\n"
PROFILE_OWNER: Final = "crosscompute"  # whose contract has them
_encode = msgspec.json.Encoder().encode


class Operations:
    """Handlers; each is one method that takes the exchange."""

    def __init__(
        self,
        gateway: Gateway,
        sums: Callable[[], Awaitable[Sums]],
        health: Callable[[], dict[str, str]],
        *,
        pays: bool = False,
    ) -> None:
        """``pays``: agents can pay by x402."""
        self._gateway = gateway
        self._sums = sums
        self._health = health
        self._pays = pays
        self._exposition: ModuleType | None = None

    async def health(self, exchange: Exchange) -> None:
        """``GET /health``: no key, no upstream call. 503 when no call can be taken."""
        checks = self._health()
        ok = all(value == "ok" for value in checks.values())
        vendors = {connection.vendor: True for connection in self._gateway.snapshot.catalogue.connections.values()}
        body = {
            "ok": ok,
            "status": "ok" if ok else "degraded",
            "version": __version__,
            "checks": checks,
            # What CrossCompute's clients look for.
            "supabaseConfigured": False,
            "x402": {"enabled": self._pays},
            "paymentChannels": {"x402": {"enabled": self._pays}},
            "providersConfigured": vendors,
        }
        exchange.respond(200 if ok else 503, _encode(body))

    async def metrics(self, exchange: Exchange) -> None:
        """``GET /metrics`` of all workers: for loopback without a key, for others with one."""
        if not is_of_this_machine(exchange.peer, exchange.headers):
            self._authenticate(exchange)
        exposition = await self._load_exposition()
        exchange.respond(200, exposition.render_sums(await self._sums()), exposition.CONTENT_TYPE.encode())

    async def _load_exposition(self) -> ModuleType:
        """Imported at the first scrape, in a thread: 40 ms and 5 MB that nobody else needs."""
        if self._exposition is None:
            await in_task()
            self._exposition = await asyncio.to_thread(import_module, "pointsman.accounting.exposition")
        return self._exposition

    async def models(self, exchange: Exchange) -> None:
        """``GET /v1/models``: public, but a key that is sent must be right."""
        self.authenticate_if_sent(exchange)
        rows = self.rows()
        exchange.respond(200, _encode({"data": rows, "object": "list"}), extra=CATALOGUE_LINES % len(rows))

    async def model(self, exchange: Exchange) -> None:
        """``GET /v1/models/{id}``: the id may hold slashes, encoded or not."""
        self.authenticate_if_sent(exchange)
        name = unquote(exchange.path.partition(b"/models/")[2].decode("latin-1"), errors="replace")
        route = self._gateway.snapshot.catalogue.route(name)
        found = _profile(name) if route.kind == "profile" else self.told(name, route.steps[0].target)
        exchange.respond(200, _encode(found))

    def rows(self) -> list[Any]:
        """What is offered: profiles, then models."""
        catalogue = self._gateway.snapshot.catalogue
        return [
            *(_profile(name) for name in profiles(catalogue)),
            *(self.told(name, target) for name, target in offered(catalogue)),
        ]

    def told(self, name: str, target: Target) -> dict[str, Any]:
        """A model with OpenAI's members, and what else is known of it."""
        model = msgspec.structs.asdict(_model(name, target))
        shown = {"provider": model["owned_by"], "display_name": target.facts.name or name}
        return {**model, **shown, **extras_of(target.facts)}

    def _authenticate(self, exchange: Exchange) -> None:
        authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)

    def authenticate_if_sent(self, exchange: Exchange) -> None:
        """Nobody has to show a key, but one that is shown must be right. Raises GatewayError(UNAUTHENTICATED)."""
        if is_credential_sent(exchange.headers):
            self._authenticate(exchange)


def list_models(catalogue: Catalogue) -> list[ModelObject]:
    """Every model that is offered: full ids first, then aliases."""
    return [_model(name, target) for name, target in offered(catalogue)]


def profiles(catalogue: Catalogue) -> list[str]:
    """The profiles that can be asked for, by their present names."""
    return [name for name in dict.fromkeys(map(present_name, PROFILES)) if catalogue.kind_of(name) == "profile"]


def _profile(name: str) -> dict[str, Any]:
    shown = {"provider": PROFILE_OWNER, "display_name": name}
    return {**msgspec.structs.asdict(ModelObject(id=name, created=0, owned_by=PROFILE_OWNER)), **shown}


def offered(catalogue: Catalogue) -> list[tuple[str, Target]]:
    """Every name that is offered with its target: full ids first, then aliases."""
    found = [(target.id, target) for target in catalogue.targets if target.listed]
    for name in catalogue.aliases:
        try:
            found.append((name, catalogue.resolve(name)))
        except GatewayError:
            continue  # an alias that points nowhere is told at its use
    return found


def _model(name: str, target: Target) -> ModelObject:
    connection = target.connection
    return ModelObject(
        id=name, created=connection.created_at // 1_000_000, owned_by=connection.provider or connection.id
    )


async def not_found(exchange: Exchange) -> None:
    """For paths that nobody serves."""
    raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
