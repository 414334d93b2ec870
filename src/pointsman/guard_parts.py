"""The parts of a server that have to do with guards on content."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pointsman.clock import Clock
from pointsman.settings import Environment, Settings
from pointsman.upstream.client import UpstreamClient

if TYPE_CHECKING:
    from pointsman.hub.guarding import Guarding

Counters = dict[str, tuple[str, str, Callable[[], dict[str, int]]]]


def open_guards(
    settings: Settings, environment: Environment, client: UpstreamClient, clock: Clock
) -> "Guarding | None":
    """What looks at contents; None without a guard. Raises ConfigError for a pattern or a secret that is none."""
    if not settings.guards:
        return None
    from pointsman.hub.guarding import Guarding  # half a megabyte of patterns, and most gateways never need them
    from pointsman.upstream.guard_hook import GuardHook

    hooks = {}
    for guard in settings.guards:
        for rule in guard.rules:
            if rule.kind == "webhook":
                name = f"{guard.name}.{rule.name}"
                secret = (
                    environment.resolve(rule.secret, f"guards: {name}: secret") if rule.secret is not None else None
                )
                hooks[name] = GuardHook(name, rule, secret, client, clock)
    return Guarding(settings.guards, hooks)


def guard_counters(guards: "Guarding | None") -> Counters:
    """What the metrics tell of guards, as `Meter.counter` takes it."""
    if guards is None:
        return {}
    return {
        "pointsman_guard_findings": ("What rules on content have found.", "rule", lambda: guards.counts),
        "pointsman_guard_failures": ("Guards' webhooks that gave no judgement.", "rule", lambda: guards.failures),
    }
