"""What a request asks of routing, in any client's words."""

from typing import Literal

import msgspec

SortBy = Literal["price", "throughput", "latency", "exacto"]


class Percentiles(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds for percentiles: tokens a second, or seconds to the first token."""

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None


class Preferences(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenRouter's ``provider`` object, checked. Providers are named by slug (``openai``, ``google-vertex/us-east5``),
    prices are pico-USD per token, request or picture.
    """

    order: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    deny_data_collection: bool = False
    zdr: bool = False
    distillable: bool = False
    quantizations: tuple[str, ...] = ()
    sort: SortBy | None = None
    across_models: bool = False  # sort over all models of the request, not model by model
    max_price: dict[str, int] = {}
    min_throughput: Percentiles | None = None
    max_latency: Percentiles | None = None


NO_PREFERENCES = Preferences()


class Bounds(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What guardrails leave of all targets. Each of several allow lists has to have a target; models are named by slug
    or full name, providers as in `Preferences`. ``zdr`` are groups of models (routing/bounds.py) that must be at
    endpoints that keep nothing; ``untrained`` says of which endpoints, ``free`` and ``paid`` ones, it must be known
    that nothing is learned there from what they are sent.
    """

    allowed_models: tuple[tuple[str, ...], ...] = ()
    ignored_models: tuple[str, ...] = ()
    allowed_providers: tuple[tuple[str, ...], ...] = ()
    ignored_providers: tuple[str, ...] = ()
    zdr: frozenset[str] = frozenset()
    untrained: frozenset[str] = frozenset()


class Judged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a request that names a profile was judged, and what that asks for; no word of its content.

    ``budget`` is what the profile means for it, ``tier`` and ``score`` how demanding it is (complexity/), ``signals``
    what each of its features adds to the score, ``rules`` what raised it beyond. ``holds`` is the budget that the
    conversation still has from earlier turns: a model of it may stay. ``tool_loop``: tools are at work. ``engine`` is
    who chose among the targets; ``picks`` are the ids of those that it chose, ``session`` and ``request_id`` its names.
    """

    profile: str
    budget: str
    tier: str
    score: float
    confidence: float
    signals: dict[str, float] = {}
    rules: tuple[str, ...] = ()
    holds: str = ""
    tool_loop: bool = False
    engine: str = "local"
    picks: tuple[str, ...] = ()
    session: str | None = None
    request_id: str | None = None


class Wants(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request, as far as routing is concerned: no word of its content.

    ``input_tokens`` is an estimate. ``inputs`` are the modalities in it beside text, ``parameters`` the members it has,
    by OpenRouter's names. ``session`` is the client's own name for a conversation, ``conversation`` a digest that stays
    the same over its turns. ``models`` are fallbacks in the client's own order. ``allowed_models`` (patterns with
    ``*``) and ``allowed_providers`` are what the caller's key may use, ``bounds`` what its guardrails leave;
    ``preferred`` connections come before others. ``task`` is code, reasoning, simple or medium; ``difficulty`` the tier
    of models that fits (free, cheap, premium). ``budget`` is what the request may cost (pico-USD); ``budget_strict``:
    rather none than one that costs more. ``connection`` is the only one that it may go to, ``mode`` a set of weights
    for `auto` by name.
    """

    model: str
    operation: str = "chat"
    input_tokens: int = 0
    max_output_tokens: int = 0
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    tools: bool = False
    preferences: Preferences = NO_PREFERENCES
    models: tuple[str, ...] = ()
    service_tier: str | None = None
    tiers: frozenset[str] = frozenset()  # the tiers whose endpoints may compete, beside the default one
    allowed_models: tuple[str, ...] | None = None
    allowed_providers: tuple[str, ...] | None = None
    bounds: Bounds | None = None
    preferred: tuple[str, ...] = ()
    task: str | None = None
    difficulty: str | None = None
    budget: int | None = None
    budget_strict: bool = False
    connection: str | None = None
    mode: str | None = None
    session: str | None = None
    conversation: str | None = None
    judged: Judged | None = None  # of a request that names a profile
    cache_marks: bool = False  # the prompt is marked for an upstream's cache: staying where it lies is worth something
