"""What makes the guards on content of a server's snapshots."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from pointsman.clock import Clock
from pointsman.guard_settings import GuardRuleSettings, GuardSettings
from pointsman.upstream.client import UpstreamClient

if TYPE_CHECKING:
    from pointsman.hub.guarding import Guarding
    from pointsman.upstream.guard_hook import GuardHook

Counters = dict[str, tuple[str, str, Callable[[], dict[str, int]]]]
NONE: Final[dict[str, int]] = {}


class GuardSource(Protocol):
    """Who keeps guards: `policy.guards.GuardService` those of the configuration file and of the database.

    What it gives has passed `policy.guard_rules.check_guard`, and no name of it is somebody else's: who makes guards of
    other things gives their names a prefix of its own.
    """

    async def guards(self) -> Sequence[GuardSettings]:
        """Those in effect now; the secrets of webhooks as they are, no references. Raises StorageError."""
        ...


class GuardDesk:
    """What makes the guards of each snapshot of those that every source has."""

    def __init__(self, sources: Sequence[GuardSource], client: UpstreamClient, clock: Clock) -> None:
        self._sources = tuple(sources)
        self._client = client
        self._clock = clock
        self._last: Guarding | None = None

    async def guarding(self) -> "Guarding | None":
        """The guards in effect; None when there are none.

        Raises ConfigError for a pattern that is none, StorageError.
        """
        guards = [one for source in self._sources for one in await source.guards()]
        if not guards:
            return None
        if self._last is None:
            from pointsman.hub.guarding import Guarding, Tally  # half a megabyte of patterns, which few need

            self._last = Guarding((), self._hook, Tally())
        # In a thread: patterns may take seconds to compile, and calls go on meanwhile.
        self._last = await asyncio.to_thread(self._last.swapped, guards)
        return self._last

    def _hook(self, name: str, rule: GuardRuleSettings) -> "GuardHook":
        from pointsman.upstream.guard_hook import GuardHook

        return GuardHook(name, rule, self._client, self._clock)

    def counters(self) -> Counters:
        """What the metrics tell of guards, as `Meter.counter` takes it."""
        return {
            "pointsman_guard_findings": (
                "What rules on content have found.",
                "rule",
                lambda: self._last.tally.found if self._last is not None else NONE,
            ),
            "pointsman_guard_failures": (
                "Guards' webhooks that gave no judgement.",
                "rule",
                lambda: self._last.tally.failed if self._last is not None else NONE,
            ),
        }
