"""OpenRouter's lists of models, endpoints and providers, on the path that it shares with OmniRoute."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape, quoteattr

import msgspec

from pointsman.canonical.samples import percentiles
from pointsman.contracts.operations import Contract
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.policy.authentication import authenticate, is_credential_sent
from pointsman.policy.endpoint_figures import NOTHING, EndpointFiguresBook
from pointsman.routing import measurements
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.plan import Condition
from pointsman.routing.targets import Target
from pointsman.server.exchange import Exchange, refuse
from pointsman.server.inference import dialect_module, query_of
from pointsman.server.model_cards import (
    Card,
    Figures,
    architecture,
    card_of,
    cards_of,
    endpoint_object,
    model_object,
    provider_objects,
)
from pointsman.server.model_filters import Page, filtered, page_of
from pointsman.server.routes import Handler, Router
from pointsman.server.views import SHARED_BASE, VARY, contract_of

RSS_TYPE: Final = b"application/rss+xml; charset=utf-8"
_VENDORS: Final = frozenset((b"anthropic-version", b"x-goog-api-key"))
_encode: Final = msgspec.json.Encoder().encode

View = Callable[[Exchange, str], tuple[bytes, bytes]]
Ask = Callable[[Exchange, str], Awaitable[tuple[bytes, bytes]]]


class OpenRouterModels:
    """Handlers. The cards of a catalogue are made once."""

    def __init__(self, gateway: Gateway, figures: EndpointFiguresBook) -> None:
        self._gateway = gateway
        self._figures = figures
        self._known: tuple[Catalogue, list[Card]] | None = None

    def add_to(self, router: Router, others: Handler, other: Handler) -> None:
        """Serve the paths. ``others`` and ``other`` answer for a list and for one model where another API's client
        asks on the shared path.
        """
        base = SHARED_BASE
        router.add("GET", f"{base}/models", _unless_others(self._view(base, self._list), others))
        router.add("GET", f"{base}/models/*", self._below(base, other))
        router.add("GET", f"{base}/models/count", self._view(base, self._count))
        router.add("GET", f"{base}/models/user", self._view(base, self._of_user))
        router.add("GET", f"{base}/model/*", self._view(base, self._model))
        router.add("GET", f"{base}/endpoints/zdr", self._view(base, self._zdr))
        router.add("GET", f"{base}/providers", self._view(base, self._providers))
        router.add("GET", f"{base}/embeddings/models", self._view(base, self._embedding_models))
        router.add("GET", f"{base}/rerank/models", self._view(base, self._rerank_models))

    def _view(self, base: str, write: View | Ask) -> Handler:
        async def handle(exchange: Exchange) -> None:
            try:
                self._gateway.planner.catch_up()
                if is_credential_sent(exchange.headers):
                    self._authenticate(exchange)
                written = write(exchange, base)
                body, kind = written if isinstance(written, tuple) else await written
            except GatewayError as error:
                if error.kind is Kind.MODEL_NOT_FOUND:  # 400 where one is called, but here it is what was looked for
                    error = GatewayError(Kind.NOT_FOUND, error.message, param=error.param)
                refuse(exchange, dialect_module("openrouter"), error)
                return
            exchange.respond(200, body, kind)

        return handle

    def _below(self, base: str, other: Handler) -> Handler:
        endpoints, model = self._view(base, self._endpoints), self._view(base, self._model)

        async def handle(exchange: Exchange) -> None:
            if exchange.path.endswith(b"/endpoints"):
                await endpoints(exchange)
            else:
                await (model if exchange.contract is Contract.OPENROUTER else other)(exchange)

        return handle

    def _authenticate(self, exchange: Exchange) -> None:
        authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)

    def _measure(self, target: Target) -> Figures:
        """How fast a target was in the last five minutes, for sorting."""
        return _speeds(self._gateway.planner.measurements.figures(target.id, self._gateway.clock.now_us()))

    async def _measured(self, targets: Sequence[Target]) -> Callable[[Target], Figures]:
        """How targets have done, by the request log."""
        counts, now = await self._figures.of([target.id for target in targets]), self._gateway.clock.now_us()

        def figures(target: Target) -> Figures:
            found = counts.get(target.id, NOTHING)
            health = self._gateway.health.condition(target, now)
            told = _Speeds(percentiles([found.first_token]), percentiles([found.throughput]))
            return msgspec.structs.replace(
                _speeds(told),
                uptime_5m=_percent(found.short),
                uptime_30m=_percent(found.half_hour),
                uptime_1d=_percent(found.day),
                status=_status(self._gateway.planner.measurements.condition(target.id, now, health)),
            )

        return figures

    def _cards(self) -> list[Card]:
        catalogue = self._gateway.snapshot.catalogue
        if self._known is None or self._known[0] is not catalogue:
            self._known = (catalogue, cards_of(catalogue))
        return self._known[1]

    # lists

    def _list(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        query = query_of(exchange)
        page = self._page(exchange, query, f"{base}/models")
        if query.get("use_rss", "") == "true":
            return _rss(page.cards), RSS_TYPE
        return _models(page, base)

    def _page(self, exchange: Exchange, query: Mapping[str, str], path: str) -> Page:
        return page_of(self._cards(), query, exchange.started_at, self._measure, path)

    def _of_user(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        snapshot = self._gateway.snapshot
        key = authenticate(exchange.headers, snapshot.keys, exchange.started_at, exchange.path)
        cards, bound = self._cards(), snapshot.guardrails.of(key) if snapshot.guardrails is not None else None
        if bound is not None:
            cards = [card for card in cards if any(bound.permits(target) for target in card.targets)]
        page = page_of(cards, query_of(exchange), exchange.started_at, self._measure, f"{base}/models/user")
        if not page.total:
            raise GatewayError(Kind.NOT_FOUND, "no eligible endpoints found")
        return _models(page, base)

    def _count(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        outputs = {name: text for name, text in query_of(exchange).items() if name == "output_modalities"}
        return _json({"data": {"count": len(filtered(self._cards(), outputs, exchange.started_at))}})

    def _embedding_models(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        query = {**query_of(exchange), "output_modalities": "embeddings"}
        return _models(self._page(exchange, query, f"{base}/embeddings/models"), base)

    def _rerank_models(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        query = {**query_of(exchange), "output_modalities": "rerank"}
        return _models(self._page(exchange, query, f"{base}/rerank/models"), base)

    def _providers(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        return _json({"data": provider_objects(self._gateway.snapshot.catalogue)})

    # one model

    def _model(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        path = exchange.path[len(base) :].decode("latin-1")
        name = unquote(path.partition("/")[2].partition("/")[2], errors="replace")
        return _json({"data": model_object(self._card(name), base)})

    async def _endpoints(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        path = exchange.path.decode("latin-1").partition("/models/")[2].removesuffix("/endpoints")
        card = self._card(unquote(path, errors="replace"))
        model = model_object(card, base)
        shown = is_credential_sent(exchange.headers)
        data = {name: model[name] for name in ("id", "name", "created", "description")}
        data["architecture"] = architecture(card)
        measured = await self._measured(card.targets)
        data["endpoints"] = [endpoint_object(card, target, measured(target), shown=shown) for target in card.targets]
        return _json({"data": data})

    def _card(self, name: str) -> Card:
        """The card of any name that can be asked for. Raises GatewayError(NOT_FOUND): here the model is the thing asked
        for, and no wrong word in a request.
        """
        try:
            route = self._gateway.snapshot.catalogue.route(name)
        except GatewayError as error:
            raise GatewayError(Kind.NOT_FOUND, error.message) from None
        targets = tuple({step.target.id: step.target for step in route.steps}.values())
        return card_of(name, targets, router=route.kind == "combo")

    async def _zdr(self, exchange: Exchange, base: str) -> tuple[bytes, bytes]:
        shown = is_credential_sent(exchange.headers)
        kept = [
            (card, target) for card in self._cards() for target in card.targets if target.facts.zdr and "/" in card.id
        ]
        measured = await self._measured([target for _, target in kept])
        found = [endpoint_object(card, target, measured(target), shown=shown) for card, target in kept]
        return _json({"data": found})


def _unless_others(handler: Handler, others: Handler) -> Handler:
    """Clients of Anthropic and Google get their own shape; who sends OmniRoute's headers wants its list, which has
    every connection's models by their full ids.
    """

    async def handle(exchange: Exchange) -> None:
        exchange.api_head = VARY
        theirs = not _VENDORS.isdisjoint(exchange.headers) or contract_of(exchange) is Contract.OMNIROUTE
        theirs = theirs and exchange.contract is not Contract.OPENROUTER
        await (others if theirs else handler)(exchange)

    return handle


class _Speeds(NamedTuple):
    """Percentiles of seconds to the first token, and of tokens a second."""

    first_token: dict[str, float]
    throughput: dict[str, float]


def _speeds(found: _Speeds | measurements.Figures) -> Figures:
    return Figures(
        latency={name: round(seconds * 1000, 1) for name, seconds in found.first_token.items()} or None,
        throughput={name: round(rate, 2) for name, rate in found.throughput.items()} or None,
    )


def _percent(counts: tuple[int, int]) -> float | None:
    """The part of the attempts that were answered; None without any."""
    attempts, answered = counts
    return round(answered / attempts * 100, 3) if attempts else None


def _status(condition: Condition | None) -> int:
    """OpenRouter's scale, on which less is worse: 0 well, -2 many calls fail, -5 left alone for now."""
    if condition is None:
        return 0
    return -5 if not condition.usable else -2 if condition.unstable else 0


def _models(page: Page, base: str) -> tuple[bytes, bytes]:
    rows = [model_object(card, base) for card in page.cards]
    return _json({"object": "list", "data": rows, "total_count": page.total, "links": {"next": page.following}})


def _rss(cards: Sequence[Card]) -> bytes:
    """The models as a feed (RSS 2.0)."""
    items = "".join(
        f"<item><title>{escape(card.name)}</title><guid isPermaLink={quoteattr('false')}>{escape(card.id)}</guid>"
        f"<description>{escape(card.id)}</description></item>"
        for card in cards
    )
    head = "<title>Models</title><link>/api/v1/models</link><description>Models that can be asked for</description>"
    text = f'<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>{head}{items}</channel></rss>'
    return text.encode("utf-8", "replace")


def _json(value: Any) -> tuple[bytes, bytes]:
    return _encode(value), b"application/json"
