"""Wrong passwords: counted per address and per person, for a while, in this process."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from pointsman.clock import Clock

MAX_SOURCES: Final = 10_000
# Of one person from all addresses together: more than a person mistypes, and no way to lock somebody out at will.
PERSON_FACTOR: Final = 20


class Lockout:
    """After ``failures`` within ``seconds`` a source is locked for as long. Success forgets them."""

    def __init__(self, clock: Clock, failures: int, seconds: float) -> None:
        self._clock = clock
        self._failures = failures
        self._seconds = seconds
        self._sources: OrderedDict[str, list[float]] = OrderedDict()  # instants of failures, oldest first

    def wait_seconds(self, address: str, person: str) -> int:
        """For how long nothing more is looked at; 0 when it is."""
        now = self._clock.monotonic()
        waits = (self._wait(name, allowed, now) for name, allowed in self._names(address, person))
        return max(0, *(-(-int(wait * 1000) // 1000) for wait in waits))

    def note_failure(self, address: str, person: str) -> None:
        """Count a wrong password."""
        now = self._clock.monotonic()
        for name, allowed in self._names(address, person):
            recent = [at for at in self._sources.pop(name, ()) if at > now - self._seconds]
            self._sources[name] = [*recent, now][-allowed:]
        while len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)

    def note_success(self, address: str, person: str) -> None:
        """Forget what this address did wrong for this person."""
        for name, _ in self._names(address, person):
            self._sources.pop(name, None)

    def _wait(self, name: str, allowed: int, now: float) -> float:
        failures = self._sources.get(name) or []  # all of them were recent when the last one was noted
        return failures[-1] + self._seconds - now if len(failures) >= allowed else 0.0

    def _names(self, address: str, person: str) -> tuple[tuple[str, int], ...]:
        return (source_of(address), self._failures), (f"person {person}", self._failures * PERSON_FACTOR)


def source_of(address: str) -> str:
    """One customer's addresses: of version 6 the first half, which one line usually has whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
