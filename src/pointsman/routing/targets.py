"""What routing chooses between: models at connections, and what is known of each."""

import msgspec


class LongPrice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds instead for a whole call whose input is larger than ``above`` tokens: pico-USD per token."""

    above: int
    prompt: int = 0
    completion: int = 0
    cache_read: int | None = None
    cache_write: int | None = None


class PriceTag(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model costs, for choosing and showing (accounting has its own): pico-USD per token, request or picture.

    ``long`` has the smallest size first. Cached tokens without a price of their own cost as much as others.
    """

    prompt: int = 0
    completion: int = 0
    request: int = 0
    image: int = 0
    audio: int = 0
    cache_read: int | None = None
    cache_write: int | None = None
    long: tuple[LongPrice, ...] = ()


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a model at one connection. None is *not known*, which excludes nothing by itself.

    Sizes in tokens, instants in microseconds. ``inputs`` and ``outputs`` are modalities (``text``, ``image``, ``file``,
    ``audio``, ``video``), ``parameters`` members of a request by OpenRouter's names. ``trains``: the provider may learn
    from what it is sent; ``zdr``: it keeps nothing of it. ``service_tier`` is set for endpoints that are none of the
    default tier.
    """

    author: str | None = None
    slug: str | None = None  # author/name, the same wherever the model is served
    name: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    inputs: frozenset[str] | None = None
    outputs: frozenset[str] | None = None
    parameters: frozenset[str] | None = None
    price: PriceTag | None = None
    quantization: str | None = None
    trains: bool | None = None
    zdr: bool | None = None
    distillable: bool | None = None
    service_tier: str | None = None
    created_at: int | None = None
    deprecated_at: int | None = None


UNKNOWN = ModelFacts()


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One account at an upstream, as routing sees it: no credential, no address. No ``models`` means any.

    ``hidden`` names models that can be asked for but should not be offered (a local model not yet installed), ``apart``
    those that are reached in a way of their own. A smaller ``priority`` is tried earlier. ``mark`` changes with the
    credential and the address: what was held against the old ones says nothing about the new.
    """

    id: str
    kind: str
    provider: str | None = None
    models: tuple[str, ...] = ()
    priority: int = 0
    created_at: int = 0
    hidden: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    mark: str = ""

    @property
    def vendor(self) -> str:
        """Who stands behind it: accounts of one vendor share its breaker."""
        return self.provider or self.kind


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request can go: a connection and the model's name there. ``encoded`` is that name as JSON, ``endpoint``
    the key of the way there, ``id`` the full name, ``connection/model``.
    """

    id: str
    connection: Connection
    model: str
    encoded: msgspec.Raw
    endpoint: str
    facts: ModelFacts = UNKNOWN

    @property
    def listed(self) -> bool:
        """Whether it is offered in lists."""
        return self.model not in self.connection.hidden


def target_of(connection: Connection, model: str, facts: ModelFacts = UNKNOWN) -> Target:
    """A model at a connection."""
    return Target(
        id=f"{connection.id}/{model}",
        connection=connection,
        model=model,
        encoded=msgspec.Raw(msgspec.json.encode(model)),
        endpoint=f"{connection.id}/{model}" if model in connection.apart else connection.id,
        facts=facts,
    )
