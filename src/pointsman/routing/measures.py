"""Figures that several strategies compare targets by: money, quota, speed. An unknown price costs infinitely much."""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

from pointsman.routing.targets import PriceTag

if TYPE_CHECKING:
    from pointsman.routing.plan import Condition, QuotaWindow
    from pointsman.routing.wants import Wants

HOUR: Final = 3600 * 1_000_000
# How long quotas last (us); OmniRoute's session is the five hours of coding plans.
LENGTHS: Final = {"session": 5 * HOUR, "daily": 24 * HOUR, "weekly": 7 * 24 * HOUR, "monthly": 30 * 24 * HOUR}
USUAL_INPUT: Final = 1000  # tokens of a request of unknown size
OUTPUT_SHARE: Final = 3  # three tokens in for one out, as OpenRouter weighs prices
LEAST_OUTPUT: Final = 100
T = TypeVar("T")


def expected_tokens(wants: "Wants") -> tuple[int, int]:
    """About how many tokens will go in and come out. What is asked for at most bounds the guess, but is none itself."""
    tokens_in = wants.input_tokens or USUAL_INPUT
    tokens_out = max(tokens_in // OUTPUT_SHARE, LEAST_OUTPUT)
    if wants.max_output_tokens:
        tokens_out = min(tokens_out, wants.max_output_tokens)
    return tokens_in, tokens_out


def cost_of(price: PriceTag | None, tokens: tuple[int, int]) -> float:
    """What so many tokens in and out cost, in pico-USD; infinite when that isn't known."""
    if price is None:
        return inf
    return price.prompt * tokens[0] + price.completion * tokens[1] + price.request


def headroom(condition: "Condition | None") -> float:
    """The part of its scarcest quota that is left; 1 when nothing is known of any."""
    if condition is None:
        return 1.0
    if condition.quota_spent:
        return 0.0
    left = 1.0 if condition.headroom is None else condition.headroom
    for window in condition.windows:
        if window.remaining < left:
            left = window.remaining
    return left


def seconds_left(window: "QuotaWindow", now: int) -> float:
    """Until a quota is whole again; infinite when that isn't known."""
    return inf if window.resets_at is None else max(0, window.resets_at - now) / 1e6


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The items, begun ``by`` places further on."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def rotated_ties(ranked: Sequence[tuple[float, T]], band: float, by: int) -> list[T]:
    """Ranked items, with those rotated that lie within ``band`` of the first of their like."""
    out: list[T] = []
    start = 0
    while start < len(ranked):
        end = start + 1
        first = ranked[start][0]
        while end < len(ranked) and (ranked[end][0] == first or abs(ranked[end][0] - first) <= band):
            end += 1
        out += rotated([item for _, item in ranked[start:end]], by)
        start = end
    return out
