"""What a combo can be told: names, limits and defaults of its configuration, and the cascade that they come down.

The figures are OmniRoute's. What isn't known here passes, since newer clients have more. What is known is obeyed
(docs/combos.md says by what) or refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pointsman.routing.strategies.auto_weights import DEFAULT as WEIGHTS
from pointsman.routing.strategies.auto_weights import MODES, PACKS

Fault = tuple[str, str]  # the field and what is wrong with it
Check = Callable[[str, Any], Iterator[Fault]]
LEGACY: Final = frozenset(("timeoutMs", "healthCheckEnabled", "healthCheckTimeoutMs"))
MAX_SETTINGS: Final = 200
DEFAULTS: Final[dict[str, Any]] = {
    "maxRetries": 1,
    "retryDelayMs": 2000,
    "fallbackDelayMs": 0,
    "concurrencyPerModel": 3,
    "queueTimeoutMs": 30_000,
    "queueDepth": 20,
    "disableSessionStickiness": False,
    "failoverBeforeRetry": True,
    "maxSetRetries": 0,
    "setRetryDelayMs": 2000,
    "handoffThreshold": 0.85,
    "handoffModel": "",
    "handoffProviders": [],
    "maxMessagesForSummary": 30,
    "maxComboDepth": 3,
    "nestedComboMode": "flatten",
    "trackMetrics": True,
    "zeroLatencyOptimizationsEnabled": False,
    "hedging": False,
    "hedgeDelayMs": 500,
    "predictiveTtftMs": 0,
    "resetAwareSessionWeight": 0.35,
    "resetAwareWeeklyWeight": 0.65,
    "resetAwareTieBandPercent": 5,
    "resetAwareExhaustionGuardPercent": 10,
    "resetWindowTieBandMs": 60_000,
}


def number(low: float, high: float | None = None, *, whole: bool = True) -> Check:
    """A number within bounds."""
    kind = "a whole number" if whole else "a number"
    bounds = f"from {low:g}" if high is None else f"from {low:g} to {high:g}"

    def check(field: str, value: Any) -> Iterator[Fault]:
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or (whole and value != int(value)) or value < low or (high is not None and value > high):
            yield field, f"must be {kind} {bounds}"

    return check


def flag(field: str, value: Any) -> Iterator[Fault]:
    """True or false."""
    if not isinstance(value, bool):
        yield field, "must be true or false"


def text(longest: int, *, shortest: int = 0) -> Check:
    """A text."""

    def check(field: str, value: Any) -> Iterator[Fault]:
        if not isinstance(value, str) or not shortest <= len(value) <= longest:
            yield field, f"must be a text of {shortest} to {longest} characters"

    return check


def one_of(*words: str) -> Check:
    """One of some words."""

    def check(field: str, value: Any) -> Iterator[Fault]:
        if value not in words:
            yield field, f"must be one of: {', '.join(words)}"

    return check


def only(allowed: Any, why: str) -> Check:
    """One value, and why there is no other."""

    def check(field: str, value: Any) -> Iterator[Fault]:
        if value != allowed or isinstance(value, bool) != isinstance(allowed, bool):
            yield field, f"can only be {str(allowed).lower()}: {why}"

    return check


def items(most: int, each: Check) -> Check:
    """A list, each of whose items is checked."""

    def check(field: str, value: Any) -> Iterator[Fault]:
        if not isinstance(value, list) or len(value) > most:
            yield field, f"must be a list of at most {most}"
            return
        for index, item in enumerate(value):
            yield from each(f"{field}[{index}]", item)

    return check


def members(**known: Check) -> Check:
    """An object; members that aren't known, and those that are null, pass."""

    def check(field: str, value: Any) -> Iterator[Fault]:
        if not isinstance(value, dict) or len(value) > MAX_SETTINGS:
            yield field, "must be an object"
            return
        for name, item in value.items():
            if item is not None and name in known:
                yield from known[name](f"{field}.{name}", item)

    return check


def pattern(field: str, value: Any) -> Iterator[Fault]:
    """A regular expression."""
    yield from text(1000)(field, value)
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            yield field, f"is no regular expression: {error}"


def _tiers(field: str, value: Any) -> Iterator[Fault]:
    yield from members(defaultTier=text(100), tiers=members())(field, value)
    tiers = value.get("tiers") if isinstance(value, dict) else None
    if not isinstance(tiers, dict):
        return
    if value.get("defaultTier") is not None and value["defaultTier"] not in tiers:
        yield f"{field}.defaultTier", "names no tier"
    for name, tier in tiers.items():
        if not isinstance(tier, dict) or not isinstance(tier.get("stepId"), str):
            yield f"{field}.tiers.{name}", "must be an object with a stepId"
            return
        if tier.get("fallbackTier") is not None and tier["fallbackTier"] not in tiers:
            yield f"{field}.tiers.{name}.fallbackTier", "names no tier"
    for name in tiers:
        seen, at = {name}, tiers[name].get("fallbackTier")
        while at in tiers and at not in seen:
            seen.add(at)
            at = tiers[at].get("fallbackTier")
        if at in seen:
            yield f"{field}.tiers.{name}.fallbackTier", "leads back to the tier itself"
    if tiers and value.get("defaultTier") is None:
        yield f"{field}.defaultTier", "is missing"


