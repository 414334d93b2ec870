"""Whether a request's answer may come from the cache: every contract's switches, read into one wish."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.cache_settings import MAX_TTL_SECONDS, CacheSettings

OWN: Final = b"x-pointsman-cache"  # on, off, refresh, semantic
OWN_TTL: Final = b"x-pointsman-cache-ttl"
# openrouter.ai/docs (response caching), as of 2026-11
OPENROUTER: Final = b"x-openrouter-cache"
OPENROUTER_TTL: Final = b"x-openrouter-cache-ttl"
OPENROUTER_CLEAR: Final = b"x-openrouter-cache-clear"
OMNIROUTE_OFF: Final = b"x-omniroute-no-cache"
CACHE_CONTROL: Final = b"cache-control"  # RFC 9111 5.2.1: no-store, no-cache
HEADERS: Final = frozenset((OWN, OWN_TTL, OPENROUTER, OPENROUTER_TTL, OPENROUTER_CLEAR, OMNIROUTE_OFF))
SETTING: Final = "cache"  # of a key: "on", "off" or "semantic"
MODE: Final = "cacheDefaultMode"  # OmniRoute's for its keys: "bypass" keeps out what does not ask for the cache
WORDS: Final = frozenset(("on", "off", "semantic"))
_DIGITS: Final = re.compile(rb"\s*(\d{1,9})")
_ON, _OFF = frozenset((b"on", b"1", b"true")), frozenset((b"off", b"0", b"false"))


class CacheWish(msgspec.Struct, frozen=True, kw_only=True):
    """An answer may come from the cache and be kept there, for ``seconds``. ``refresh``: it is asked for anew, and
    kept in place of what is there. ``semantic``: that of a question of the same meaning will do.
    """

    seconds: int
    refresh: bool = False
    semantic: bool = False


def cache_wish(
    settings: CacheSettings, headers: Mapping[bytes, bytes], own: Mapping[str, Any], preset: Mapping[str, Any] | None
) -> CacheWish | None:
    """What a request wants of the cache; None: nothing. ``own`` are its key's settings.

    Who forbids wins; then a header, the body or its preset, the key, and the server's setting, in this order.
    """
    if is_forbidden(headers, preset):
        return None
    word = headers.get(OWN, b"").strip().lower()
    control = _control(headers)
    theirs = headers.get(OPENROUTER, b"").strip().lower()
    enabled = (preset or {}).get("cache_enabled")
    of_key = own.get(SETTING) if own.get(SETTING) in WORDS else None
    if of_key is None and own.get(MODE) == "bypass":
        of_key = "off"
    asked = word in _ON or word in (b"refresh", b"semantic") or theirs in _ON
    if not asked and enabled is None and (of_key == "off" or (of_key is None and settings.mode != "on")):
        return None
    cleared = headers.get(OPENROUTER_CLEAR, b"").strip().lower() in _ON
    meaning = word == b"semantic" or (of_key == "semantic" and word not in _ON)
    return CacheWish(
        seconds=_seconds(settings, headers, preset),
        refresh=word == b"refresh" or cleared or b"no-cache" in control,
        semantic=settings.semantic.enabled and meaning,
    )


def is_forbidden(headers: Mapping[bytes, bytes], preset: Mapping[str, Any] | None) -> bool:
    """Whether a request says itself that it wants nothing of the cache."""
    forbidden = (
        (preset or {}).get("cache_enabled") is False,
        headers.get(OWN, b"").strip().lower() in _OFF,
        headers.get(OPENROUTER, b"").strip().lower() in _OFF,
        b"no-store" in _control(headers),
        headers.get(OMNIROUTE_OFF, b"").strip().lower() in _ON,
    )
    return any(forbidden)


def _control(headers: Mapping[bytes, bytes]) -> set[bytes]:
    return {part.strip().lower() for part in headers.get(CACHE_CONTROL, b"").split(b",")}


def _seconds(settings: CacheSettings, headers: Mapping[bytes, bytes], preset: Mapping[str, Any] | None) -> int:
    """As OpenRouter reads it: the leading digits count, what has none is left out, and bounds hold silently."""
    for name in (OWN_TTL, OPENROUTER_TTL):
        found = _DIGITS.match(headers.get(name, b""))
        if found is not None:
            return min(max(int(found[1]), 1), MAX_TTL_SECONDS)
    told = (preset or {}).get("cache_ttl_seconds")
    return min(max(told, 1), MAX_TTL_SECONDS) if isinstance(told, int) else settings.ttl_seconds
