"""What the shipped file (data/models.json) knows of models: context, limits, modalities, parameters, end of life.

The file is made by docs/generate_models.py, which also tells where its figures come from. It is read when the first
model has to be known, and its rows are decoded one by one when they are asked for: most are never.
"""

import datetime
import re
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from pointsman.routing.targets import ModelFacts

SOURCE: Final = "models.json"
_FILE: Final = Path(__file__).with_name("data") / SOURCE
# Regions and vendors before a model's name at Amazon and in copies of its names.
_PREFIX: Final = re.compile(
    r"(?:(?:us|us-gov|eu|apac|global|jp|au)\.)?"
    r"(?:anthropic|amazon|meta|mistral|cohere|deepseek|openai|qwen|ai21|minimax|moonshotai?|zai|google|nvidia|writer)\."
)
_DATE: Final = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d|latest)$")
_VERSION: Final = re.compile(r"(?:-v\d+)?:\d+$")  # Amazon's: -v1:0
_VARIANT: Final = re.compile(r"(?::(?:free|extended|thinking|exacto|nitro|floor|online|batch|beta))+$")

# Members of requests that our halves carry to an API, by its wire format. What a model's row has comes on top.
_SAMPLING: Final = frozenset(("temperature", "top_p"))
_COMMON: Final = frozenset(("max_tokens", "max_completion_tokens", "stop"))
_MORE: Final = {
    "openai.chat": {"frequency_penalty", "presence_penalty", "seed", "logit_bias", "logprobs", "top_logprobs"},
    "openai.responses": {"top_logprobs"},
    "anthropic": {"top_k"},
    "gemini": {"top_k", "frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs"},
    "ollama": {"top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed"},
    "cohere": {"top_k", "frequency_penalty", "presence_penalty", "seed", "logprobs"},
    "bedrock": {"top_k"},
}
_PENALTIES: Final = frozenset(("frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs"))


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model in the file. ``c`` is its context and ``o`` its largest output in tokens, ``i`` and ``u`` are modalities
    beside text and out, ``p`` members of requests, ``s`` false: it takes no sampling parameters, ``d`` the day of its
    end, ``n`` its name.
    """

    n: str | None = None
    c: int | None = None
    o: int | None = None
    i: tuple[str, ...] | None = None
    u: tuple[str, ...] | None = None
    p: tuple[str, ...] | None = None
    s: bool = True
    d: str | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures come from."""

    name: str
    version: str
    date: str
    licence: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The file's own facts."""

    generated: str
    sources: tuple[Source, ...]


class _File(msgspec.Struct, frozen=True, kw_only=True):
    about: Head
    models: dict[str, msgspec.Raw]
    names: dict[str, str]
    hosts: dict[str, dict[str, msgspec.Raw]]


_row: Final = msgspec.json.Decoder(Row)


class Capabilities:
    """The file, ready to be asked."""

    def __init__(self, data: bytes) -> None:
        self._file = msgspec.json.decode(data, type=_File)

    @property
    def about(self) -> Head:
        """Sources and dates."""
        return self._file.about

    def slug(self, model: str) -> str | None:
        """``author/name`` of a model by the name that some upstream has for it; None when nobody knows."""
        bare = _VARIANT.sub("", model.lower())
        if bare in self._file.models:
            return bare
        names, plain = self._file.names, plain_name(model, dated=True)
        return names.get(plain) or names.get(_DATE.sub("", plain))

    def facts(self, host: str, wire: str, model: str) -> ModelFacts:
        """What is known of a model at a host, reached in its wire format."""
        slug = self.slug(model)
        row = _row.decode(self._file.models[slug]) if slug is not None else None
        here = self._file.hosts.get(host, {}).get(model)
        if here is not None:
            row = _over(_row.decode(here), row)
        if row is None:
            return ModelFacts()
        variant = _VARIANT.search(model.lower())
        return ModelFacts(
            author=slug.partition("/")[0] if slug is not None else None,
            slug=slug + (variant.group() if variant is not None else "") if slug is not None else None,
            name=row.n,
            context_tokens=row.c,
            max_output_tokens=row.o,
            inputs=frozenset(("text", *row.i)) if row.i is not None else None,
            outputs=frozenset(row.u) if row.u is not None else None,
            parameters=_parameters(row, wire),
            deprecated_at=instant_of(row.d) if row.d is not None else None,
        )


@cache
def capabilities() -> Capabilities:
    """The file as it is shipped."""
    return Capabilities(_FILE.read_bytes())


def plain_name(model: str, *, dated: bool = False) -> str:
    """A model's name without what hosts add to it: organisation, region, version, variant; the date goes too, unless
    ``dated``. Upper case and dots make no difference.
    """
    name = _VARIANT.sub("", model.lower().rpartition("/")[2].partition("@")[0])
    name = _VERSION.sub("", _PREFIX.sub("", name, count=1))
    name = name.replace(".", "-").replace("_", "-").replace(":", "-").replace(" ", "-")
    return name if dated else _DATE.sub("", name)


def is_dated(model: str) -> bool:
    """Whether a name means one dated release: another one must not take its place."""
    found = _DATE.search(plain_name(model, dated=True))
    return found is not None and found.group() != "-latest"


def instant_of(day: str) -> int:
    """A day (YYYY-MM-DD) as the microsecond at which it begins in UTC. Raises ValueError."""
    moment = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 1_000_000


def _over(above: Row, below: Row | None) -> Row:
    """What a host's own row says, the rest from the model's."""
    if below is None:
        return above
    said = {name: value for name in above.__struct_fields__ if (value := getattr(above, name)) is not None}
    said["s"] = above.s and below.s
    return msgspec.structs.replace(below, **said)


def _parameters(row: Row, wire: str) -> frozenset[str] | None:
    if row.p is None:
        return None
    if row.u is not None and "text" not in row.u:
        return frozenset(row.p)
    more = frozenset(_MORE.get(wire, ()))
    base = _COMMON | more | _SAMPLING if row.s else _COMMON | (more - _PENALTIES)
    return base | frozenset(row.p)
