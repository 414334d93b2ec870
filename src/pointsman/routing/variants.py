"""Variants: what ``:nitro`` and its like behind a model's name ask of routing.

Dynamic ones (nitro, floor, exacto, online) go with every model; static ones (free, extended, thinking) pick some of a
model's endpoints. Source: openrouter.ai/docs, as of 2026-11.
"""

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pointsman.errors import GatewayError, Kind
from pointsman.routing.wants import SortBy

if TYPE_CHECKING:
    from pointsman.routing.plan import Route, Step

VARIANTS: Final = frozenset(("free", "extended", "thinking", "exacto", "nitro", "floor", "online"))
SETTING: Final = "variants"  # where a route keeps them
# How a variant sorts, and the service tier whose endpoints it lets compete.
SORTS: Final[dict[str, SortBy]] = {"nitro": "throughput", "floor": "price", "exacto": "exacto"}
TIERS: Final = {"nitro": "priority", "floor": "flex"}


def split_variants(name: str) -> tuple[str, tuple[str, ...]]:
    """A model's name without the variants behind it, and these in their order. Several may stand one after another."""
    head = name
    found: list[str] = []
    while True:
        rest, colon, last = head.rpartition(":")
        if not colon or not rest or last not in VARIANTS:
            return head, tuple(reversed(found))
        head = rest
        found.append(last)


def with_variants(route: "Route", name: str, variants: tuple[str, ...]) -> "Route":
    """The route of a name with variants. Raises GatewayError: MODEL_NOT_FOUND when none of its endpoints is of that
    kind, INVALID_REQUEST for ``online``, which needs a search engine.
    """
    if "online" in variants and any(not searches(step) for step in route.steps):
        raise GatewayError(
            Kind.INVALID_REQUEST, "':online' needs a web search engine, and none is configured", param="model"
        )
    steps = [step for step in route.steps if all(_has(step, variant, route) for variant in variants)]
    if not steps:
        raise GatewayError(
            Kind.MODEL_NOT_FOUND, f"no endpoint of '{route.name}' is ':{':'.join(variants)}'", param="model"
        )
    strategy = "openrouter" if route.kind == "model" else route.strategy
    settings = route.settings | {SETTING: variants}
    return replace(route, name=name, strategy=strategy, steps=tuple(steps), settings=settings)


def searches(step: "Step") -> bool:
    """Whether an upstream has a web search of its own behind ``:online``."""
    return step.target.connection.vendor == "openrouter"


def _has(step: "Step", variant: str, route: "Route") -> bool:
    facts = step.target.facts
    match variant:
        case "free":
            return facts.price is not None and not (facts.price.prompt or facts.price.completion or facts.price.request)
        case "thinking":
            return facts.parameters is None or not facts.parameters.isdisjoint(("reasoning", "include_reasoning"))
        case "extended":
            windows = [window for other in route.steps if (window := other.target.facts.context_tokens) is not None]
            return facts.context_tokens is None or facts.context_tokens >= max(windows)
    return True


def sort_of(variants: tuple[str, ...]) -> SortBy | None:
    """How the variants of a route sort it: the last one that does."""
    return next((SORTS[variant] for variant in reversed(variants) if variant in SORTS), None)


def tiers_of(variants: tuple[str, ...]) -> frozenset[str]:
    """The service tiers that the variants let in."""
    return frozenset(TIERS[variant] for variant in variants if variant in TIERS)
