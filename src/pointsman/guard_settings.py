"""The settings of guards on content: ``[[guards]]``, each with its ``[[guards.rules]]`` (docs/guardrails.md)."""

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError
from pointsman.keyring import Secret

Action = Literal["flag", "redact", "block"]
PERSONAL: Final = ("email", "phone", "iban", "credit_card", "ssn", "ip_address")
MAX_PATTERN: Final = 100_000  # characters
MAX_RULES: Final = 100  # of a guard
MAX_WORDS: Final = 10_000  # of a rule: words, patterns, names of tools
MAX_BOUND: Final = 10_000  # workspaces, keys or members of a guard
MAX_ID: Final = 200  # characters
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
# What a rule of each kind must have, and no other may.
_OWN: Final = {
    "regex": "patterns", "keywords": "words", "personal": "find", "tools": "tools", "webhook": "url",
}  # fmt: skip


class GuardRuleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[guards.rules]]``: what is looked for, where, and what becomes of it."""

    name: str
    kind: Literal["regex", "keywords", "personal", "secrets", "injection", "tools", "webhook"]
    action: Action = "block"
    where: Literal["request", "answer", "both"] = "request"
    patterns: list[str] = []
    any_case: bool = False
    words: list[str] = []
    find: list[str] = []
    tools: list[str] = []
    label: str | None = None
    restore: bool = True
    url: str | None = None
    secret: Secret | None = None  # env:NAME, file:PATH or the secret itself
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    on_failure: Literal["open", "closed"] = "closed"
    allow_private: bool = True  # the operator wrote the file: trusted


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[guards]]``: rules that belong together, and whose requests they guard."""

    name: str
    everybody: bool = False
    workspaces: list[str] = []
    keys: list[str] = []
    members: list[str] = []  # users, by id: calls with any of their keys
    rules: list[GuardRuleSettings] = []


def check_guards(guards: list[GuardSettings], source: str) -> None:
    """Raises ConfigError for what can't be meant; patterns are compiled at the start of a server."""
    seen: set[str] = set()
    for index, guard in enumerate(guards):
        place = f"{source}: guards[{index}]"
        check_members(guard, place)
        _check_new(guard.name, seen, f"{place}.name")


def check_members(guard: GuardSettings, place: str) -> None:
    """Raises ConfigError that names the member of ``guard``, behind ``place``, that can't be meant."""
    _check_name(guard.name, f"{place}.name")
    if not 0 < len(guard.rules) <= MAX_RULES:
        raise ConfigError(f"{place}.rules: there must be 1 to {MAX_RULES}")
    for member in ("workspaces", "keys", "members"):
        ids = getattr(guard, member)
        if len(ids) > MAX_BOUND or not all(0 < len(one) <= MAX_ID for one in ids):
            raise ConfigError(f"{place}.{member}: must be at most {MAX_BOUND} ids of 1 to {MAX_ID} characters")
    names: set[str] = set()
    for number, rule in enumerate(guard.rules):
        _check_name(rule.name, f"{place}.rules[{number}].name")
        _check_new(rule.name, names, f"{place}.rules[{number}].name")
        _check_rule(rule, f"{place}.rules[{number}]")


def _check_name(name: str, place: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"{place}: must be small letters, digits, '-' and '_', at most 64")


def _check_new(name: str, seen: set[str], place: str) -> None:
    if name in seen:
        raise ConfigError(f"{place}: '{name}' is declared twice")
    seen.add(name)


def _check_rule(rule: GuardRuleSettings, place: str) -> None:
    for kind, member in _OWN.items():
        given = bool(getattr(rule, member))
        if given and kind != rule.kind:
            raise ConfigError(f"{place}.{member}: is for rules of the kind '{kind}'")
        if not given and kind == rule.kind and kind != "personal":
            raise ConfigError(f"{place}.{member}: a rule of the kind '{kind}' needs it")
    unknown = [one for one in rule.find if one not in PERSONAL]
    if unknown:
        raise ConfigError(f"{place}.find: '{unknown[0]}' is none of {', '.join(PERSONAL)}")
    if rule.label is not None and _LABEL.fullmatch(rule.label) is None:
        raise ConfigError(f"{place}.label: must be capitals, digits and '_', at most 40, such as PROJECT_NAME")
    for member in ("patterns", "words", "tools", "find"):
        if len(getattr(rule, member)) > MAX_WORDS:
            raise ConfigError(f"{place}.{member}: must be at most {MAX_WORDS}")
    if any(not 0 < len(pattern) <= MAX_PATTERN for pattern in (*rule.patterns, *rule.words)):
        raise ConfigError(f"{place}: a pattern or word must have from 1 to {MAX_PATTERN} characters")
    if rule.where != "request" and rule.kind in ("tools", "injection"):
        raise ConfigError(f"{place}.where: rules of the kind '{rule.kind}' look at requests only")
    if rule.url is not None:
        _check_url(rule.url, f"{place}.url")


def _check_url(url: str, place: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{place}: is no URL") from None
    sound = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and port != 0
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{place}: must be like https://example.org/path, without a password")