_WINDOWS: Final = ("weekly", "session", "monthly")
_PREDICATE: Final = members(path=text(500, shortest=1), condition=one_of("exists", "nonEmpty", "equals", "notEquals"))
_NO_COMPRESSION: Final = "prompts are not compressed"
_AS_TOLD: Final = "quotas come with every answer, none is fetched and kept"
_PERCENT: Final = number(0, 100, whole=False)
check_settings: Final = members(
    maxRetries=number(0, 10),
    retryDelayMs=number(0, 60_000),
    fallbackDelayMs=number(0, 60_000),
    targetTimeoutMs=number(0),
    concurrencyPerModel=number(1, 20),
    queueTimeoutMs=number(1000, 120_000),
    queueDepth=number(0, 100),
    stickyRoundRobinLimit=number(0, 1000),
    stickyWeightedLimit=number(0, 1000),
    disableSessionStickiness=flag,
    failoverBeforeRetry=flag,
    maxSetRetries=number(0, 10),
    setRetryDelayMs=number(0, 60_000),
    handoffThreshold=number(0.5, 0.94, whole=False),
    handoffModel=text(300),
    handoffProviders=items(10, text(100)),
    maxMessagesForSummary=number(5, 100),
    maxComboDepth=number(1, 10),
    nestedComboMode=only("flatten", "the entries of a combo within another stand in its place"),
    trackMetrics=flag,
    compressionMode=only("off", _NO_COMPRESSION),
    zeroLatencyOptimizationsEnabled=flag,
    hedging=flag,
    continuation=flag,
    hedgeDelayMs=number(0, 600_000),
    predictiveTtftMs=number(0, 600_000),
    fallbackCompressionMode=only("off", _NO_COMPRESSION),
    fallbackCompressionThreshold=only(0, _NO_COMPRESSION),
    candidatePool=items(200, text(300)),
    weights=members(**dict.fromkeys(WEIGHTS, number(0, 1000, whole=False))),
    modePack=one_of(*PACKS, *MODES, "balanced"),
    budgetCap=number(0, whole=False),
    budgetFallback=one_of("cheapest", "strict"),
    explorationRate=number(0, 1, whole=False),
    routerStrategy=one_of("rules", "score", "cost", "eco", "latency", "fast", "sla-aware", "sla", "lkgp"),
    sla=members(maxP95Ms=number(0, 600_000, whole=False), maxErrorRate=number(0, 1, whole=False), hardConstraints=flag),
    resetAwareSessionWeight=_PERCENT,
    resetAwareWeeklyWeight=_PERCENT,
    resetAwareTieBandPercent=_PERCENT,
    resetAwareExhaustionGuardPercent=_PERCENT,
    resetAwareQuotaCacheTtlMs=only(0, _AS_TOLD),
    resetAwareQuotaCacheMaxStaleMs=only(0, _AS_TOLD),
    resetWindowWindows=items(3, one_of(*_WINDOWS)),
    resetWindowIncludeSession=flag,
    resetWindowTieBandMs=number(0, 86_400_000),
    shadowRouting=members(
        enabled=flag,
        targets=items(20, text(300, shortest=1)),
        sampleRate=number(0, 1, whole=False),
        maxTargets=number(1, 10),
        timeoutMs=number(1000, 120_000),
    ),
    evalRouting=members(
        enabled=only(False, "there are no evaluations to go by"),
        suiteIds=items(50, text(200)),
        maxAgeHours=number(0, whole=False),
        minCases=number(1),
        qualityWeight=number(0, 1, whole=False),
        latencyWeight=number(0, 1, whole=False),
        cacheTtlMs=number(0),
    ),
    responseValidation=members(
        forbiddenSubstrings=items(50, text(1000, shortest=1)),
        requiredSubstrings=items(50, text(1000, shortest=1)),
        minContentLength=number(0, 1_000_000),
        jsonPathPredicates=items(20, _PREDICATE),
        streams=flag,
    ),
    judgeModel=text(300),
    fusionTuning=members(
        minPanel=number(1, 20),
        stragglerGraceMs=number(0, 120_000),
        panelHardTimeoutMs=number(1000, 600_000),
        maxPanel=number(1, 20),
    ),
    compositeTiers=_tiers,
)


def cascaded(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The built-in defaults with each layer over the one before. Null says nothing, and names of old are left out."""
    merged = dict(DEFAULTS)
    for layer in layers:
        for name, value in (layer or {}).items():
            if value is not None and name not in LEGACY:
                merged[name] = value
    return merged
