"""Estimated usage: rough, never negative, always marked."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.accounting.estimation import BYTES_PER_TOKEN, TOKENS_PER_FILE, estimate_tokens, estimate_usage, tokens_of


@given(input_bytes=st.integers(0, 10**9), output_tokens=st.integers(-1, 10**7))
def test_an_estimate_is_marked_and_never_negative(input_bytes: int, output_tokens: int) -> None:
    usage = estimate_usage(input_bytes, output_tokens)
    assert usage.estimated
    assert usage.output_tokens == max(0, output_tokens)
    assert 0 <= usage.input_tokens * BYTES_PER_TOKEN - input_bytes < BYTES_PER_TOKEN
    assert usage.cache_read_tokens == usage.cache_write_tokens == usage.reasoning_tokens == 0


@given(size=st.integers(0, 10**9))
def test_a_part_of_a_token_counts_as_one(size: int) -> None:
    assert 0 <= tokens_of(size) * BYTES_PER_TOKEN - size < BYTES_PER_TOKEN


def test_a_call_s_estimate_holds_its_text_and_the_longest_answer() -> None:
    assert estimate_tokens(b"x" * 400, 50) == 150
    assert estimate_tokens(b"", 0) == 1


def test_files_inside_a_body_are_not_counted_by_their_bytes() -> None:
    image = b'{"url":"data:image/png;base64,' + b"A" * 1_000_000 + b'="}'
    assert 2 * TOKENS_PER_FILE < estimate_tokens(image * 2, 0) < 2 * TOKENS_PER_FILE + 50
