"""Rules on content, made from their settings."""

import hashlib
from typing import Final

import msgspec

from pointsman.errors import ConfigError
from pointsman.guard_settings import GuardRuleSettings, GuardSettings, check_members
from pointsman.guards.credentials import find_secrets
from pointsman.guards.findings import Detect
from pointsman.guards.injection import find_injections
from pointsman.guards.patterns import find_pattern, find_words
from pointsman.guards.personal import PERSONAL
from pointsman.guards.places import TOOL
from pointsman.guards.rules import Rule

LABEL: Final = "REDACTED"  # of what operators' own patterns and words find
_FOREIGN: Final = frozenset(("user", TOOL))  # whose words may hold others' orders


def make_rule(guard: str, settings: GuardRuleSettings) -> Rule:
    """A rule from its settings; a webhook's is made elsewhere. Raises ConfigError for a pattern that is none."""
    return Rule(
        name=f"{guard}.{settings.name}",
        action=settings.action,
        detect=_detect(guard, settings),
        tools=tuple(settings.tools) if settings.kind == "tools" else None,
        requests=settings.where != "answer",
        answers=settings.where != "request",
        roles=_FOREIGN if settings.kind == "injection" else None,
        label=settings.label,
        restore=settings.restore,
    )


def make_rules(guard: GuardSettings) -> tuple[Rule, ...]:
    """A guard's rules, without its webhooks. Raises ConfigError for a pattern that is none."""
    return tuple(make_rule(guard.name, rule) for rule in guard.rules if rule.kind != "webhook")


def check_guard(guard: GuardSettings, place: str) -> None:
    """Raises ConfigError, which names the member behind ``place``, for what can't be meant, or a pattern that is none.

    For guards that come from somewhere else than the configuration file.
    """
    check_members(guard, place)
    for number, rule in enumerate(guard.rules):
        try:
            make_rule(guard.name, rule)
        except ConfigError as error:
            raise ConfigError(f"{place}.rules[{number}].patterns: {error}") from None


def identity_of(guard: GuardSettings) -> bytes:
    """What tells a guard from any that would look otherwise: its name and its rules, whoever is bound to it."""
    rules = [msgspec.structs.replace(rule, secret=None) for rule in guard.rules]
    return hashlib.sha256(msgspec.json.encode([guard.name, rules], order="deterministic")).digest()


def _detect(guard: str, settings: GuardRuleSettings) -> Detect | None:
    if settings.kind == "secrets":
        return find_secrets
    if settings.kind == "injection":
        return find_injections
    if settings.kind == "personal":
        kinds = settings.find or list(PERSONAL)
        return lambda text: (found for kind in kinds for found in PERSONAL[kind](text))
    try:
        if settings.kind == "regex":
            return find_pattern(settings.patterns, LABEL, any_case=settings.any_case)
        if settings.kind == "keywords":
            return find_words(settings.words, LABEL)
    except ConfigError as error:
        raise ConfigError(f"guards: the rule '{guard}.{settings.name}': {error}") from None
    return None
