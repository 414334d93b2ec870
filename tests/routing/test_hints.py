"""When upstreams say that they may be asked again: one row for each form that was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.routing.hints import duration, wait, wait_seconds

NOW = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z

FORMS: list[tuple[str, dict[bytes, bytes], bytes, float | None]] = [
    ("retry-after in seconds", {b"retry-after": b"7"}, b"", 7),
    ("retry-after in parts of a second", {b"retry-after": b"0.5"}, b"", 0.5),
    ("retry-after as a date", {b"retry-after": b"Mon, 21 Sep 2026 14:14:20 GMT"}, b"", 60),
    ("retry-after as a date that has passed", {b"retry-after": b"Mon, 21 Sep 2020 14:14:20 GMT"}, b"", 0),
    ("milliseconds go before seconds", {b"retry-after-ms": b"1500", b"retry-after": b"2"}, b"", 1.5),
    ("Azure's milliseconds", {b"x-ms-retry-after-ms": b"250"}, b"", 0.25),
    ("a reset as an epoch", {b"x-ratelimit-reset": b"1790000030"}, b"", 30),
    ("a reset as an epoch in milliseconds", {b"x-ratelimit-reset": b"1790000030500"}, b"", 30.5),
    ("a reset in seconds", {b"x-ratelimit-reset": b"12"}, b"", 12),
    ("a reset after", {b"x-ratelimit-reset-after": b"3.5"}, b"", 3.5),
    ("the draft standard's reset", {b"ratelimit-reset": b"9", b"ratelimit-remaining": b"0"}, b"", 9),
    (
        "OpenAI's reset of what is used up",
        {
            b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"1m2s",
            b"x-ratelimit-remaining-tokens": b"900", b"x-ratelimit-reset-tokens": b"6h",
        },
        b"", 62,
    ),
    (
        "nothing is used up: no wait",
        {b"x-ratelimit-remaining-requests": b"9", b"x-ratelimit-reset-requests": b"6ms"}, b"", None,
    ),
    (
        "Anthropic's reset",
        {
            b"anthropic-ratelimit-tokens-remaining": b"0",
            b"anthropic-ratelimit-tokens-reset": b"2026-09-21T14:13:50Z",
        },
        b"", 30,
    ),
    ("Google's RetryInfo", {}, b'{"error":{"details":[{"@type":"...RetryInfo","retryDelay":"34.074s"}]}}', 34.074),
    ("a member retry_after", {}, b'{"error":{"retry_after": 12.5}}', 12.5),
    ("a member in milliseconds", {}, b'{"retry_after_ms": 800}', 0.8),
    ("Codex' seconds", {}, b'{"error":{"type":"usage_limit_reached","resets_in_seconds":5400}}', 5400),
    ("Codex' instant", {}, b'{"error":{"resets_at":1790000060}}', 60),
    ("OpenRouter's metadata", {}, b'{"error":{"metadata":{"headers":{"X-RateLimit-Reset":"1790000045000"}}}}', 45),
    ("OpenAI's sentence", {}, b"Limit 3, Used 3. Please try again in 1m2s. Visit https://x", 62),
    ("OpenAI's milliseconds", {}, b"Please try again in 450ms.", 0.45),
    ("Groq's parts", {}, b"Please try again in 7m12.48s. Need more tokens?", 432.48),
    ("seconds in words", {}, b"Too many requests, retry after 30 seconds", 30),
    ("several units in words", {}, b"Quota will reset after 2h5m10s.", 7510),
    ("units with and", {}, b"resets in 1 hour and 5 minutes", 3900),
    ("an instant in a sentence", {}, b"You can try again at 2026-09-21T14:15:20Z.", 120),
    ("Anthropic's end of a ceiling", {}, b"You will regain access on 2026-09-21 at 14:15 UTC.", 100),
    ("waiting in words", {}, b"please wait for 15 seconds before", 15),
    ("a header that makes no sense, then a body", {b"retry-after": b"soon"}, b"try again in 2s", 2),
    ("nothing", {}, b"Rate limit reached", None),
    ("nothing but a number", {}, b"error 429 after 12 tries", None),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "seconds"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_a_wait_is_found(headers: dict[bytes, bytes], body: bytes, seconds: float | None) -> None:
    found = wait_seconds(headers, body, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.dictionaries(st.sampled_from([b"retry-after", b"x-ratelimit-reset", b"retry-after-ms"]), st.binary()),
       st.binary(max_size=300))  # fmt: skip
def test_nothing_that_an_upstream_says_breaks_it(headers: dict[bytes, bytes], body: bytes) -> None:
    found = wait_seconds(headers, body, NOW)
    assert found is None or found >= 0


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s{milliseconds}ms"
    assert duration(text) == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


def test_a_number_of_any_size_is_a_wait_or_an_instant() -> None:
    assert [wait(text, NOW) for text in ("0", "999999999", "1790000001", "1790000001000")] == [0, 999999999, 1, 1]
