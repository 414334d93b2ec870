"""How long failing upstreams are left alone: the settings, with OmniRoute's names, defaults and limits.

Times whose names end in ``_ms`` are milliseconds. Pure data: `settings` reads it from the file, `routing.health` obeys.
"""

from typing import Annotated, Final

import msgspec

DAY_MS: Final = 86_400_000
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
CooldownMs = Annotated[int, msgspec.Meta(ge=0, le=DAY_MS)]
Threshold = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; unknown keys are refused."""


class RequestQueue(_Section, frozen=True, kw_only=True):
    """``[resilience.request_queue]``: learned limits of accounts (docs/decisions/0014-health.md)."""

    auto_enable_api_key_providers: bool = True
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    min_time_between_requests_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 200
    concurrent_requests: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    max_wait_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] = 120_000


class CooldownProfile(_Section, frozen=True, kw_only=True):
    """How an account cools down after a failure: twice as long each further time, ``max_backoff_steps`` times."""

    base_cooldown_ms: CooldownMs = 3000
    use_upstream_retry_hints: bool = True
    max_backoff_steps: Annotated[int, msgspec.Meta(ge=0, le=32)] = 5


class OAuthCooldown(CooldownProfile, frozen=True, kw_only=True):
    """The same for accounts that were signed in: what their providers say of waiting is seldom true."""

    base_cooldown_ms: CooldownMs = 5000
    use_upstream_retry_hints: bool = False
    max_backoff_steps: Annotated[int, msgspec.Meta(ge=0, le=32)] = 8


class ConnectionCooldown(_Section, frozen=True, kw_only=True):
    """By how the account is known to its provider."""

    oauth: OAuthCooldown = OAuthCooldown()
    apikey: CooldownProfile = CooldownProfile()


class BreakerProfile(_Section, frozen=True, kw_only=True):
    """When a provider is no longer asked, and for how long."""

    failure_threshold: Threshold = 12
    degradation_threshold: Threshold = 7
    reset_timeout_ms: Annotated[int, msgspec.Meta(ge=1000, le=DAY_MS)] = 30_000

    def __post_init__(self) -> None:
        """Raises ValueError: a provider must be degraded before its breaker opens."""
        if self.degradation_threshold >= self.failure_threshold > 1:
            raise ValueError("degradation_threshold must be smaller than failure_threshold")


class OAuthBreaker(BreakerProfile, frozen=True, kw_only=True):
    """The same for accounts that were signed in."""

    failure_threshold: Threshold = 8
    degradation_threshold: Threshold = 5
    reset_timeout_ms: Annotated[int, msgspec.Meta(ge=1000, le=DAY_MS)] = 60_000


class ProviderBreaker(_Section, frozen=True, kw_only=True):
    """By how accounts are known to the provider."""

    oauth: OAuthBreaker = OAuthBreaker()
    apikey: BreakerProfile = BreakerProfile()


class WaitForCooldown(_Section, frozen=True, kw_only=True):
    """``[resilience.wait_for_cooldown]``: a request of no combo waits when every target is limited for a while.

    OmniRoute's figures, but off: clients wait by themselves as ``Retry-After`` says, and see why.
    """

    enabled: bool = False
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3
    max_retry_wait_sec: Annotated[int, msgspec.Meta(ge=0, le=300)] = 30


class ProviderCooldown(_Section, frozen=True, kw_only=True):
    """``[resilience.provider_cooldown]``: a breaker that opens again and again stays open longer each time."""

    enabled: bool = True
    min_ms: CooldownMs = 5000
    max_ms: CooldownMs = 300_000


class ComboCooldownWait(_Section, frozen=True, kw_only=True):
    """``[resilience.combo_cooldown_wait]``: the same for a combo whose targets all cool down."""

    enabled: bool = True
    max_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=30_000)] = 5000
    max_attempts: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    budget_ms: Annotated[int, msgspec.Meta(ge=0, le=300_000)] = 15_000


class QuotaPreflight(_Section, frozen=True, kw_only=True):
    """``[resilience.quota_preflight]``: an account whose upstream says that little is left is spared."""

    default_threshold_percent: Percent = 2.0
    warn_threshold_percent: Percent = 20.0


class ModelLockout(_Section, frozen=True, kw_only=True):
    """``[resilience.model_lockout]``: whether these statuses lock the model alone instead of its account."""

    enabled: bool = False
    error_codes: tuple[int, ...] = (403, 404, 429, 502, 503, 504)
    base_ms: Annotated[int, msgspec.Meta(ge=100, le=600_000)] = 120_000
    max_ms: Annotated[int, msgspec.Meta(ge=5000, le=3_600_000)] = 1_800_000
    max_backoff_steps: Annotated[int, msgspec.Meta(ge=0, le=32)] = 10
    exponential: bool = True


class Probes(_Section, frozen=True, kw_only=True):
    """``[resilience.probes]``: the model list of a failing account is asked in the background."""

    enabled: bool = True
    interval_ms: Annotated[int, msgspec.Meta(ge=500, le=3_600_000)] = 15_000
    timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=120_000)] = 10_000


class ResilienceSettings(_Section, frozen=True, kw_only=True):
    """``[resilience]``: what is left alone after failures, and for how long (docs/routing.md)."""

    request_queue: RequestQueue = RequestQueue()
    connection_cooldown: ConnectionCooldown = ConnectionCooldown()
    provider_breaker: ProviderBreaker = ProviderBreaker()
    wait_for_cooldown: WaitForCooldown = WaitForCooldown()
    provider_cooldown: ProviderCooldown = ProviderCooldown()
    combo_cooldown_wait: ComboCooldownWait = ComboCooldownWait()
    quota_preflight: QuotaPreflight = QuotaPreflight()
    model_lockout: ModelLockout = ModelLockout()
    probes: Probes = Probes()
    longest_hint_ms: CooldownMs = DAY_MS


# For what runs on this machine or next to it: not editable.
LOCAL_COOLDOWN: Final = CooldownProfile(base_cooldown_ms=2000)
LOCAL_BREAKER: Final = BreakerProfile(failure_threshold=2, degradation_threshold=1, reset_timeout_ms=15_000)
