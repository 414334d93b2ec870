"""A guard: rules that look at a request, and at its answer."""

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.errors import GuardBlocked
from pointsman.guards.findings import apart
from pointsman.guards.masking import PLACEHOLDER, Mask
from pointsman.guards.places import Change, in_json, in_request, in_response
from pointsman.guards.rules import Rule

SHORTEST: Final = 2  # characters of a text that is looked at


class Report:
    """What rules have found: how often each, never what."""

    __slots__ = ("_actions", "_counts")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._actions: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def note(self, rule: str, action: str, count: int = 1) -> None:
        """A rule has found something, ``count`` times."""
        self._counts[rule] += count
        self._actions[rule] = action

    @property
    def rows(self) -> list[tuple[str, str, int]]:
        """Rule, action and count of each that found something."""
        return [(rule, self._actions[rule], count) for rule, count in sorted(self._counts.items())]

    def refuse(self, what: str) -> None:
        """Raises GuardBlocked when a rule that blocks has found something."""
        blocking = [rule for rule, action, _ in self.rows if action == "block"]
        if blocking:
            raise GuardBlocked(blocking, what)

    def log(self) -> str | None:
        """For the record of a request: JSON rows of rule, action and count."""
        return msgspec.json.encode(self.rows).decode() if self._counts else None


class Spot(NamedTuple):
    """Where a rule would find something in a text, from ``start`` to ``end`` (characters), and what it calls it."""

    rule: str
    action: str
    label: str
    start: int
    end: int


class Trial(NamedTuple):
    """What rules would do with a text: what they would find, and what would be left of it."""

    spots: list[Spot]
    text: str

    @property
    def blocked(self) -> bool:
        """Whether the text would not go on."""
        return any(spot.action == "block" for spot in self.spots)


class Guard:
    """Several rules as one. Immutable."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._requests = tuple(rule for rule in rules if rule.requests and rule.detect is not None)
        self._answers = tuple(rule for rule in rules if rule.answers and rule.detect is not None)
        self._tools = tuple(rule for rule in rules if rule.tools is not None)

    @property
    def sees_answers(self) -> bool:
        """Whether an answer has to be whole before its client gets any of it."""
        return bool(self._answers)

    def examine(self, request: Request, mask: Mask, report: Report) -> Request:
        """The request as the upstream may see it. Raises GuardBlocked."""

        def change_for(role: str) -> Change:
            return _change(self._of_role(role), mask, report)

        if self._requests:
            request = in_request(request, change_for)
        if self._tools:
            request = self._with_tools_left(request, report)
        report.refuse("request")
        return request

    def tried(self, text: str, role: str | None) -> Trial:
        """What the rules would do with a text in a request, by who says it; with None in an answer. Keeps nothing."""
        rules = self._answers if role is None else self._of_role(role)
        found = [(rule, one) for rule in rules for one in apart(rule.found(text))]
        spots = [Spot(rule.name, rule.action, one.label, one.start, one.end) for rule, one in found]
        spots.sort(key=lambda spot: (spot.start, spot.end, spot.rule))
        return Trial(spots, _change(rules, Mask(), Report(), keep=role is not None)(text))

    def _of_role(self, role: str) -> tuple[Rule, ...]:
        return tuple(rule for rule in self._requests if rule.roles is None or role in rule.roles)

    def _with_tools_left(self, request: Request, report: Report) -> Request:
        left = list(request.tools)
        for rule in self._tools:
            refused = [tool for tool in request.tools if not rule.allows(tool.name)]
            if refused:
                report.note(rule.name, rule.action, len(refused))
            if rule.action == "redact":
                left = [tool for tool in left if rule.allows(tool.name)]
        if len(left) != len(request.tools):
            request = copy.copy(request)
            request.tools = left
        return request

    def examine_json(self, value: Any, mask: Mask, report: Report) -> Any:
        """A body that we have no words for. The same object where nothing had to change. Raises GuardBlocked."""
        changed = in_json(value, _change(self._requests, mask, report))
        report.refuse("request")
        return changed

    def examine_answer(self, response: Response, report: Report) -> None:
        """Redact in an answer what has to be, for good. Raises GuardBlocked."""
        found = Report()
        in_response(response, _change(self._answers, Mask(), found, keep=False))
        for rule, action, count in found.rows:
            report.note(rule, action, count)
        found.refuse("answer")


def _change(rules: tuple[Rule, ...], mask: Mask, report: Report, *, keep: bool = True) -> Change:
    """What looks at a text by these rules. ``keep``: what is masked may come back."""

    def change(text: str) -> str:
        if len(text) < SHORTEST:
            return text
        covered = []
        for rule in rules:
            findings = apart(rule.found(text))
            if findings:
                report.note(rule.name, rule.action, len(findings))
                if rule.action == "redact":
                    covered += findings if keep else [one._replace(restore=False) for one in findings]
        return mask.cover(text, apart(covered)) if covered else text

    return change


def placeholders_in(request: Request) -> set[str]:
    """What looks like a placeholder in a request's own words."""
    taken: set[str] = set()

    def look(text: str) -> str:
        if "[" in text:
            taken.update(PLACEHOLDER.findall(text))
        return text

    in_request(request, lambda role: look)
    return taken
