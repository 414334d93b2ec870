"""Models and their endpoints as OpenRouter's clients are told of them (openrouter.ai/docs, as of 2026-11).

A card stands for a name that can be asked for; it has one target or several. What is not known is null where the API
allows it, and else what its clients take for unknown: a price of -1, a size of 0.
"""

import datetime
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError
from pointsman.providers.hosts import hosts
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.targets import LongPrice, ModelFacts, PriceTag, Target

PICO: Final = Decimal(10**12)
UNPRICED: Final = "-1"  # as OpenRouter prices what depends on the request
INPUTS: Final = ("text", "image", "file", "audio", "video")
OUTPUTS: Final = ("text", "image", "embeddings", "audio", "video", "rerank", "decisions", "speech", "transcription")
_TOKENIZERS: Final = {
    "openai": "GPT", "anthropic": "Claude", "google": "Gemini", "x-ai": "Grok", "cohere": "Cohere", "amazon": "Nova",
    "qwen": "Qwen", "01-ai": "Yi", "deepseek": "DeepSeek", "mistralai": "Mistral",
}  # fmt: skip
_MODERATED: Final = False  # nobody but the upstream judges what is asked


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint has done: uptimes in percent, percentiles of milliseconds to the first token and tokens a second.

    None: nothing was asked of it.
    """

    uptime_5m: float | None = None
    uptime_30m: float | None = None
    uptime_1d: float | None = None
    latency: dict[str, float] | None = None
    throughput: dict[str, float] | None = None
    status: int = 0


Measure = Callable[[Target], Figures]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A name, its targets, and what they have in common. Sizes are the largest of them, the price is the lowest."""

    id: str
    targets: tuple[Target, ...]
    name: str
    author: str
    slug: str
    tokenizer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: frozenset[str]
    context: int | None
    most_output: int | None
    price: PriceTag | None
    created: int
    deprecated: int | None


def cards_of(catalogue: Catalogue) -> list[Card]:
    """Every model that is offered: by ``author/name`` where that is known, else by its full id; aliases and combos."""
    found: dict[str, Card] = {}
    named: set[str] = set()
    for slug, targets in catalogue.slugs.items():
        offered = tuple(target for target in targets if target.listed)
        if offered:
            found[slug] = card_of(slug, offered)
            named.update(target.id for target in offered)
    for target in catalogue.targets:
        if target.listed and target.id not in named:
            found[target.id] = card_of(target.id, (target,))
    for name in (*catalogue.aliases, *catalogue.combos):
        try:
            steps = catalogue.route(name).steps
        except GatewayError:
            continue  # one that points nowhere is told at its use
        meant = tuple({step.target.id: step.target for step in steps}.values())
        card, combo = card_of(name, meant, router=name in catalogue.combos), catalogue.combos.get(name)
        if combo is not None and combo.context_length is not None:
            card = msgspec.structs.replace(card, context=combo.context_length)
        found.setdefault(name, card)
    return list(found.values())


def card_of(name: str, targets: tuple[Target, ...], *, router: bool = False) -> Card:
    """The card of a name with these targets."""
    facts = [target.facts for target in targets]
    first = facts[0]
    slug = name if first.slug is None or router else first.slug
    author = "combo" if router else first.author or targets[0].connection.vendor
    return Card(
        id=name,
        targets=targets,
        name=(None if router else first.name) or name,
        author=author,
        slug=slug,
        tokenizer="Router" if router else _tokenizer(author, slug),
        inputs=_ordered((one.inputs for one in facts), INPUTS),
        outputs=_ordered((one.outputs for one in facts), OUTPUTS),
        parameters=frozenset().union(*(one.parameters for one in facts if one.parameters is not None)),
        context=max((one.context_tokens for one in facts if one.context_tokens is not None), default=None),
        most_output=max((one.max_output_tokens for one in facts if one.max_output_tokens is not None), default=None),
        price=min((one.price for one in facts if one.price is not None), key=_height, default=None),
        created=max(one.facts.created_at or one.connection.created_at for one in targets),
        deprecated=min((one.deprecated_at for one in facts if one.deprecated_at is not None), default=None),
    )


def _ordered(found: Iterable[frozenset[str] | None], order: tuple[str, ...]) -> tuple[str, ...]:
    """All that some target has, in the usual order; text when nobody knows."""
    together = frozenset().union(*(some for some in found if some is not None))
    return tuple(one for one in order if one in together) or ("text",)


def _tokenizer(author: str, slug: str) -> str:
    if author == "meta-llama":
        return next((f"Llama{number}" for number in "432" if f"llama-{number}" in slug), "Other")
    return "Gemma" if "gemma" in slug else _TOKENIZERS.get(author, "Other")


def _height(price: PriceTag) -> int:
    return 3 * price.prompt + price.completion


def model_object(card: Card, base: str) -> dict[str, Any]:
    """A model: OpenRouter's members, and those that OpenAI's clients look for. ``base`` is where the API is."""
    found: dict[str, Any] = {
        "id": card.id,
        "canonical_slug": card.slug,
        "name": card.name,
        "created": card.created // 1_000_000,
        "description": "",
        "context_length": card.context,
        "architecture": architecture(card),
        "pricing": pricing(card.price),
        "top_provider": {
            "context_length": card.context,
            "max_completion_tokens": card.most_output,
            "is_moderated": _MODERATED,
        },
        "per_request_limits": None,
        "supported_parameters": sorted(card.parameters),
        "default_parameters": None,
        "supported_voices": None,
        "hugging_face_id": None,
        "knowledge_cutoff": None,
        "expiration_date": _day(card.deprecated),
        "links": {"details": f"{base}/models/{card.id}/endpoints"},
        "object": "model",
        "owned_by": card.author,
        "unpriced": card.price is None,
    }
    if card.id != card.slug and card.tokenizer != "Router" and "/" in card.slug:
        found["alias_target"] = {"id": card.slug, "name": card.name, "slug": card.slug}
    return found


