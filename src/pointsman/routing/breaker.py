"""The breaker of a provider: CLOSED, DEGRADED, OPEN, HALF_OPEN with one probe. No clock: instants are passed in (us).

It opens after so many failures in a row, of which those of one connection within 5 s and those of the network within
10 s count once; or when half of at least 20 calls of the last half minute failed, in three different slots of 5 s.
"""

from typing import Final, Literal

import msgspec

from pointsman.resilience import BreakerProfile, ProviderCooldown

SECOND: Final = 1_000_000
SAME_CONNECTION: Final = 5 * SECOND
SAME_NETWORK: Final = 10 * SECOND
SLOT: Final = 5 * SECOND
SLOTS: Final = 6
ENOUGH_CALLS: Final = 20
FAILING_SHARE: Final = 0.5
FAILING_SLOTS: Final = 3
FORGOTTEN: Final = 300 * SECOND
MAX_REMEMBERED: Final = 1000
SET_BACK: Final = 60 * SECOND  # so far ahead a failure is only when the clock was set; a call may have looked before it

State = Literal["CLOSED", "DEGRADED", "OPEN", "HALF_OPEN"]


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What other processes and later lives have to know. Instants in us."""

    state: State = "CLOSED"
    failures: int = 0
    opened: int = 0
    until: int = 0
    last_failure: int = 0


class Breaker:
    """One provider's. ``failures`` counts towards the threshold, ``opened`` how often in a row it has opened."""

    def __init__(self, stored: Stored | None = None) -> None:
        self.state: State
        self.take(stored or Stored())
        self.prober = 0
        self.probe_until = 0
        self._network_at = 0
        self._counted: dict[str, int] = {}
        self._slots: dict[int, list[int]] = {}  # by number: calls, failures

    def take(self, stored: Stored) -> None:
        """Be in the state that another process has seen."""
        self.state = stored.state
        self.failures = stored.failures
        self.opened = stored.opened
        self.until = stored.until
        self.last_failure = stored.last_failure

    def stored(self) -> Stored:
        """Its state, to be kept."""
        return Stored(
            state=self.state,
            failures=self.failures,
            opened=self.opened,
            until=self.until,
            last_failure=self.last_failure,
        )

    def look(self, now: int) -> State:
        """The state at ``now``: an open one whose time has passed is half-open. After the clock was set back behind the
        last failure, it is as if it had failed only now.
        """
        ahead = self.last_failure - now
        if ahead > SET_BACK:
            self.last_failure, self.until, self._network_at = now, self.until - ahead, 0
            self._counted.clear()
            self._slots.clear()
        if self.state == "OPEN" and now >= self.until:
            self.state = "HALF_OPEN"
            self.probe_until = self.prober = 0
        return self.state

    def failed(
        self, connection: str, now: int, rules: tuple[BreakerProfile, ProviderCooldown], *, network: bool
    ) -> bool:
        """A call failed through the provider's fault. True when its state or count has changed."""
        self._slot(now)[1] += 1
        if self.look(now) == "HALF_OPEN":
            self._open(now, rules)
            return True
        if self.state == "OPEN" or not (self._counts(connection, now, network=network) or self._rate_too_high()):
            return False
        self.last_failure = now
        self.failures += 1
        if self.failures >= rules[0].failure_threshold or self._rate_too_high():
            self._open(now, rules)
        elif self.failures >= rules[0].degradation_threshold:
            self.state = "DEGRADED"
        return True

    def succeeded(self, now: int, began: int) -> bool:
        """A call that began at ``began`` was answered. True when state or count has changed."""
        self._slot(now)
        if self.look(now) in ("OPEN", "HALF_OPEN") and began < self.last_failure:
            return False  # it was sent before things went wrong
        changed = self.state != "CLOSED" or self.failures > 0
        self.state, self.failures, self.opened = "CLOSED", 0, 0
        self.until = self.probe_until = self.prober = 0
        return changed

    def reached(self, now: int, rules: tuple[BreakerProfile, ProviderCooldown]) -> bool:
        """Half-open, and a model list could be had: all may try, few failures open it again. True when that is new."""
        if self.look(now) != "HALF_OPEN":
            return False
        self.state = "DEGRADED" if rules[0].failure_threshold > 1 else "CLOSED"
        self.failures = max(0, rules[0].failure_threshold - 2)
        self.until = self.probe_until = self.prober = 0
        self._slots.clear()
        return True

    def idle(self, now: int) -> bool:
        """Nothing worth remembering is left."""
        return self.last_failure <= now - FORGOTTEN and self.state in ("CLOSED", "DEGRADED")

    def _open(self, now: int, rules: tuple[BreakerProfile, ProviderCooldown]) -> None:
        profile, cooldown = rules
        wait_ms = profile.reset_timeout_ms
        if cooldown.enabled and self.opened:
            grown = max(wait_ms, cooldown.min_ms) * 2 ** min(self.opened, 20)
            wait_ms = min(grown, max(wait_ms, cooldown.max_ms))
        self.state = "OPEN"
        self.opened += 1
        self.last_failure = now
        self.until = now + wait_ms * 1000
        self.probe_until = self.prober = 0
        self._slots.clear()

    def _counts(self, connection: str, now: int, *, network: bool) -> bool:
        """Whether a failure is a new one: what came with another from the same cause is not."""
        if network:
            new = now - self._network_at >= SAME_NETWORK
            if new:
                self._network_at = now
            return new
        new = now - self._counted.get(connection, -SAME_CONNECTION) >= SAME_CONNECTION
        if new:
            if len(self._counted) >= MAX_REMEMBERED:
                self._counted.clear()
            self._counted[connection] = now
        return new

    def _slot(self, now: int) -> list[int]:
        """The present slot, with one more call in it."""
        number = now // SLOT
        slot = self._slots.get(number)
        if slot is None:
            self._slots = {known: one for known, one in self._slots.items() if known > number - SLOTS}
            slot = self._slots[number] = [0, 0]
        slot[0] += 1
        return slot

    def _rate_too_high(self) -> bool:
        calls = sum(slot[0] for slot in self._slots.values())
        failures = sum(slot[1] for slot in self._slots.values())
        if calls < ENOUGH_CALLS or failures < calls * FAILING_SHARE:
            return False
        return sum(slot[1] > 0 for slot in self._slots.values()) >= FAILING_SLOTS
