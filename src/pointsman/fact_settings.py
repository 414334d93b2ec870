"""The operator's words on models: what they cost, hold and can do, where lists and price data don't know better."""

import re
from typing import Annotated, Final

import msgspec

from pointsman.errors import ConfigError

MAX_NAME: Final = 512  # characters of a model's name or pattern, as in the catalogue
MAX_WORD: Final = 200
MAX_WORDS: Final = 200
_DAY: Final = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class FactSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One ``[[facts]]`` row: the operator's word on a model. Prices in USD, of tokens per million.

    The same words are stored when they come by command or over the API.
    """

    model: str
    prompt: Dollars | None = None
    completion: Dollars | None = None
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    request: Dollars = 0.0
    image: Dollars = 0.0
    context_tokens: Count | None = None
    max_output_tokens: Count | None = None
    inputs: list[str] | None = None
    outputs: list[str] | None = None
    parameters: list[str] | None = None
    quantization: str | None = None
    trains: bool | None = None
    zdr: bool | None = None
    distillable: bool | None = None
    service_tier: str | None = None
    name: str | None = None
    slug: str | None = None
    deprecated: str | None = None


def check_fact(row: FactSettings, place: str) -> None:
    """What every such row must satisfy, from a file, a command or the API; raises ConfigError that names the field."""
    if not 0 < len(row.model) <= MAX_NAME or not row.model.isprintable():
        raise ConfigError(f"{place}.model: must name a model, e.g. work/gpt-5.2 or openai/*")
    if (row.prompt is None) != (row.completion is None):
        raise ConfigError(f"{place}: prompt and completion belong together; one of them is missing")
    if row.slug is not None and not all(row.slug.partition("/")):
        raise ConfigError(f"{place}.slug: must be author/name")
    if row.deprecated is not None and _DAY.fullmatch(row.deprecated) is None:
        raise ConfigError(f"{place}.deprecated: must be a day, YYYY-MM-DD")
    for field in ("quantization", "service_tier", "name", "slug"):
        if len(getattr(row, field) or "") > MAX_WORD:
            raise ConfigError(f"{place}.{field}: must have at most {MAX_WORD} characters")
    for field in ("inputs", "outputs", "parameters"):
        words = getattr(row, field) or ()
        if len(words) > MAX_WORDS or any(not 0 < len(word) <= MAX_WORD for word in words):
            raise ConfigError(f"{place}.{field}: must be at most {MAX_WORDS} words of 1 to {MAX_WORD} characters")
