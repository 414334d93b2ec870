"""What clients are told of the response cache: each contract's own header lines, and ours.

Names of OpenRouter's, OmniRoute's and Hardcarrx's APIs, as of 2026-11. They never collide.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from pointsman.canonical.record import CacheOutcome
from pointsman.contracts.operations import Contract
from pointsman.policy.cache_names import CacheName
from pointsman.policy.cache_wishes import OPENROUTER

OUTCOME: Final = b"x-pointsman-cache"
SIGNATURE: Final = b"x-pointsman-cache-key"


class Asking(Protocol):
    """A request, and whose client it comes from, where that is known (server/exchange.py)."""

    headers: dict[bytes, bytes]


class Told(NamedTuple):
    """What there is to tell. ``seconds`` is how long the answer is kept from now on; its ``age`` in seconds."""

    name: CacheName
    outcome: CacheOutcome
    seconds: int
    age: int = 0
    source_id: str | None = None


def cache_lines(asking: Asking, dialect: str, told: Told) -> bytes:
    """The header lines of an answer that came from the cache, or may be kept in it."""
    hit = told.outcome is not CacheOutcome.MISS
    word = b"HIT" if hit else b"MISS"
    lines: dict[bytes, bytes] = {OUTCOME: told.outcome.value.encode(), SIGNATURE: told.name.signature.encode()}
    contract = getattr(asking, "contract", None)
    if _is(dialect, contract, Contract.OPENROUTER) or OPENROUTER in asking.headers:
        lines[b"x-openrouter-cache-status"] = word
        lines[b"x-openrouter-cache-ttl"] = b"%d" % told.seconds
        if hit:
            lines[b"x-openrouter-cache-age"] = b"%d" % told.age
            lines[b"x-openrouter-cache-source-id"] = (told.source_id or "").encode()
    if contract is Contract.OMNIROUTE:
        lines |= _omniroute(word, hit)
    if _is(dialect, contract, Contract.HARDCARRX):
        lines[b"x-cache-status"] = word
    return b"".join(b"%b: %b\r\n" % line for line in lines.items())


def bypass_lines(asking: Asking, dialect: str) -> bytes:
    """The header line of an answer that was kept out of the cache because its caller wanted that; Hardcarrx's clients
    alone are told.
    """
    told = _is(dialect, getattr(asking, "contract", None), Contract.HARDCARRX)
    return b"x-cache-status: BYPASS\r\n" if told else b""


def _is(dialect: str, contract: Contract | None, which: Contract) -> bool:
    return contract is which or dialect.startswith(which.value)


def _omniroute(word: bytes, hit: bool) -> Mapping[bytes, bytes]:
    return {b"x-omniroute-cache": word, b"x-omniroute-cache-hit": b"true" if hit else b"false"}
