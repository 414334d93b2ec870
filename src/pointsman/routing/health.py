"""How connections, providers and models do: what is left alone for a while, and what may be tried again.

A state machine without a clock: every call is given the time (us). Three layers: a connection cools down after a
failure, the breaker of a provider opens after many, and a model at a connection can be locked by itself. A fourth table
holds accounts whose upstream says that little is left. What has served its time is tried by one call at a time until
one succeeds. `take_changes` and `adopt` carry the states to other processes and lives.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from pointsman.resilience import (
    LOCAL_BREAKER,
    LOCAL_COOLDOWN,
    BreakerProfile,
    CooldownProfile,
    ProviderCooldown,
    ResilienceSettings,
)
from pointsman.routing.breaker import Breaker, Stored
from pointsman.routing.failures import Failure
from pointsman.routing.health_states import Change, Cooldown, Scope, View, breaker_view, view_of
from pointsman.routing.plan import FINE, Condition
from pointsman.routing.quota import Quota, next_look, read_quota
from pointsman.routing.targets import Connection, Target

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
PROBE: Final = 10 * SECOND  # a call on trial that has not ended by then is given up, and another may begin
FORGOTTEN: Final = 600 * SECOND  # after the end of its time nothing is known of a failure any more
MAX_ENTRIES: Final = 5000  # of each table
MAX_NAME: Final = 300  # characters; a longer name of a model is a client's invention
LOCAL: Final = "local"
SPENT: Final = frozenset(("credits_exhausted", "daily_quota"))  # failures that tell of a quota that is used up
BREAKERS: Final[dict[str, Literal["half_open", "open"]]] = {"HALF_OPEN": "half_open", "OPEN": "open"}


class HealthBook:
    """The health of everything that requests were sent to. ``quiet`` is True while nothing at all is amiss."""

    def __init__(self, settings: ResilienceSettings | None = None) -> None:
        self.settings = settings or ResilienceSettings()
        self.quiet = True
        self.protected: Mapping[str, bool] = {}  # by connection: whether its learned limits are obeyed
        self.events: dict[str, int] = {}
        self._connections: dict[str, Cooldown] = {}
        self._models: dict[str, Cooldown] = {}
        self._quota_low: dict[str, Cooldown] = {}
        self._breakers: dict[str, Breaker] = {}
        self._tables: dict[Scope, dict[str, Cooldown]] = {
            "connection": self._connections, "model": self._models, "quota": self._quota_low
        }  # fmt: skip
        self.quotas: dict[str, Quota] = {}
        self._changed: dict[tuple[Scope, str], int] = {}
        self._tickets = 0

    # what requests ask

    def clear(self, target: Target) -> bool:
        """Whether nothing at all is held against the target: a few look-ups."""
        connection = target.connection
        return not (
            connection.id in self._connections
            or target.id in self._models
            or connection.vendor in self._breakers
            or connection.id in self._quota_low
        )

    def condition(self, target: Target, now: int) -> Condition | None:
        """How a target does; None: fine. Of several reasons against it the one that lasts longest is told."""
        until, reason, probing = 0, "", False
        for found in self._held(target):
            found.keep_to(now)
            if found.until > max(now, until):
                until, reason = found.until, found.word
            elif found.probe_until > max(now, until):
                until, reason = found.probe_until, "probing"
            elif found.until <= now:
                probing = True
        breaker, state = self._breakers.get(target.connection.vendor), "CLOSED"
        if breaker is not None:
            state = breaker.look(now)
            if state == "OPEN" and breaker.until > until:
                until, reason = breaker.until, "provider_open"
            elif state == "HALF_OPEN":
                probing = True
                if breaker.probe_until > max(now, until):
                    until, reason = breaker.probe_until, "probing"
        standing = self.standing_of(target.connection.id, now)
        if until > now:
            return msgspec.structs.replace(
                standing,
                usable=False,
                until=until,
                reason=reason,
                quota_spent=standing.quota_spent or reason in SPENT,
                breaker=BREAKERS.get(state, "closed"),
            )
        if not probing and state == "CLOSED":
            return None if standing is FINE else standing
        return msgspec.structs.replace(
            standing, probing=probing, unstable=state == "DEGRADED", breaker=BREAKERS.get(state, "closed")
        )

    def ready(self, target: Target, now: int) -> bool:
        """Whether a call to the target may be made now."""
        return self.clear(target) or (found := self.condition(target, now)) is None or found.usable

    def enter(self, target: Target, now: int) -> int:
        """A call to the target begins. What has served its time takes one call at a time: gives that one's ticket for
        `leave`; 0 for calls that are on no trial.
        """
        if self.clear(target) or not self.ready(target, now):
            return 0
        self._tickets += 1
        breaker = self._breakers.get(target.connection.vendor)
        held: list[Cooldown | Breaker] = [*self._held(target)]
        if breaker is not None and breaker.look(now) == "HALF_OPEN":
            held.append(breaker)
        for found in held:
            found.prober, found.probe_until = self._tickets, now + PROBE
        return self._tickets if held else 0

    def leave(self, target: Target, ticket: int) -> None:
        """The call is over and has proved nothing: another may be made on trial."""
        held: list[Cooldown | Breaker] = [*self._held(target)]
        if (breaker := self._breakers.get(target.connection.vendor)) is not None:
            held.append(breaker)
        for found in held:
            if ticket and found.prober == ticket:
                found.prober = found.probe_until = 0

    def headroom(self, connection_id: str, now: int) -> float | None:
        """The part of its limits that an account has left, 0 to 1; None: not known."""
        quota = self.quotas.get(connection_id)
        return quota.headroom(now) if quota is not None else None

    def standing_of(self, connection_id: str, now: int) -> Condition:
        """What is known of an account's quotas; `FINE` when that is nothing."""
        quota = self.quotas.get(connection_id)
        headroom = quota.headroom(now) if quota is not None else None
        if quota is None or headroom is None:
            return FINE
        windows = quota.live(now)
        spent = any([window.remaining <= 0 for window in windows]) if windows else False
        return Condition(headroom=headroom, windows=windows, quota_spent=spent)

    # what requests report

    def succeeded(self, target: Target, now: int, began: int | None = None) -> None:
        """A call was answered that began at ``began``: what was held against the target before is forgotten."""
        began = now if began is None else began
        for scope, name in (("connection", target.connection.id), ("model", target.id)):
            table = self._tables[scope]  # type: ignore[index]
            found = table.get(name)
            if found is not None and began >= found.at:
                del table[name]
                self._note(scope, name, now)  # type: ignore[arg-type]
        breaker = self._breakers.get(target.connection.vendor)
        if breaker is not None:
            was = breaker.state
            if breaker.succeeded(now, began):
                self._note("provider", target.connection.vendor, now)
                if was in ("OPEN", "HALF_OPEN"):
                    self._count("closed")
        self._see_quiet()

    def failed(
        self, target: Target, failure: Failure, now: int, hint_seconds: float | None = None, status: int | None = None
    ) -> None:
        """A call failed; ``hint_seconds`` is what the upstream asked to wait, ``status`` that of its answer."""
        if failure.scope == "request":
            return
        self._judge_provider(target.connection, failure, now)
        scope, name = self._at_fault(target, failure, status)
        if len(name) > MAX_NAME:
            return
        table = self._tables[scope]
        found = table.get(name)
        if found is None or found.mark != target.connection.mark:
            if len(table) >= MAX_ENTRIES:
                self.tidy(now)
                for oldest in list(table)[: len(table) - MAX_ENTRIES + 1]:
                    del table[oldest]
            found = table[name] = Cooldown(mark=target.connection.mark)
        elif found.until > now:
            self._failed_again(found, failure, now, self._hinted(target.connection, hint_seconds))
            self._note(scope, name, now)
            return  # calls that were under way when the first one failed don't raise the level
        if scope == "model" and failure.scope != "model":
            hinted = self._hinted(target.connection, hint_seconds)
            seconds = self._lockout_seconds(found) if hinted is None else hinted
        else:
            seconds = self._seconds(target.connection, failure, found, now, hint_seconds)
        found.until, found.at = now + int(seconds * SECOND), now
        found.word, found.terminal, found.listed = failure.word, failure.terminal, failure.listed
        if found.reached and found.listed:
            found.listed = "down"  # there was a list, and calls fail all the same
        found.prober = found.probe_until = 0
        self.quiet = False
        self._count(scope if scope == "model" else "cooldown")
        self._note(scope, name, now)

    def learn(self, connection: Connection, headers: Mapping[bytes, bytes], now: int) -> int:
        """Read an account's limits from the headers of an answer; gives when the next look is worth while (us)."""
        quota = read_quota(headers, now)
        name = connection.id
        if quota is None:
            if name not in self.quotas:
                return next_look(None, now)
            return now + SECOND
        self.quotas[name] = quota
        share = self.settings.quota_preflight.default_threshold_percent / 100
        spared = not quota.over and self.is_protected(connection)
        full_at = min(quota.full_again(share, now), now + DAY) if spared else 0
        found = self._quota_low.get(name)
        if full_at > now:
            if found is None:
                self._quota_low[name] = Cooldown(until=full_at, word="quota_low", at=now, mark=connection.mark)
                self.quiet = False
                self._count("quota_low")
                self._note("quota", name, now)
            elif found.until != full_at:
                found.until, found.at = full_at, now
        elif found is not None:
            del self._quota_low[name]
            self._note("quota", name, now)
            self._see_quiet()
        return next_look(quota, now)

    def is_protected(self, connection: Connection) -> bool:
        """Whether an account is left alone before its upstream refuses."""
        default = self.settings.request_queue.auto_enable_api_key_providers and _profile(connection) == "apikey"
        return self.protected.get(connection.id, default)

    # what background work does

    def due(self, now: int) -> list[tuple[str, int]]:
        """Connections whose model list can tell something now, and until when they are left alone (us)."""
        return [
            (name, found.until)
            for name, found in self._connections.items()
            if found.until > now - SECOND and (found.listed == "up" or (found.listed and found.until < now + SECOND))
        ]

    def reached(self, connection: Connection, now: int) -> None:
        """The model list of a connection could be had: it may be tried again. What it failed before is remembered."""
        found = self._connections.get(connection.id)
        if found is not None and found.listed == "up" and found.until > now:
            found.until, found.reached = now, True
            self._note("connection", connection.id, now)
        breaker = self._breakers.get(connection.vendor)
        if breaker is not None and breaker.reached(now, self._breaker_rules(connection)):
            self._note("provider", connection.vendor, now)
        self._count("probe_succeeded")

    def unreached(self, connection: Connection, failure: Failure, now: int, hint_seconds: float | None = None) -> None:
        """Its model list could not be had: it is left alone for longer, as if a call had failed."""
        self._count("probe_failed")
        found = self._connections.get(connection.id)
        if found is None or failure.scope != "connection":
            return
        found.until = max(found.until, now + int(self._seconds(connection, failure, found, now, hint_seconds) * SECOND))
        found.word, found.terminal, found.at = failure.word, failure.terminal, now
        self._note("connection", connection.id, now)

    def tidy(self, now: int) -> None:
        """Forget what has been over for long."""
        for scope, table in self._tables.items():
            after = 0 if scope == "quota" else FORGOTTEN
            for name in [name for name, one in table.items() if one.until + after <= now and one.terminal is None]:
                del table[name]
                self._note(scope, name, now)
        for name in [name for name, breaker in self._breakers.items() if breaker.idle(now)]:
            del self._breakers[name]
            self._note("provider", name, now)
        self._see_quiet()

    def reset(self, now: int, connection_id: str | None = None) -> int:
        """Forget everything, or what is held against one connection, its models and nothing else; gives how much."""
        count = 0
        for scope, table in self._tables.items():
            for name in list(table):
                if connection_id is None or name == connection_id or name.startswith(f"{connection_id}/"):
                    del table[name]
                    self._note(scope, name, now)
                    count += 1
        for name in list(self._breakers) if connection_id is None else []:
            del self._breakers[name]
            self._note("provider", name, now)
            count += 1
        self._see_quiet()
        return count

    # other processes and lives

    def take_changes(self) -> list[Change]:
        """What has changed since the last time."""
        taken, self._changed = self._changed, {}
        return [self._change(scope, name, at) for (scope, name), at in taken.items()]

    def put_back(self, changes: Iterable[Change]) -> None:
        """Changes that could not be told: they are taken again."""
        for change in changes:
            self._changed.setdefault((change.scope, change.name), change.at)

    def adopt(self, changes: Iterable[Change]) -> None:
        """Take over what others have seen; of two reports on one thing the later one counts."""
        for change in changes:
            own = self._changed.get((change.scope, change.name))
            if own is not None and own > change.at:
                continue
            self._changed.pop((change.scope, change.name), None)
            if change.scope == "provider":
                self._adopt_breaker(change)
            elif change.document:
                found = msgspec.json.decode(change.document, type=Cooldown)
                before = self._tables[change.scope].get(change.name)
                if before is not None:
                    found.prober, found.probe_until = before.prober, before.probe_until
                self._tables[change.scope][change.name] = found
            else:
                self._tables[change.scope].pop(change.name, None)
        self._see_quiet()

    def views(self, now: int) -> list[View]:
        """Everything that is not as it should be, the newest first."""
        found = [
            view_of(scope, name, one, now) for scope, table in self._tables.items() for name, one in table.items()
        ] + [breaker_view(name, breaker, now) for name, breaker in self._breakers.items()]
        return sorted(found, key=lambda view: (-view.at, view.scope, view.name))

    def standing(self, now: int) -> tuple[int, int]:
        """How many connections are left alone, and how many providers."""
        alone = {*(name for table in (self._connections, self._quota_low) for name, one in table.items()
                   if one.until > now)}  # fmt: skip
        return len(alone), sum(breaker.look(now) == "OPEN" for breaker in self._breakers.values())

    # parts

    def _held(self, target: Target) -> list[Cooldown]:
        connection, found = target.connection, []
        for table, name in (
            (self._connections, connection.id), (self._models, target.id), (self._quota_low, connection.id)
        ):  # fmt: skip
            one = table.get(name)
            if one is not None and one.mark == connection.mark:
                found.append(one)
        return found

    def _at_fault(self, target: Target, failure: Failure, status: int | None) -> tuple[Scope, str]:
        lockout = self.settings.model_lockout
        locked = lockout.enabled and status in lockout.error_codes and failure.terminal is None
        if failure.scope == "model" or locked:
            return "model", target.id
        return "connection", target.connection.id

    def _judge_provider(self, connection: Connection, failure: Failure, now: int) -> None:
        vendor = connection.vendor
        breaker = self._breakers.get(vendor)
        if not failure.trips:
            if breaker is None or not failure.sent or breaker.look(now) != "HALF_OPEN":
                return
            if breaker.succeeded(now, now):
                self._note("provider", vendor, now)  # it answered: the provider itself works
            return
        if breaker is None:
            breaker = self._breakers[vendor] = Breaker()
        was = breaker.look(now)
        if breaker.failed(connection.id, now, self._breaker_rules(connection), network=failure.network):
            self._note("provider", vendor, now)
            if breaker.state == "OPEN" and was != "OPEN":
                self._count("opened")

    def _breaker_rules(self, connection: Connection) -> tuple[BreakerProfile, ProviderCooldown]:
        profiles = self.settings.provider_breaker
        profile = {"oauth": profiles.oauth, "apikey": profiles.apikey, LOCAL: LOCAL_BREAKER}[_profile(connection)]
        return profile, self.settings.provider_cooldown

    def _cooldown_rules(self, connection: Connection) -> CooldownProfile:
        profiles = self.settings.connection_cooldown
        return {"oauth": profiles.oauth, "apikey": profiles.apikey, LOCAL: LOCAL_COOLDOWN}[_profile(connection)]

    def _hinted(self, connection: Connection, hint_seconds: float | None) -> float | None:
        if hint_seconds is None or not self._cooldown_rules(connection).use_upstream_retry_hints:
            return None
        return min(hint_seconds, self.settings.longest_hint_ms / 1000)

    def _seconds(
        self, connection: Connection, failure: Failure, found: Cooldown, now: int, hint_seconds: float | None
    ) -> float:
        """How long something is left alone. Its level rises with every failure that is not timed by the upstream."""
        hinted = self._hinted(connection, hint_seconds)
        if hinted is not None:
            return hinted
        if failure.midnight:
            return (DAY - now % DAY) / SECOND
        rules = self._cooldown_rules(connection)
        level, found.level = found.level, min(found.level + 1, rules.max_backoff_steps)
        if failure.seconds is None:
            return rules.base_cooldown_ms / 1000 * 2.0**level
        return min(failure.seconds * 2.0**level, failure.most) if failure.most is not None else failure.seconds

    def _lockout_seconds(self, found: Cooldown) -> float:
        rules = self.settings.model_lockout
        level, found.level = found.level, min(found.level + 1, rules.max_backoff_steps)
        level = level if rules.exponential else 0
        return min(rules.base_ms * 2.0**level, rules.max_ms) / 1000

    def _failed_again(self, found: Cooldown, failure: Failure, now: int, hinted: float | None) -> None:
        """While it was left alone: a later end that the upstream names counts, and so does a state that lasts."""
        if hinted is not None:
            found.until = max(found.until, now + int(hinted * SECOND))
        if failure.terminal is not None and found.terminal is None:
            found.terminal, found.word, found.listed = failure.terminal, failure.word, failure.listed
            if failure.seconds is not None:
                found.until = max(found.until, now + int(failure.seconds * SECOND))

    def _adopt_breaker(self, change: Change) -> None:
        if not change.document:
            self._breakers.pop(change.name, None)
            return
        stored = msgspec.json.decode(change.document, type=Stored)
        before = self._breakers.get(change.name)
        if before is None:
            self._breakers[change.name] = Breaker(stored)
        else:
            before.take(stored)

    def _change(self, scope: Scope, name: str, at: int) -> Change:
        if scope == "provider":
            breaker = self._breakers.get(name)
            document = msgspec.json.encode(breaker.stored()) if breaker is not None else b""
        else:
            found = self._tables[scope].get(name)
            kept = msgspec.structs.replace(found, prober=0, probe_until=0) if found is not None else None
            document = msgspec.json.encode(kept) if kept is not None else b""
        return Change(scope=scope, name=name, at=at, document=document)

    def _note(self, scope: Scope, name: str, now: int) -> None:
        self._changed[(scope, name)] = now

    def _count(self, event: str) -> None:
        self.events[event] = self.events.get(event, 0) + 1

    def _see_quiet(self) -> None:
        self.quiet = not (self._connections or self._models or self._breakers or self._quota_low)


def _profile(connection: Connection) -> str:
    """How an account is known to its provider: which settings apply."""
    if connection.kind == LOCAL or LOCAL in connection.tags:
        return LOCAL
    return "oauth" if "oauth" in connection.tags else "apikey"
