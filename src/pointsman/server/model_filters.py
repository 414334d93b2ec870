"""The query of ``GET /models``: which models are shown, in which order, and which page of them.

A model that a filter cannot be told of is left out, and goes last in an order. Two filters have no data here at all:
``category`` is checked and changes nothing, and nothing is known to lie in a ``region``. Source: openrouter.ai/docs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from pointsman.errors import GatewayError, Kind
from pointsman.server.model_cards import OUTPUTS, Card, Figures, Measure

DEFAULT_LIMIT: Final = 500
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10**9
DAY_US: Final = 86_400_000_000
MICRO: Final = 1_000_000  # pico-USD per token in USD per million
CATEGORIES: Final = frozenset(
    ("programming", "roleplay", "marketing", "marketing/seo", "seo", "technology", "science", "translation", "legal",
     "finance", "health", "trivia", "academia")
)  # fmt: skip
_INPUTS: Final = frozenset(("text", "image", "file", "audio", "video"))
_NO_DATA: Final = ("intelligence_index", "coding_index", "agentic_index", "tool_success_rate")

Keep = Callable[[Card], bool]


class Page:
    """One answer: the models in it, how many there are in all, and where the next page begins."""

    def __init__(self, cards: Sequence[Card], total: int, following: str | None) -> None:
        self.cards = cards
        self.total = total
        self.following = following


def page_of(cards: Sequence[Card], query: Mapping[str, str], now: int, measure: Measure, path: str) -> Page:
    """The models that a query wants. Raises GatewayError(INVALID_REQUEST) that names the member at fault."""
    found = sorted_cards(filtered(cards, query, now), query.get("sort"), measure)
    if "offset" not in query and "limit" not in query:
        return Page(found, len(found), None)
    offset, limit = _whole(query, "offset", 0, (0, MAX_OFFSET)), _whole(query, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
    end = offset + limit
    following = f"{path}?{urlencode({**query, 'offset': end, 'limit': limit})}" if end < len(found) else None
    return Page(found[offset:end], len(found), following)


def filtered(cards: Sequence[Card], query: Mapping[str, str], now: int) -> list[Card]:
    """The models that no filter of the query takes out. Raises GatewayError(INVALID_REQUEST)."""
    checks = [*_modalities(query), *_words(query), *_sizes(query, now), *_policies(query)]
    return [card for card in cards if all(keep(card) for keep in checks)]


def _modalities(query: Mapping[str, str]) -> list[Keep]:
    found: list[Keep] = []
    outputs = _list(query, "output_modalities") or ["text"]
    _check("output_modalities", outputs, {*OUTPUTS, "all"})
    if "all" not in outputs:
        found.append(lambda card: not frozenset(outputs).isdisjoint(card.outputs))
    inputs = _list(query, "input_modalities")
    _check("input_modalities", inputs, _INPUTS)
    if inputs:
        found.append(lambda card: frozenset(inputs) <= frozenset(card.inputs))
    return found


def _words(query: Mapping[str, str]) -> list[Keep]:
    found: list[Keep] = []
    if category := query.get("category"):
        _check("category", [category], CATEGORIES)
    if parameters := frozenset(_list(query, "supported_parameters")):
        found.append(lambda card: parameters <= card.parameters)
    if words := query.get("q", "").lower().split():
        found.append(lambda card: all(word in f"{card.id} {card.name}".lower() for word in words))
    if families := [one.lower() for one in _list(query, "arch")]:
        found.append(lambda card: card.tokenizer.lower() in families)
    if authors := [one.lower() for one in _list(query, "model_authors")]:
        found.append(lambda card: card.author.lower() in authors)
    if providers := frozenset(one.lower() for one in _list(query, "providers")):
        found.append(lambda card: any(not providers.isdisjoint(_slugs(card, at)) for at in range(len(card.targets))))
    return found


def _slugs(card: Card, at: int) -> tuple[str, ...]:
    connection = card.targets[at].connection
    return connection.vendor.lower(), connection.id.lower(), connection.kind.lower()


def _sizes(query: Mapping[str, str], now: int) -> list[Keep]:
    found: list[Keep] = []
    if "context" in query:
        least = _whole(query, "context", 0, (0, MAX_OFFSET))
        found.append(lambda card: card.context is not None and card.context >= least)
    for suffix, read in (("price", _prompt), ("output_price", _completion), ("age_days", _age(now))):
        low, high = _number(query, f"min_{suffix}"), _number(query, f"max_{suffix}")
        if low is not None or high is not None:
            found.append(_between(read, low, high))
    for suffix in _NO_DATA:
        if _number(query, f"min_{suffix}") is not None or _number(query, f"max_{suffix}") is not None:
            found.append(lambda card: False)
    return found


def _between(read: Callable[[Card], float | None], low: float | None, high: float | None) -> Keep:
    def keep(card: Card) -> bool:
        value = read(card)
        return value is not None and (low is None or value >= low) and (high is None or value <= high)

    return keep


def _prompt(card: Card) -> float | None:
    return None if card.price is None else card.price.prompt / MICRO


def _completion(card: Card) -> float | None:
    return None if card.price is None else card.price.completion / MICRO


def _age(now: int) -> Callable[[Card], float | None]:
    return lambda card: (now - card.created) / DAY_US if card.created else None


def _policies(query: Mapping[str, str]) -> list[Keep]:
    found: list[Keep] = []
    if (distillable := query.get("distillable")) is not None:
        _check("distillable", [distillable], {"true", "false"})
        wanted = distillable == "true"
        found.append(lambda card: any(target.facts.distillable is wanted for target in card.targets))
    if (zdr := query.get("zdr")) is not None:
        _check("zdr", [zdr], {"true"})
        found.append(lambda card: any(target.facts.zdr for target in card.targets))
    if (region := query.get("region")) is not None:
        _check("region", [region], {"eu", "us"})
        found.append(lambda card: False)
    return found


# orders


def sorted_cards(cards: list[Card], by: str | None, measure: Measure) -> list[Card]:
    """In the order that is asked for; those it says nothing of come last. Raises GatewayError(INVALID_REQUEST)."""
    if by is None:
        return cards
    _check("sort", [by], ORDERS)
    height = ORDERS[by]

    def rank(card: Card) -> tuple[bool, float]:
        value = height(card, measure)
        return value is None, value or 0.0

    return sorted(cards, key=rank)


Height = Callable[[Card, Measure], float | None]


def _fastest(card: Card, measure: Measure) -> float | None:
    return _best(card, measure, lambda figures: -figures.throughput["p50"] if figures.throughput else None)


def _soonest(card: Card, measure: Measure) -> float | None:
    return _best(card, measure, lambda figures: figures.latency["p50"] if figures.latency else None)


def _best(card: Card, measure: Measure, read: Callable[[Figures], float | None]) -> float | None:
    values = [value for target in card.targets if (value := read(measure(target))) is not None]
    return min(values, default=None)


def _cost(card: Card) -> float | None:
    """A weighted mean of prompt and completion: three to one."""
    return None if card.price is None else (3 * card.price.prompt + card.price.completion) / 4


def _unknown(card: Card, measure: Measure) -> None:
    return None


ORDERS: Final[dict[str, Height]] = {
    "newest": lambda card, _: -card.created if card.created else None,
    "pricing-low-to-high": lambda card, _: _cost(card),
    "pricing-high-to-low": lambda card, _: None if (cost := _cost(card)) is None else -cost,
    "context-high-to-low": lambda card, _: None if card.context is None else -card.context,
    "throughput-high-to-low": _fastest,
    "latency-low-to-high": _soonest,
    "most-popular": _unknown,
    "top-weekly": _unknown,
    "intelligence-high-to-low": _unknown,
    "coding-high-to-low": _unknown,
    "agentic-high-to-low": _unknown,
    "design-arena-elo-high-to-low": _unknown,
}


# members of the query


def _list(query: Mapping[str, str], name: str) -> list[str]:
    return [word for one in query.get(name, "").split(",") if (word := one.strip())]


def _check(name: str, words: Sequence[str], known: Any) -> None:
    for word in words:
        if word not in known:
            raise _wrong(name, f"must be of {', '.join(sorted(known))}")


def _number(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if text is None or not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise _wrong(name, "must be a number") from None
    if not 0 <= value <= MAX_OFFSET:
        raise _wrong(name, "must be a number from 0")
    return value


def _whole(query: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 12 or not bounds[0] <= int(text) <= bounds[1]:
        raise _wrong(name, f"must be a whole number from {bounds[0]} to {bounds[1]}")
    return int(text)


def _wrong(name: str, what: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"'{name}' {what}", param=name)
