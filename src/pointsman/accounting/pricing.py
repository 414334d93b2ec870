"""What a call costs, in integers: rates in pico-USD per token, costs in nano-USD. Prices come from genai-prices.

A pico-USD per token is a micro-USD per million tokens, so a price in dollars per million tokens with up to six decimals
is a whole number; the few finer ones are rounded. Not modelled: 1-hour cache writes, audio, images, video, searches,
pages and separately priced reasoning. A model without a known price is *unpriced* (None), never free.
"""

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pointsman.canonical.ledger import MOST_NANO_USD
from pointsman.canonical.usage import TokenUsage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

PICO_PER_NANO: Final = 1000
MICRO: Final = 1_000_000
MAX_KNOWN: Final = 10_000  # callers can name any model of an open connection


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Pico-USD per token, and per request. ``from_input_tokens``: the whole call has these rates from this size on."""

    from_input_tokens: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    request: int = 0


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs from an instant on (us), until the next period begins."""

    valid_from: int
    tiers: tuple[Rates, ...]


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """A model's price now: rate tables by size of the input, smallest first, and where the figures come from.

    ``as_of`` is the day of the source's newest figures, ``valid_from`` the one on which the provider began to take
    these, both as YYYY-MM-DD and None when the source does not say. ``periods`` are there when the price changes within
    days: then a call costs what held when it came in.
    """

    tiers: tuple[Rates, ...]
    source: str
    as_of: str | None = None
    valid_from: str | None = None
    periods: tuple[Period, ...] = ()

    def tiers_at(self, instant: int) -> tuple[Rates, ...]:
        """The rates at an instant in us; what is before the first period has the first one's."""
        found = self.periods[0].tiers if self.periods else self.tiers
        for period in self.periods:
            if period.valid_from > instant:
                break
            found = period.tiers
        return found

    def cost_nano_usd(self, usage: TokenUsage, instant: int | None = None) -> int:
        """What a call of this instant (us; without it: now) costs in nano-USD, rounded half up, a million USD at most.

        Cached tokens are counted once, at their own rate.
        """
        tiers = self.tiers if instant is None or not self.periods else self.tiers_at(instant)
        rates = tiers[0]
        for tier in tiers[1:]:
            if usage.input_tokens > tier.from_input_tokens:
                rates = tier
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        pico = (
            plain * rates.input
            + usage.cache_read_tokens * rates.cache_read
            + usage.cache_write_tokens * rates.cache_write
            + usage.output_tokens * rates.output
            + rates.request
        )
        return min((pico + PICO_PER_NANO // 2) // PICO_PER_NANO, MOST_NANO_USD)  # no odd count breaks the books

    def most_nano_usd(self, input_tokens: int, output_tokens: int, instant: int | None = None) -> int:
        """The most that a call of this size and instant can cost, in nano-USD, rounded up: whatever is cached, in any
        tier that so many tokens can reach.
        """
        known = self.tiers if instant is None or not self.periods else self.tiers_at(instant)
        pico = max(
            input_tokens * max(rates.input, rates.cache_read, rates.cache_write)
            + output_tokens * rates.output
            + rates.request
            for place, rates in enumerate(known)
            if not place or input_tokens > rates.from_input_tokens
        )
        return min(-(-pico // PICO_PER_NANO), MOST_NANO_USD)


FREE: Final = Price(tiers=(Rates(),), source="local model")


class PriceBook:
    """Prices by provider and model, looked up once each and kept until `refresh`.

    The data set is imported by `load`, which takes some 200 ms: call it in a thread, before the first `find`.
    """

    def __init__(self, now: Callable[[], datetime.datetime]) -> None:
        self._now = now
        self._snapshot: DataSnapshot | None = None
        self._name = "genai-prices"
        self._as_of: str | None = None
        self._known: dict[tuple[str | None, str | None, str], Price | None] = {}

    @property
    def loaded(self) -> bool:
        """True once prices can be looked up."""
        return self._snapshot is not None

    def load(self) -> None:
        """Import the price data. Blocking."""
        from genai_prices import __version__
        from genai_prices.data_snapshot import get_snapshot  # heavy (pydantic): kept off the start and the CLI

        self._snapshot = get_snapshot()
        self._name = f"genai-prices {__version__}"
        models = (model for provider in self._snapshot.providers for model in provider.models)
        dated = [one for model in models if isinstance(model.prices, list) for one in model.prices]
        self._as_of = _begin(dated, self._now())

    def refresh(self) -> None:
        """Forget what was looked up: prices change at dates."""
        self._known.clear()

    def find(self, provider: str | None, base_url: str | None, model: str) -> Price | None:
        """The price of ``model`` at a provider, named as in genai-prices or by its API's URL; None: unpriced."""
        key = (provider, base_url, model)
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._look_up(provider, base_url, model)
        return self._known[key]

    def _look_up(self, provider: str | None, base_url: str | None, model: str) -> Price | None:
        if self._snapshot is None or (provider is None and base_url is None):
            return None
        try:
            found, info = self._snapshot.find_provider_model(model, None, provider, None if provider else base_url)
        except LookupError:
            return None
        now = self._now()
        price = _price(info.get_prices(now), f"{self._name}: {found.id}/{info.id}")
        if price is None:
            return None
        price = msgspec.structs.replace(price, as_of=self._as_of)
        if not isinstance(info.prices, list):
            return price
        return msgspec.structs.replace(price, valid_from=_begin(info.prices, now), periods=_periods(info, now))


def _price(prices: Any, source: str) -> Price | None:
    if prices.input_mtok is None and prices.output_mtok is None and prices.requests_kcount is None:
        return None
    return Price(tiers=_tiers(prices), source=source)


def _tiers(prices: Any) -> tuple[Rates, ...]:
    starts = {0}
    for value in (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok, prices.cache_write_mtok):
        starts.update(tier.start for tier in getattr(value, "tiers", ()))
    return tuple(_rates(prices, start) for start in sorted(starts))


def _begin(conditional: list[Any], now: datetime.datetime) -> str | None:
    """The newest day on which a price began."""
    days = [getattr(one.constraint, "start_date", None) for one in conditional]
    begun = [day for day in days if day is not None and day <= now.date()]
    return max(begun).isoformat() if begun else None


def _periods(info: Any, now: datetime.datetime) -> tuple[Period, ...]:
    """The prices from yesterday to the day after tomorrow (UTC), when they are not one and the same."""
    midnight = now.astimezone(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight + datetime.timedelta(days=number) for number in (-1, 0, 1, 2)]
    instants = set(days)
    for one in info.prices:
        for name in ("start_time", "end_time"):
            clock = getattr(one.constraint, name, None)
            if clock is not None:
                zone = clock.tzinfo or datetime.UTC
                instants |= {datetime.datetime.combine(day.date(), clock, zone) for day in days}
    found: list[Period] = []
    for instant in sorted(instants):
        tiers = _tiers(info.get_prices(instant))
        if not found or found[-1].tiers != tiers:
            found.append(Period(valid_from=int(instant.timestamp() * 1e6), tiers=tiers))
    return tuple(found) if len(found) > 1 else ()


def _rates(prices: Any, start: int) -> Rates:
    def rate(value: Any, otherwise: int = 0) -> int:
        if value is None:
            return otherwise
        if not isinstance(value, Decimal):
            value = next((tier.price for tier in reversed(value.tiers) if tier.start <= start), value.base)
        return int((Decimal(value) * MICRO).to_integral_value())

    plain = rate(prices.input_mtok)
    return Rates(
        from_input_tokens=start,
        input=plain,
        output=rate(prices.output_mtok),
        cache_read=rate(prices.cache_read_mtok, plain),
        cache_write=rate(prices.cache_write_mtok, plain),
        request=rate(prices.requests_kcount) * 1000,  # dollars per 1,000 requests: pico-USD = micro-USD x 10^9 / 10^6
    )
