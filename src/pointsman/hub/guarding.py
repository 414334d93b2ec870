"""Guards on the way of a request: whose they are, what they have found, and the webhooks that are asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.errors import GatewayError, Kind
from pointsman.guard_settings import GuardSettings
from pointsman.guards.guard import Guard, GuardBlocked, Report, placeholders_in
from pointsman.guards.masking import Mask
from pointsman.guards.places import Change, in_request
from pointsman.guards.rules import Rule
from pointsman.hub.guarded_calls import GuardedDialect, Watch
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import OwnCall
from pointsman.identity.keys import Key
from pointsman.policy.guard_rules import make_rule
from pointsman.runner import in_task
from pointsman.upstream.guard_hook import GuardHook, HookFailed

SETTING = "guards"  # of a key: the names of guards that look at its calls, beside those of everybody


class Entry(Protocol):
    """A request's record while it runs (entry.py)."""

    record: RequestRecord
    exchange: Any


class Bound(msgspec.Struct, frozen=True):
    """The guards of a key, as one."""

    guard: Guard
    hooks: tuple[GuardHook, ...]


class Guarding:
    """All guards. ``counts`` are findings by rule, ``failures`` webhooks that gave no judgement."""

    def __init__(self, settings: Sequence[GuardSettings], hooks: Mapping[str, GuardHook]) -> None:
        """``hooks`` by the name of their rule. Raises ConfigError for a pattern that is none."""
        self._settings = settings
        self._rules: dict[str, list[Rule]] = {
            one.name: [make_rule(one.name, rule) for rule in one.rules if rule.kind != "webhook"] for one in settings
        }
        self._hooks = {
            one.name: [hooks[f"{one.name}.{rule.name}"] for rule in one.rules if rule.kind == "webhook"]
            for one in settings
        }
        self._bound: dict[tuple[str, ...], Bound] = {}
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def of(self, key: Key) -> Bound | None:
        """The guards of a key: everybody's, its workspace's and its own. None: it has none.

        Raises GatewayError(PERMISSION_DENIED) when the key names one that there isn't: it must not go unguarded.
        """
        own = key.settings.get(SETTING) or ()
        for name in own:
            if name not in self._rules:
                raise GatewayError(Kind.PERMISSION_DENIED, f"this key is bound to a guard that there isn't: '{name}'")
        names = tuple(
            one.name
            for one in self._settings
            if one.everybody or key.workspace_id in one.workspaces or key.id in one.keys or one.name in own
        )
        if not names:
            return None
        bound = self._bound.get(names)
        if bound is None:  # few: a set of names for each way in which guards come together
            rules = [rule for name in names for rule in self._rules[name]]
            hooks = tuple(hook for name in names for hook in self._hooks[name])
            bound = self._bound[names] = Bound(Guard(rules), hooks)
        return bound

    async def guarded(self, entry: Entry, dialect: Any, call: Any, key: Key) -> tuple[Any, Any]:
        """The dialect and the call as they may go on. Raises GatewayError: GuardBlocked, or NOT_READY for a webhook
        that gave no judgement and has to.
        """
        bound, exchange = self.of(key), entry.exchange
        if bound is None:
            return dialect, call
        if dialect.OPERATION in OPERATIONS:
            return dialect, self._operation(bound, entry, dialect, call)
        request = dialect.as_request(call, exchange.body)
        watch = Watch(bound.guard, Mask(placeholders_in(request)), self._noting(entry))
        request = watch.examine(request)
        for hook in bound.hooks:
            request = await self._ask(hook, request, watch, exchange.request_id)
        own = OwnCall.like(call, request)
        return GuardedDialect(dialect, own, watch), own

    def counted(self, key: Key, request: Any) -> Any:
        """The request as its upstream may see it, for a count of its tokens. Raises GuardBlocked."""
        bound = self.of(key)
        if bound is None:
            return request
        return bound.guard.examine(request, Mask(placeholders_in(request)), Report())

    def _noting(self, entry: Entry) -> Any:
        told: Counter[str] = Counter()

        def note(report: Report) -> None:
            for rule, action, count in report.rows:
                self.counts[f"{rule}:{action}"] += count - told[rule]
                told[rule] = count
            entry.record.guards = report.log()

        return note

    def _operation(self, bound: Bound, entry: Entry, dialect: Any, call: Any) -> Any:
        """A call that is no chat: its body's texts are looked at, and masked for good."""
        exchange, report = entry.exchange, Report()
        try:
            value = msgspec.json.decode(exchange.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return call  # a form: files and few words beside them
        model = value.pop("model", None) if isinstance(value, dict) else None
        try:
            changed = bound.guard.examine_json(value, Mask(), report)
        finally:
            self._noting(entry)(report)
        if changed is value:
            return call
        exchange.body = msgspec.json.encode({"model": model, **changed} if model is not None else changed)
        return dialect.parse_request(exchange.body)

    async def _ask(self, hook: GuardHook, request: Any, watch: Watch, request_id: str) -> Any:
        await in_task()
        texts: list[dict[str, str]] = []

        def reading(role: str) -> Change:
            def read(text: str) -> str:
                texts.append({"role": role, "text": text})
                return text

            return read

        in_request(request, reading)
        try:
            judgement = await hook.judge(request_id, request.model, texts)
        except HookFailed as failed:
            self.failures[hook.name] += 1
            if not hook.closed:
                return request
            message = f"the guard '{hook.name}' could not be asked: {failed}"
            raise GatewayError(Kind.NOT_READY, message, retry_after_seconds=5) from None
        if judgement.action == "allow":
            return request
        watch.report.note(hook.name, judgement.action)
        watch.note(watch.report)
        if judgement.action == "block":
            raise GuardBlocked([hook.name], "request")
        given = iter(judgement.texts or ())

        def writing(role: str) -> Change:
            def write(text: str) -> str:
                new = next(given)
                return text if new == text else new

            return write

        if judgement.action != "redact":
            return request
        watch.judged = True
        return in_request(request, writing)
