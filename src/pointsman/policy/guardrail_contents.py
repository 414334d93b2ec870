"""The content filters of guardrails, as guards (hub/guarding.py): one guard for each guardrail that has any."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from pointsman.guard_settings import GuardRuleSettings, GuardSettings
from pointsman.identity.keys import member_of
from pointsman.storage.guardrails import BuiltinFilter, ContentFilter, GuardrailRow

PREFIX: Final = "guardrail-"  # before a guardrail's id: the name of its guard
INJECTION: Final = "regex-prompt-injection"
SECRETS: Final = "secrets"
# What OpenRouter calls kinds of personal data, and their names here.
PERSONAL: Final = {
    "email": "email", "phone": "phone", "ssn": "ssn", "credit-card": "credit_card", "ip-address": "ip_address",
}  # fmt: skip
# Names of people and of streets can't be told from other words without a model.
UNKNOWN: Final = frozenset(("person-name", "address"))
MAX_LABEL: Final = 40
_ODD: Final = re.compile(r"[^A-Z0-9]+")


def guards_of(rows: Iterable[GuardrailRow], bound: Mapping[str, Iterable[tuple[str, str]]]) -> list[GuardSettings]:
    """A guard for each of these guardrails that has content filters. ``bound`` says by a guardrail's id whose calls it
    looks at: ``("key", id)``, ``("member", id)`` or ``("workspace", id)``.
    """
    found = []
    for row in rows:
        subjects, rules = tuple(bound.get(row.id, ())), _rules(row)
        if rules and subjects:
            found.append(
                GuardSettings(
                    name=PREFIX + row.id,
                    workspaces=sorted({subject for scope, subject in subjects if scope == "workspace"}),
                    keys=sorted({subject for scope, subject in subjects if scope == "key"}),
                    members=sorted({member_of(row.account_id, one) for scope, one in subjects if scope == "member"}),
                    rules=rules,
                )
            )
    return found


def label_of(one: BuiltinFilter) -> str:
    """What stands in brackets in the place of what a filter by name has found."""
    return "PROMPT_INJECTION" if one.slug == INJECTION else one.slug.upper().replace("-", "_")


def _rules(row: GuardrailRow) -> list[GuardRuleSettings]:
    own = [_pattern(number, one) for number, one in enumerate(row.rules.content_filters or (), 1)]
    return own + [_builtin(one) for one in row.rules.content_filter_builtins or () if one.slug not in UNKNOWN]


def _pattern(number: int, one: ContentFilter) -> GuardRuleSettings:
    label = _ODD.sub("_", (one.label or "").upper()).strip("_0123456789")[:MAX_LABEL] or None
    return GuardRuleSettings(
        name=f"filter-{number}", kind="regex", action=one.action, patterns=[one.pattern], label=label, restore=False
    )


def _builtin(one: BuiltinFilter) -> GuardRuleSettings:
    """What is masked stays masked: OpenRouter gives nothing back in answers."""
    if one.slug in PERSONAL:
        return GuardRuleSettings(
            name=one.slug,
            kind="personal",
            find=[PERSONAL[one.slug]],
            action=one.action,
            label=label_of(one),
            restore=False,
        )
    if one.slug == SECRETS:
        return GuardRuleSettings(name=SECRETS, kind="secrets", action=one.action, restore=False)
    return GuardRuleSettings(name="injection", kind="injection", action=one.action, label=label_of(one), restore=False)
