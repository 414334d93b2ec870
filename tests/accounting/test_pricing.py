"""Costs agree with the arithmetic of genai-prices for every model it knows; what has no price says so."""

import datetime
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.accounting.pricing import FREE, Price, PriceBook, Rates
from pointsman.canonical.usage import TokenUsage

NOW = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)
# What a Price models. Every other figure of the data set is about something that chat usage does not report to us
# (audio, images, video, searches, pages, an hour of cache) or about reasoning tokens at a rate of their own.
MODELLED = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "requests_kcount"}
PRICED_BY = ("input_mtok", "output_mtok", "requests_kcount")
SAMPLES = (
    TokenUsage(),
    TokenUsage(input_tokens=1),
    TokenUsage(output_tokens=1),
    TokenUsage(input_tokens=19, output_tokens=10),
    TokenUsage(input_tokens=12_345, output_tokens=678, cache_read_tokens=12_000),
    TokenUsage(input_tokens=12_345, output_tokens=678, cache_write_tokens=9_999),
    TokenUsage(input_tokens=12_347, output_tokens=679, cache_read_tokens=3_001, cache_write_tokens=7),
    TokenUsage(input_tokens=1_234_567, output_tokens=98_765, cache_read_tokens=1_000_003),
)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """A book with the data set in memory."""
    book = PriceBook(lambda: NOW)
    book.load()
    return book


@cache
def models() -> tuple[tuple[str, str, Any], ...]:
    """Provider id, model id and prices of every model, found as a caller finds it; None: it isn't found by its id."""
    snapshot = get_snapshot()
    found = []
    for provider in snapshot.providers:
        for model in provider.models:
            try:
                _, info = snapshot.find_provider_model(model.id, None, provider.id, None)
            except LookupError:
                found.append((provider.id, model.id, None))
            else:
                found.append((provider.id, model.id, info.get_prices(NOW)))
    return tuple(found)


def found_models() -> list[tuple[str, str, Any]]:
    """The models that are found by their own id."""
    return [row for row in models() if row[2] is not None]


def given_fields(prices: Any) -> set[str]:
    """The names of the figures that a model has."""
    return {name for name, value in vars(prices).items() if value is not None}


def is_finer(prices: Any) -> bool:
    """Whether some figure has more than six decimals: a quotient or a rounding error of whoever published it."""
    values = [getattr(prices, name) for name in MODELLED & given_fields(prices)]
    figures = [f for v in values for f in ([v] if isinstance(v, Decimal) else [v.base, *(t.price for t in v.tiers)])]
    return any((figure * 10**6) % 1 != 0 for figure in figures)


def samples(prices: Any) -> Iterator[TokenUsage]:
    """Usages for a model, also on both sides of each of its thresholds."""
    yield from SAMPLES
    for name in MODELLED & given_fields(prices):
        for tier in getattr(getattr(prices, name), "tiers", ()):
            for size in (tier.start, tier.start + 1):
                yield TokenUsage(
                    input_tokens=size, output_tokens=77, cache_read_tokens=size // 3, cache_write_tokens=11
                )


def their_usage(usage: TokenUsage, **more: int) -> genai_prices.Usage:
    """The same figures in genai-prices' words."""
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        **more,
    )


def half_up(total_usd: Decimal) -> int:
    """Dollars in nano-dollars."""
    return int((total_usd * 10**9).to_integral_value(rounding=ROUND_HALF_UP))


def test_every_model_costs_what_genai_prices_says(book: PriceBook) -> None:
    checked = 0
    for provider, model, prices in found_models():
        price = book.find(provider, None, model)
        if price is None:
            continue
        checked += 1
        for usage in samples(prices):
            expected = half_up(prices.calc_price(their_usage(usage))["total_price"])
            cost = price.cost_nano_usd(usage)
            # A figure with more than six decimals is rounded to half a pico-dollar per token.
            tolerance = (usage.input_tokens + usage.output_tokens) // 2000 + 1 if is_finer(prices) else 0
            assert type(cost) is int
            assert abs(cost - expected) <= tolerance, (provider, model, usage, prices)
    assert checked > 2000


def test_few_models_are_not_found_by_their_own_id_and_those_are_unpriced(book: PriceBook) -> None:
    lost = [(provider, model) for provider, model, prices in models() if prices is None]
    assert len(models()) > 2000
    assert len(lost) < 100
    assert [book.find(provider, None, model) for provider, model in lost] == [None] * len(lost)


def test_the_public_calculator_agrees_for_well_known_models(book: PriceBook) -> None:
    usage = TokenUsage(input_tokens=300_001, output_tokens=501, cache_read_tokens=200_000)
    for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro")):
        price = book.find(provider, None, model)
        assert price is not None
        result = genai_prices.calc_price(their_usage(usage), model, provider_id=provider, genai_request_timestamp=NOW)
        assert price.cost_nano_usd(usage) == half_up(result.total_price)


