"""What is held against upstreams: as it is kept, told to other processes, and shown."""

from typing import Literal

import msgspec

from pointsman.routing.breaker import SET_BACK, Breaker, State
from pointsman.routing.failures import Listed

Scope = Literal["connection", "model", "provider", "quota"]


class Cooldown(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why something is left alone, until when, and how often in a row it has failed. Instants in us.

    ``at``: when it failed last. ``mark``: the connection's at that time. ``listed``: what its model list can tell
    of it (see `Failure`), ``reached`` that it could be had. ``prober`` and ``probe_until`` are of the one call on
    trial, this process' own business.
    """

    until: int = 0
    level: int = 0
    word: str = ""
    terminal: str | None = None
    at: int = 0
    mark: str = ""
    listed: Listed = ""
    reached: bool = False
    prober: int = 0
    probe_until: int = 0

    def keep_to(self, now: int) -> None:
        """After the clock was set back behind the failure: leave it alone as if it had failed only now."""
        ahead = self.at - now
        if ahead > SET_BACK:
            self.at, self.until = now, self.until - ahead


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The state of something as of ``at`` (us), to be kept and told; an empty ``document``: nothing is amiss."""

    scope: Scope
    name: str
    at: int
    document: bytes = b""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The state of something, as it is shown. ``until`` and ``at`` in us; ``state`` is OmniRoute's word for it."""

    scope: Scope
    name: str
    state: str
    reason: str
    until: int
    at: int
    failures: int
    usable: bool


def view_of(scope: Scope, name: str, found: Cooldown, now: int) -> View:
    """Of something that is left alone, or on trial."""
    waiting = found.until > now
    state = found.terminal or ("unavailable" if waiting else "recovering")
    return View(
        scope=scope, name=name, state=state, reason=found.word, until=found.until, at=found.at,
        failures=max(1, found.level), usable=not waiting,
    )  # fmt: skip


def breaker_view(name: str, breaker: Breaker, now: int) -> View:
    """Of a provider."""
    state: State = breaker.look(now)
    return View(
        scope="provider", name=name, state=state, reason="" if state == "CLOSED" else "failing", until=breaker.until,
        at=breaker.last_failure, failures=breaker.failures, usable=state != "OPEN",
    )  # fmt: skip
