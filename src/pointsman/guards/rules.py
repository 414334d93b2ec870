"""Rules, made ready: what each looks for, in whose words, and what becomes of a finding."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from pointsman.errors import ConfigError
from pointsman.guard_settings import Action, GuardRuleSettings
from pointsman.guards.credentials import find_secrets
from pointsman.guards.findings import Detect, Finding
from pointsman.guards.injection import find_injections
from pointsman.guards.patterns import find_pattern, find_words
from pointsman.guards.personal import PERSONAL
from pointsman.guards.places import TOOL

LABEL: Final = "REDACTED"  # of what operators' own patterns and words find
_FOREIGN: Final = frozenset(("user", TOOL))  # whose words may hold others' orders


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. ``detect`` is None for rules that look at something else than texts. ``roles``: None is everybody."""

    name: str  # with its guard's: team.mail
    action: Action
    detect: Detect | None = None
    tools: tuple[str, ...] | None = None
    requests: bool = True
    answers: bool = False
    roles: frozenset[str] | None = None
    label: str | None = None
    restore: bool = True

    def found(self, text: str) -> Iterator[Finding]:
        """What it finds in a text, by the name and with the way back that the rule gives it."""
        if self.detect is None:
            return
        for one in self.detect(text):
            label, restore = self.label or one.label, self.restore and one.restore
            yield one if label == one.label and restore == one.restore else one._replace(label=label, restore=restore)

    def allows(self, tool: str) -> bool:
        """Whether a tool of this name may be offered."""
        return self.tools is None or any(fnmatchcase(tool, pattern) for pattern in self.tools)


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
