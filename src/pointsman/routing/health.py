"""How connections, providers and models do: what is left alone for a while, and what may be tried again.

A state machine without a clock: every call is given the time (us). Three layers: a connection cools down after a
failure, the breaker of a provider opens after many, and a model at a connection can be locked by itself.
"""

from typing import Final

import msgspec

from pointsman.routing.failures import Failure
from pointsman.routing.plan import Condition
from pointsman.routing.targets import Target

SECOND: Final = 1_000_000


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. The figures are OmniRoute's for accounts with a key."""

    base_cooldown: float = 3.0
    backoff_steps: int = 5
    heed_hints: bool = True
    longest_hint: float = 3600.0


class Cooldown(msgspec.Struct, kw_only=True):
    """Why something is left alone, until when (us), and how often in a row it has failed."""

    until: int = 0
    level: int = 0
    word: str = ""
    terminal: str | None = None


class HealthBook:
    """The health of everything that requests were sent to. ``quiet`` is True while nothing at all is amiss."""

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self.settings = settings or HealthSettings()
        self.quiet = True
        self._connections: dict[str, Cooldown] = {}
        self._models: dict[str, Cooldown] = {}

    def condition(self, target: Target, now: int) -> Condition | None:
        """How a target does; None: fine."""
        for found in (self._connections.get(target.connection.id), self._models.get(target.id)):
            if found is not None and found.until > now:
                return Condition(usable=False, until=found.until, reason=found.word)
        return None

    def succeeded(self, target: Target, now: int) -> None:
        """A call was answered: what was held against the target is forgotten."""
        self._connections.pop(target.connection.id, None)
        self._models.pop(target.id, None)
        self.quiet = not self._connections and not self._models

    def failed(self, target: Target, failure: Failure, now: int, hint_seconds: float | None = None) -> None:
        """A call failed; ``hint_seconds`` is what the upstream asked to wait."""
        if failure.scope == "request":
            return
        table, name = (
            (self._models, target.id) if failure.scope == "model" else (self._connections, target.connection.id)
        )
        found = table.setdefault(name, Cooldown())
        if now < found.until:
            return  # calls that were under way when the first one failed say nothing new
        settings = self.settings
        seconds = failure.seconds
        if hint_seconds is not None and settings.heed_hints:
            seconds = min(hint_seconds, settings.longest_hint)
        if seconds is None:
            seconds = settings.base_cooldown * 2**found.level
            found.level = min(found.level + 1, settings.backoff_steps)
        found.until = now + int(seconds * SECOND)
        found.word = failure.word
        found.terminal = failure.terminal
        self.quiet = False