def test_only_models_without_a_price_per_token_or_request_are_unpriced(book: PriceBook) -> None:
    for provider, model, prices in found_models():
        expected = any(getattr(prices, name) is not None for name in PRICED_BY)
        assert (book.find(provider, None, model) is not None) is expected, (provider, model, prices)


def test_reasoning_at_a_rate_of_its_own_is_the_only_deviation_for_tokens_of_text(book: PriceBook) -> None:
    usage = TokenUsage(input_tokens=12_345, output_tokens=6_789, reasoning_tokens=4_321)
    deviating, expected = set(), set()
    for provider, model, prices in found_models():
        price = book.find(provider, None, model)
        if price is None:
            continue
        if "output_reasoning_mtok" in given_fields(prices):
            expected.add((provider, model))
        theirs = prices.calc_price(their_usage(usage, output_reasoning_tokens=usage.reasoning_tokens))["total_price"]
        if price.cost_nano_usd(usage) != half_up(theirs):
            deviating.add((provider, model))
    assert deviating <= expected
    assert len(expected) < 10


def test_few_figures_are_finer_than_a_micro_dollar_per_million_tokens() -> None:
    finer = {(provider, model) for provider, model, prices in found_models() if is_finer(prices)}
    assert len(finer) < 40
    assert {provider for provider, _ in finer} <= {"openrouter", "huggingface_together"}


@pytest.mark.parametrize(
    ("provider", "base_url", "model"),
    [
        ("openai", None, "gpt-unknown-9"),
        ("nobody", None, "gpt-4o"),
        (None, None, "gpt-4o"),
        (None, "http://127.0.0.1:9", "gpt-4o"),
        (None, "", "gpt-4o"),
        ("openai", None, ""),
        ("openai", None, "\x00" * 1000),
        ("openai", None, "gpt-4o" * 10_000),
    ],
)
def test_what_is_not_known_is_unpriced_and_never_free(
    book: PriceBook, provider: str | None, base_url: str | None, model: str
) -> None:
    price = book.find(provider, base_url, model)
    assert price is None or price.cost_nano_usd(TokenUsage(input_tokens=1000, output_tokens=1000)) > 0


def test_a_provider_is_found_by_the_address_of_its_api(book: PriceBook) -> None:
    by_address = book.find(None, "https://api.openai.com/v1", "gpt-4o")
    assert by_address is not None
    assert by_address == book.find("openai", None, "gpt-4o")


def test_a_named_provider_wins_over_the_address(book: PriceBook) -> None:
    assert book.find("openai", "https://proxy.example.com/v1", "gpt-4o") == book.find("openai", None, "gpt-4o")


def test_a_book_that_is_not_loaded_knows_no_price() -> None:
    book = PriceBook(lambda: NOW)
    assert not book.loaded
    assert book.find("openai", None, "gpt-4o") is None


def test_what_a_local_model_costs_is_nothing() -> None:
    assert FREE.cost_nano_usd(TokenUsage(input_tokens=10**9, output_tokens=10**9)) == 0


@pytest.mark.parametrize(("pico", "nano"), [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2)])
def test_half_a_nano_dollar_is_rounded_up(pico: int, nano: int) -> None:
    price = Price(tiers=(Rates(input=1),), source="test")
    assert price.cost_nano_usd(TokenUsage(input_tokens=pico)) == nano


RATES = st.builds(
    Rates,
    input=st.integers(0, 10**8),
    output=st.integers(0, 10**8),
    cache_read=st.integers(0, 10**8),
    cache_write=st.integers(0, 10**8),
    request=st.integers(0, 10**12),
)


@given(
    rates=RATES,
    plain=st.integers(0, 10**7),
    read=st.integers(0, 10**7),
    write=st.integers(0, 10**7),
    output=st.integers(0, 10**7),
)
@settings(max_examples=200, deadline=None)
def test_each_token_is_charged_once_at_its_own_rate(
    rates: Rates, plain: int, read: int, write: int, output: int
) -> None:
    usage = TokenUsage(
        input_tokens=plain + read + write, output_tokens=output, cache_read_tokens=read, cache_write_tokens=write
    )
    cost = Price(tiers=(rates,), source="test").cost_nano_usd(usage)
    exact = plain * rates.input + read * rates.cache_read + write * rates.cache_write + output * rates.output
    exact += rates.request
    assert type(cost) is int
    assert cost >= 0
    assert -500 < cost * 1000 - exact <= 500


def test_the_whole_call_has_the_rate_of_its_size() -> None:
    price = Price(tiers=(Rates(input=1000), Rates(from_input_tokens=200_000, input=2000)), source="test")
    assert price.cost_nano_usd(TokenUsage(input_tokens=200_000)) == 200_000
    assert price.cost_nano_usd(TokenUsage(input_tokens=200_001)) == 400_002
