"""Rules: what each looks for, in whose words, and what becomes of a finding."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from pointsman.guards.findings import Detect, Finding

Action = Literal["flag", "redact", "block"]


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
