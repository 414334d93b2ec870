"""Hardcarrx's header line: by which provider and model a request was answered, and what the cache did."""

from typing import Final

from pointsman.canonical.record import CacheOutcome
from pointsman.hub.profile_headers import Answering, plain
from pointsman.routing.metadata import model_of

SKIPPED: Final = b"skipped"  # it took no part
CACHE_WORDS: Final = {
    CacheOutcome.HIT: b"exact",
    CacheOutcome.SEMANTIC: b"semantic",
    CacheOutcome.MISS: b"miss",
    CacheOutcome.BYPASS: b"bypass",
}


def hardcarrx_lines(entry: Answering) -> bytes:
    """``x-hardcarrx``. No memory takes part in a call, and it says so."""
    target = entry.target
    if target is None:
        return b""
    route = b"%b:%b" % (plain(target.connection.vendor), plain(model_of(target)))
    cache = CACHE_WORDS[entry.record.cache] if entry.record.cache is not None else SKIPPED
    return b"x-hardcarrx: route=%b; cache=%b; mem=%b\r\n" % (route, cache, SKIPPED)
