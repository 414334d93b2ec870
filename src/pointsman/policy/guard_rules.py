"""Rules on content, made from their settings."""

from typing import Final

from pointsman.errors import ConfigError
from pointsman.guard_settings import GuardRuleSettings
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
