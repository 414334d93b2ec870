"""Guards on the way of a request: whose they are, and what becomes of the call that they look at."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.errors import ConfigError
from pointsman.guard_settings import GuardRuleSettings, GuardSettings
from pointsman.guards.guard import Guard, Report, placeholders_in
from pointsman.guards.masking import Mask
from pointsman.guards.rules import Rule
from pointsman.hub.guarded_calls import GuardedDialect, Watch
from pointsman.hub.judging import Judges
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import OwnCall
from pointsman.identity.keys import GUARDS, Key, member_of
from pointsman.policy.guard_rules import identity_of, make_rules
from pointsman.policy.key_habits import missing_guard
from pointsman.upstream.guard_hook import GuardHook

MakeHook = Callable[[str, GuardRuleSettings], GuardHook]  # by the rule's whole name


class Entry(Protocol):
    """A request's record while it runs (entry.py)."""

    record: RequestRecord
    exchange: Any


class Tally:
    """What guards have done in this process. ``found`` by rule and action; ``failed`` are webhooks without a word."""

    def __init__(self) -> None:
        self.found: Final[Counter[str]] = Counter()
        self.failed: Final[Counter[str]] = Counter()


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """A guard, ready to look. ``identity`` tells its rules from any others."""

    settings: GuardSettings
    rules: tuple[Rule, ...]
    hooks: tuple[GuardHook, ...]
    identity: bytes


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The guards of a key, as one. ``identity``: who is under another one gets nothing that was made under this."""

    guard: Guard
    hooks: tuple[GuardHook, ...]
    identity: bytes


class Guarding:
    """All guards of a snapshot, whoever keeps them. Immutable but for what it remembers."""

    def __init__(self, guards: Sequence[GuardSettings], make_hook: MakeHook, tally: Tally) -> None:
        """Raises ConfigError for a name that is there twice, and for a pattern that is none."""
        self._make_hook = make_hook
        self.tally = tally
        self._known: dict[str, Compiled] = {}
        self._set(guards, {})

    def swapped(self, guards: Sequence[GuardSettings]) -> "Guarding":
        """The same with these guards instead; what is as it was is not made anew. Raises ConfigError as the first."""
        other = Guarding((), self._make_hook, self.tally)
        other._set(guards, self._known)
        return other

    def _set(self, guards: Sequence[GuardSettings], before: Mapping[str, Compiled]) -> None:
        self._everybody: set[str] = set()
        self._of: dict[tuple[str, str], set[str]] = {}  # names of guards, by what they are bound to
        self._bound: dict[frozenset[str], Bound] = {}
        for one in guards:
            if one.name in self._known:
                raise ConfigError(f"guards: there are two of the name '{one.name}'")
            known = before.get(one.name)
            self._known[one.name] = known if known is not None and known.settings == one else self._compiled(one)
            if one.everybody:
                self._everybody.add(one.name)
            for kind, names in (("workspace", one.workspaces), ("key", one.keys), ("member", one.members)):
                for name in names:
                    self._of.setdefault((kind, name), set()).add(one.name)

    def _compiled(self, one: GuardSettings) -> Compiled:
        hooks = tuple(self._make_hook(f"{one.name}.{rule.name}", rule) for rule in one.rules if rule.kind == "webhook")
        return Compiled(settings=one, rules=make_rules(one), hooks=hooks, identity=identity_of(one))

    def of(self, key: Key) -> Bound | None:
        """The guards of a key: everybody's, its workspace's, its person's and its own. None: it has none.

        Raises GatewayError(PERMISSION_DENIED) when the key names one that there isn't: it must not go unguarded.
        """
        own = key.settings.get(GUARDS) or ()
        for name in own:
            if name not in self._known:
                raise missing_guard(name)
        bindings = [("workspace", key.workspace_id), ("key", key.id)]
        if (owner := key.owner) is not None:
            bindings += (("member", owner), ("member", member_of(key.account_id, owner)))
        names = self._everybody.union(own, *(self._of.get(binding, ()) for binding in bindings))
        return self._together(frozenset(names)) if names else None

    def _together(self, names: frozenset[str]) -> Bound:
        bound = self._bound.get(names)
        if bound is None:  # few: a set of names for each way in which guards come together
            found = [one for name, one in self._known.items() if name in names]
            bound = self._bound[names] = Bound(
                guard=Guard([rule for one in found for rule in one.rules]),
                hooks=tuple(hook for one in found for hook in one.hooks),
                identity=hashlib.sha256(b"".join(one.identity for one in found)).digest(),
            )
        return bound

    async def guarded(self, entry: Entry, dialect: Any, call: Any, key: Key) -> tuple[Any, Any]:
        """The dialect and the call as they may go on. Raises GatewayError: GuardBlocked, or Unjudged."""
        bound, exchange = self.of(key), entry.exchange
        if bound is None:
            return dialect, call
        if dialect.OPERATION in OPERATIONS:
            return dialect, await self._operation(bound, entry, dialect, call)
        asked = dialect.as_request(call, exchange.body)
        judges = Judges(bound.hooks, self.tally.failed, exchange.request_id)
        watch = Watch(bound.guard, Mask(placeholders_in(asked)), self._noting(entry), judges)
        own = OwnCall.like(call, await watch.judge_request(watch.examine(asked)))
        return GuardedDialect(dialect, own, watch, asked), own

    async def counted(self, request_id: str, key: Key, request: Any) -> Any:
        """The request as its upstream may see it, for a count of its tokens. Raises GuardBlocked, Unjudged."""
        bound, report = self.of(key), Report()
        if bound is None:
            return request
        request = bound.guard.examine(request, Mask(placeholders_in(request)), report)
        return await Judges(bound.hooks, self.tally.failed, request_id).of_request(request, report)

    def _noting(self, entry: Entry) -> Any:
        told: Counter[str] = Counter()

        def note(report: Report) -> None:
            for rule, action, count in report.rows:
                self.tally.found[f"{rule}:{action}"] += count - told[rule]
                told[rule] = count
            entry.record.guards = report.log()

        return note

    async def _operation(self, bound: Bound, entry: Entry, dialect: Any, call: Any) -> Any:
        """A call that is no chat: its body's texts are looked at, and masked for good."""
        exchange, report = entry.exchange, Report()
        try:
            value = msgspec.json.decode(exchange.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return call  # a form: files and few words beside them
        model = value.pop("model", None) if isinstance(value, dict) else None
        try:
            changed = bound.guard.examine_json(value, Mask(), report)
            judges = Judges(bound.hooks, self.tally.failed, exchange.request_id)
            changed = await judges.of_json(changed, call.model, report)
        finally:
            self._noting(entry)(report)
        if changed is value:
            return call
        exchange.body = msgspec.json.encode({"model": model, **changed} if model is not None else changed)
        return dialect.parse_request(exchange.body)
