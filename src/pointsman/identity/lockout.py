"""Wrong passwords: counted per address and per person, for a while, by all processes together."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from pointsman.clock import Clock
from pointsman.keyring import MasterKey
from pointsman.storage.sign_in_failures import SignInFailures, Source

PURPOSE: Final = "sign-in-source"
# Of one person from all addresses together: more than a person mistypes, and no way to lock somebody out at will.
PERSON_FACTOR: Final = 20


class Lockout:
    """After ``failures`` within ``seconds`` a source is locked for as long. Success forgets them.

    ``what`` keeps apart what is counted: sign-ins, registrations. Raises StorageError.
    """

    def __init__(
        self, rows: SignInFailures, master: MasterKey, clock: Clock, *, what: str, failures: int, seconds: float
    ) -> None:
        self._rows = rows
        self._master = master
        self._clock = clock
        self._what = what
        self._failures = failures
        self._window = round(seconds * 1e6)

    async def try_once(self, address: str, person: str) -> int:
        """Count a try as failed; gives for how many seconds nothing more is looked at: 0, when this one may be."""
        wait = await self._rows.try_once(self._sources(address, person), self._clock.now_us(), self._window)
        return _seconds(wait)

    async def wait_seconds(self, address: str, person: str) -> int:
        """For how long nothing more is looked at; 0 when it is."""
        return _seconds(await self._rows.wait(self._sources(address, person), self._clock.now_us(), self._window))

    async def note_success(self, address: str, person: str) -> None:
        """Forget what this address did wrong, and what was done wrong for this person."""
        await self._rows.forget(tuple(one.name for one in self._sources(address, person)))

    def _sources(self, address: str, person: str | None) -> tuple[Source, ...]:
        return (
            self._source(f"address {source_of(address)}", self._failures),
            self._source(f"person {person}", self._failures * PERSON_FACTOR),
        )

    def _source(self, name: str, allowed: int) -> Source:
        return Source(name=self._master.mark(PURPOSE, f"{self._what} {name}"), allowed=allowed)


def _seconds(wait: int) -> int:
    return -(-wait // 1_000_000)


def source_of(address: str) -> str:
    """One customer's addresses: of version 6 the first half, which one line usually has whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
