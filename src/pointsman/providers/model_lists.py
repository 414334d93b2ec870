"""What upstreams' own lists of models say beside the names: context, limits, prices, modalities, parameters.

Each vendor has members of its own; whatever isn't there, or isn't what it should be, is not known. A list never fails
for an odd row.
"""

import datetime
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.providers.formats import ModelListing

MAX_MODELS: Final = 5000  # of one upstream
MAX_NAME: Final = 256
MAX_TOKENS: Final = 10**9
_SLUG: Final = re.compile(r"[a-z0-9][\w.-]*/[\w.:-]+", re.ASCII)  # as OpenRouter names models
PICO: Final = 10**12
_any: Final = msgspec.json.Decoder()

# Members that hold a size in tokens, as far as public documentation of the vendors names them.
_CONTEXT: Final = (
    "context_length", "context_window", "max_context_length", "inputTokenLimit", "max_model_len", "max_input_tokens",
)  # fmt: skip
_OUTPUT: Final = ("max_completion_tokens", "outputTokenLimit", "max_output_tokens", "max_output_length", "max_tokens")
_MODALITIES: Final = frozenset(
    ("text", "image", "file", "audio", "video", "embeddings", "rerank", "speech", "transcription")
)


class Row(NamedTuple):
    """One model of a list. Prices are pico-USD per token, request or picture; sizes in tokens; ``created`` in us."""

    name: str
    title: str | None
    slug: str | None
    context: int | None
    output: int | None
    inputs: frozenset[str] | None
    outputs: frozenset[str] | None
    parameters: frozenset[str] | None
    price: dict[str, int] | None
    long: tuple[dict[str, int], ...]
    quantization: str | None
    created: int | None
    deprecated: int | None


def read_models(body: bytes, listing: ModelListing) -> list[Row]:
    """The models of a list, 5,000 at most. Raises GatewayError(UPSTREAM_ERROR) when it is none."""
    try:
        document: Any = _any.decode(body)
        rows = document if isinstance(document, list) else document[listing.member]
        found = [row for one in rows[:MAX_MODELS] if (row := _row(one, listing)) is not None]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not a list of models") from None
    return found


def _row(one: Any, listing: ModelListing) -> Row | None:
    if not isinstance(one, dict):
        return None
    name = one.get(listing.name)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        return None
    top, shape = _table(one, "top_provider"), _table(one, "architecture")
    titles = ("displayName",) if listing.name == "name" else ("name", "display_name", "displayName")
    return Row(
        name=name.removeprefix(listing.prefix),
        title=_text(one, titles),
        slug=name.lower() if (top or shape) and _SLUG.fullmatch(name.lower()) else None,
        context=_least(_tokens(one, _CONTEXT), _tokens(top, _CONTEXT)),
        output=_tokens(top, _OUTPUT) or _tokens(one, _OUTPUT),
        inputs=_modalities(shape, "input_modalities") or _modalities(one, "input_modalities"),
        outputs=_modalities(shape, "output_modalities") or _modalities(one, "output_modalities"),
        parameters=_words(one, "supported_parameters") or _words(one, "supported_sampling_parameters"),
        price=_price(_table(one, "pricing")),
        long=_long(_table(one, "pricing")),
        quantization=_text(one, ("quantization",)),
        created=_instant(one.get("created") or one.get("created_at")),
        deprecated=_instant(one.get("expiration_date") or one.get("deprecation")),
    )


def _table(one: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = one.get(name)
    return value if isinstance(value, dict) else {}


def _text(one: Mapping[str, Any], names: Iterable[str]) -> str | None:
    found = next((value for name in names if isinstance(value := one.get(name), str) and value), None)
    return found[:MAX_NAME] if found is not None and found.isprintable() else None


def _tokens(one: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = one.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TOKENS:
            return value
    return None


def _least(one: int | None, other: int | None) -> int | None:
    return min(one, other) if one is not None and other is not None else one or other


def _modalities(one: Mapping[str, Any], name: str) -> frozenset[str] | None:
    words = _words(one, name)
    return (words & _MODALITIES) or None if words is not None else None


def _words(one: Mapping[str, Any], name: str) -> frozenset[str] | None:
    value = one.get(name)
    if not isinstance(value, list) or not value or len(value) > 100:
        return None
    return frozenset(word for word in value if isinstance(word, str) and 0 < len(word) < 64) or None


def _price(pricing: Mapping[str, Any]) -> dict[str, int] | None:
    """OpenRouter's words: USD per token as text. A negative price means that it depends."""
    found = _rates(pricing)
    return found if found is not None and "prompt" in found and "completion" in found else None


_RATES: Final = {
    "prompt": "prompt", "completion": "completion", "request": "request", "image": "image", "audio": "audio",
    "input_cache_read": "cache_read", "input_cache_write": "cache_write",
}  # fmt: skip


def _rates(pricing: Mapping[str, Any]) -> dict[str, int] | None:
    found = {}
    for theirs, ours in _RATES.items():
        value = pricing.get(theirs)
        if isinstance(value, str):
            rate = pico(value)
            if rate is None:
                return None
            found[ours] = rate
    return found


def _long(pricing: Mapping[str, Any]) -> tuple[dict[str, int], ...]:
    """Prices that hold from a size of the input on; other conditions are left alone."""
    found = []
    overrides = pricing.get("overrides")
    for one in overrides if isinstance(overrides, list) else ():
        if isinstance(one, dict) and not {"utc_start", "utc_end", "utc_days"} & one.keys():
            above, rates = _tokens(one, ("min_prompt_tokens",)), _rates(one)
            if above is not None and rates is not None:
                found.append({"above": above, **rates})
    return tuple(sorted(found, key=lambda one: one["above"]))


def pico(usd: str) -> int | None:
    """USD as pico-USD, rounded; None for what is no amount."""
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        return None
    return int((amount * PICO).to_integral_value()) if amount.is_finite() and 0 <= amount < MAX_TOKENS else None


def _instant(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**11:
        return value * 1_000_000
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 1_000_000 if moment.year > 1970 else None
