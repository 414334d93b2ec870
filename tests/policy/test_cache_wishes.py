"""Every contract's switches of the response cache, as one wish."""

from typing import Any

import pytest

from pointsman.cache_settings import CacheSettings, SemanticSettings
from pointsman.policy.cache_wishes import CacheWish, cache_wish

ASKED = CacheSettings()
ALWAYS = CacheSettings(mode="on", semantic=SemanticSettings(enabled=True))
OPENROUTER = {b"x-openrouter-cache": b"true"}


def wish(settings: CacheSettings, headers: dict[bytes, bytes], preset: Any = None, **own: Any) -> CacheWish | None:
    return cache_wish(settings, headers, own, preset)


@pytest.mark.parametrize(
    ("headers", "preset", "own", "wanted"),
    [
        ({}, None, {}, False),
        (OPENROUTER, None, {}, True),
        (OPENROUTER, {"cache_enabled": False}, {}, False),
        ({b"x-openrouter-cache": b"false"}, {"cache_enabled": True}, {}, False),
        ({}, {"cache_enabled": True}, {}, True),
        ({}, {"cache_enabled": None}, {}, False),
        ({}, None, {"cache": "on"}, True),
        ({}, None, {"cache": "loud"}, False),
        (OPENROUTER, None, {"cache": "off"}, True),
        ({**OPENROUTER, b"cache-control": b"max-age=0, no-store"}, None, {}, False),
        ({**OPENROUTER, b"x-omniroute-no-cache": b"true"}, None, {}, False),
    ],
)
def test_who_decides(headers: dict[bytes, bytes], preset: Any, own: dict[str, Any], wanted: bool) -> None:
    assert (wish(ASKED, headers, preset, **own) is not None) is wanted


def test_a_key_may_keep_out_of_a_cache_that_is_on() -> None:
    assert wish(ALWAYS, {}) is not None
    assert wish(ALWAYS, {}, cache="off") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"60", 60), (b"60abc", 60), (b"1.5", 1), (b"abc", 300), (b"", 300), (b"0", 1), (b"999999", 86_400)],
)
def test_a_time_is_read_as_openrouter_reads_it(text: bytes, seconds: int) -> None:
    found = wish(ASKED, {**OPENROUTER, b"x-openrouter-cache-ttl": text})
    assert found is not None
    assert found.seconds == seconds


def test_the_header_of_a_time_beats_the_presets() -> None:
    preset = {"cache_enabled": True, "cache_ttl_seconds": 900}
    plain, told = wish(ASKED, {}, preset), wish(ASKED, {b"x-openrouter-cache-ttl": b"7"}, preset)
    assert plain is not None
    assert told is not None
    assert (plain.seconds, told.seconds) == (900, 7)


def test_meaning_is_compared_only_where_it_is_allowed_and_asked_for() -> None:
    header = {b"x-pointsman-cache": b"semantic"}
    for settings, headers, own, semantic in (
        (ASKED, header, {}, False),
        (ALWAYS, header, {}, True),
        (ALWAYS, {}, {}, False),
        (ALWAYS, {}, {"cache": "semantic"}, True),
        (ALWAYS, {b"x-pointsman-cache": b"on"}, {"cache": "semantic"}, False),
    ):
        found = wish(settings, headers, **own)
        assert found is not None
        assert found.semantic is semantic
