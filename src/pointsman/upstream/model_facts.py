"""Facts of models, from where they are kept: the database's lists, the operator's rows, the tables of prices."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from pointsman.accounting.pricing import Price, Rates
from pointsman.fact_settings import FactSettings
from pointsman.providers.model_lists import Row
from pointsman.routing.capabilities import capabilities, instant_of
from pointsman.routing.facts import FactBook, ListedModel, Override, Served
from pointsman.routing.targets import Connection, LongPrice, ModelFacts, PriceTag
from pointsman.storage.model_lists import ModelListRepository, ModelListRow
from pointsman.upstream.minilm import MODEL_NAME as MINILM
from pointsman.upstream.model_words import ModelWords

CHAT: Final = "smollm2-135m-instruct"
MICRO: Final = 1_000_000  # USD per million tokens in pico-USD per token
PICO: Final = 10**12
MAX_KEPT: Final = 10_000
_FREE: Final = PriceTag()
LOCAL_FACTS: Final = {
    CHAT: ModelFacts(
        author="huggingfacetb", slug="huggingfacetb/smollm2-135m-instruct", name="SmolLM2 135M Instruct",
        context_tokens=4096, max_output_tokens=4096, inputs=frozenset(("text",)), outputs=frozenset(("text",)),
        parameters=frozenset((
            "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty",
            "max_tokens", "max_completion_tokens", "stop", "seed", "logit_bias", "logprobs", "top_logprobs",
            "response_format", "structured_outputs", "tools", "tool_choice",
        )),
        price=_FREE, trains=False, zdr=True, distillable=True,
    ),
    MINILM: ModelFacts(
        author="sentence-transformers", slug="sentence-transformers/all-minilm-l6-v2", name="all-MiniLM-L6-v2",
        context_tokens=512, inputs=frozenset(("text",)), outputs=frozenset(("embeddings", "rerank")),
        parameters=frozenset(), price=_FREE, quantization="int8", trains=False, zdr=True, distillable=True,
    ),
}  # fmt: skip
_lists: Final = msgspec.json.Decoder(tuple[ListedModel, ...])
log = structlog.get_logger("pointsman.models")

Tables = Mapping[str, Mapping[str, Price | None]]  # known prices by connection and model


class FactSources:
    """What is declared and kept beside the connections."""

    def __init__(self, lists: ModelListRepository, words: ModelWords) -> None:
        self.lists = lists
        self._words = words

    async def book(self, served: Mapping[str, Served], tables: Tables) -> FactBook:
        """All of it at present. ``tables`` may fill later: the book reads them when it is asked."""
        kept = {row.connection_id: models_of(row) for row in await self.lists.list() if row.connection_id in served}
        overrides = [override_of(row) for row in await self._words.rows()]

        def price(connection_id: str, model: str) -> PriceTag | None:
            found = tables.get(connection_id, {}).get(model)
            return tag_of(found) if found is not None else None

        return FactBook(
            known=capabilities, prices=price, served=served, listed=kept, overrides=overrides, local=LOCAL_FACTS
        )


def models_of(row: ModelListRow) -> tuple[ListedModel, ...]:
    """The models of a stored list; none, when another version has written what this one can't read."""
    try:
        return _lists.decode(row.models)
    except msgspec.DecodeError:
        log.warning("a stored list of models can't be read; it will be asked for again", connection=row.connection_id)
        return ()


def listed_of(row: Row) -> ListedModel:
    """A row of an upstream's list as facts."""
    price = PriceTag(**row.price, long=tuple(_long(row.price, one) for one in row.long)) if row.price else None
    facts = ModelFacts(
        author=row.slug.partition("/")[0] if row.slug is not None else None,
        slug=row.slug.lower() if row.slug is not None else None,
        name=row.title,
        context_tokens=row.context,
        max_output_tokens=row.output,
        inputs=row.inputs,
        outputs=row.outputs,
        parameters=row.parameters,
        price=price,
        quantization=row.quantization,
        created_at=row.created,
        deprecated_at=row.deprecated,
    )
    return ListedModel(name=row.name, facts=facts)


def _long(base: dict[str, int], one: dict[str, int]) -> LongPrice:
    members = ("prompt", "completion", "cache_read", "cache_write")
    merged = {name: value for name in members if (value := one.get(name, base.get(name))) is not None}
    return LongPrice(above=one["above"], **merged)


def override_of(row: FactSettings) -> Override:
    """The operator's words on a model as facts."""
    values: dict[str, Any] = {
        "context_tokens": row.context_tokens, "max_output_tokens": row.max_output_tokens,
        "quantization": row.quantization,
        "trains": row.trains, "zdr": row.zdr, "distillable": row.distillable, "service_tier": row.service_tier,
        "name": row.name, "slug": row.slug, "author": row.slug.partition("/")[0] if row.slug is not None else None,
    }  # fmt: skip
    for name in ("inputs", "outputs", "parameters"):
        words = getattr(row, name)
        values[name] = frozenset(words) if words is not None else None
    if row.deprecated is not None:
        values["deprecated_at"] = instant_of(row.deprecated)
    if row.prompt is not None and row.completion is not None:
        values["price"] = PriceTag(
            prompt=round(row.prompt * MICRO),
            completion=round(row.completion * MICRO),
            request=round(row.request * PICO),
            image=round(row.image * PICO),
            cache_read=round(row.cache_read * MICRO) if row.cache_read is not None else None,
            cache_write=round(row.cache_write * MICRO) if row.cache_write is not None else None,
        )
    return Override(model=row.model, facts=ModelFacts(**values))


def tag_of(price: Price) -> PriceTag:
    """What a call costs, for choosing and showing."""
    first = price.tiers[0]
    return PriceTag(
        prompt=first.input,
        completion=first.output,
        request=first.request,
        cache_read=first.cache_read if first.cache_read != first.input else None,
        cache_write=first.cache_write if first.cache_write != first.input else None,
        long=tuple(
            LongPrice(
                above=tier.from_input_tokens,
                prompt=tier.input,
                completion=tier.output,
                cache_read=tier.cache_read,
                cache_write=tier.cache_write,
            )
            for tier in price.tiers[1:]
        ),
    )


def price_of(tag: PriceTag, source: str) -> Price:
    """What a call costs, for the bill."""

    def rates(one: PriceTag | LongPrice, above: int) -> Rates:
        return Rates(
            from_input_tokens=above,
            input=one.prompt,
            output=one.completion,
            cache_read=one.cache_read if one.cache_read is not None else one.prompt,
            cache_write=one.cache_write if one.cache_write is not None else one.prompt,
            request=tag.request,
        )

    return Price(tiers=(rates(tag, 0), *(rates(one, one.above) for one in tag.long)), source=source)


def own_prices(book: FactBook, connection: Connection) -> Callable[[str], Price | None] | None:
    """Prices that win over the price data at a connection, by model; None where there can be none."""
    if not book.has_own(connection.id):
        return None
    known: dict[str, Price | None] = {}

    def find(model: str) -> Price | None:
        if model not in known:
            tag = book.own_price(connection, model)
            if len(known) >= MAX_KEPT:
                known.clear()
            known[model] = price_of(tag, "operator or upstream's list") if tag is not None else None
        return known[model]

    return find