def architecture(card: Card) -> dict[str, Any]:
    """What goes in and comes out."""
    return {
        "modality": f"{'+'.join(card.inputs)}->{'+'.join(card.outputs)}",
        "input_modalities": list(card.inputs),
        "output_modalities": list(card.outputs),
        "tokenizer": card.tokenizer,
        "instruct_type": None,
    }


def pricing(price: PriceTag | None) -> dict[str, Any]:
    """USD per token, request or picture, as text. A price that nobody knows is -1, never 0."""
    if price is None:
        return {"prompt": UNPRICED, "completion": UNPRICED}
    found: dict[str, Any] = {"prompt": usd(price.prompt), "completion": usd(price.completion)}
    for name in ("request", "image", "audio"):
        if getattr(price, name):
            found[name] = usd(getattr(price, name))
    found |= _cached(price)
    if price.long:
        found["overrides"] = [_override(one) for one in price.long]
    return found


def _override(one: LongPrice) -> dict[str, Any]:
    rates = {"prompt": usd(one.prompt), "completion": usd(one.completion), **_cached(one)}
    return {"min_prompt_tokens": one.above, **rates}


def _cached(price: PriceTag | LongPrice) -> dict[str, str]:
    rates = {"input_cache_read": price.cache_read, "input_cache_write": price.cache_write}
    return {name: usd(rate) for name, rate in rates.items() if rate is not None}


def usd(rate: int) -> str:
    """Pico-USD as USD, exactly, without an exponent."""
    text = format(Decimal(rate) / PICO, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _day(instant: int | None) -> str | None:
    return None if instant is None else datetime.datetime.fromtimestamp(instant / 1e6, datetime.UTC).date().isoformat()


def endpoint_object(card: Card, target: Target, figures: Figures, *, shown: bool) -> dict[str, Any]:
    """A target of a model. Speeds are ``shown`` to those with a key only."""
    facts, provider = target.facts, provider_name(target)
    calls = facts.parameters is None or "tools" in facts.parameters
    return {
        "name": f"{provider} | {card.id}",
        "model_id": card.id,
        "model_name": card.name,
        "context_length": facts.context_tokens or 0,
        "pricing": {**pricing(facts.price), "discount": 0},
        "provider_name": provider,
        "tag": tag_of(target, card.targets),
        "quantization": facts.quantization,
        "max_completion_tokens": facts.max_output_tokens,
        "max_prompt_tokens": None,
        "supported_parameters": sorted(facts.parameters or ()),
        "status": figures.status,
        "uptime_last_5m": figures.uptime_5m,
        "uptime_last_30m": figures.uptime_30m,
        "uptime_last_1d": figures.uptime_1d,
        "supports_implicit_caching": facts.price is not None and facts.price.cache_read is not None,
        "supports_tool_choice": dict.fromkeys(("auto", "none", "required", "function"), calls),
        "supports_diarization": False,
        "native_tools": {},
        "service_tier": facts.service_tier,
        "latency_last_30m": figures.latency if shown else None,
        "throughput_last_30m": figures.throughput if shown else None,
        "unpriced": facts.price is None,
        "deprecated_at": _day(facts.deprecated_at),
    }


def tag_of(target: Target, others: Iterable[Target]) -> str:
    """The slug under which routing knows an endpoint: its vendor, or its connection where a vendor has several."""
    vendor, facts = target.connection.vendor, target.facts
    if facts.service_tier is not None:
        return f"{vendor}/{facts.service_tier}"
    same = sum(one.connection.vendor == vendor for one in others)
    return vendor if same < 2 else target.connection.id


def provider_name(target: Target) -> str:
    """Who serves it, for people."""
    host = hosts().get(target.connection.kind)
    return host.name if host is not None else target.connection.vendor


def provider_objects(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Everybody that some connection leads to. What they promise is theirs to say: no policies are kept here."""
    found: dict[str, dict[str, Any]] = {}
    for connection in catalogue.connections.values():
        host = hosts().get(connection.kind)
        found.setdefault(
            connection.vendor,
            {
                "name": host.name if host is not None else connection.vendor,
                "slug": connection.vendor,
                "privacy_policy_url": None,
                "terms_of_service_url": None,
                "status_page_url": None,
                "headquarters": None,
                "datacenters": None,
            },
        )
    return sorted(found.values(), key=lambda one: str(one["slug"]))


def extras_of(facts: ModelFacts) -> dict[str, Any]:
    """What lists in OpenAI's shape say of a model beside its name."""
    found: dict[str, Any] = {"pricing": pricing(facts.price) if facts.price is not None else None}
    if facts.slug is not None:
        found["canonical_slug"] = facts.slug
    if facts.context_tokens is not None:
        found["context_length"] = facts.context_tokens
    if facts.max_output_tokens is not None:
        found["max_output_tokens"] = facts.max_output_tokens
    for name, words, order in (
        ("input_modalities", facts.inputs, INPUTS), ("output_modalities", facts.outputs, OUTPUTS)
    ):  # fmt: skip
        if words is not None:
            found[name] = [one for one in order if one in words]
    if facts.parameters is not None:
        found["supported_parameters"] = sorted(facts.parameters)
    if facts.deprecated_at is not None:
        found["expiration_date"] = _day(facts.deprecated_at)
    return found
