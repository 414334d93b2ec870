"""What a request says to routing itself: OpenRouter's members of a request, checked, and taken out of it.

They are meant for the gateway: an upstream gets them only when it is OpenRouter too. ``provider`` may be an object of
preferences, or a string, which pins one provider. Source: openrouter.ai/docs (provider routing), as of 2026-11.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.routing.targets import Target
from pointsman.routing.wants import NO_PREFERENCES, Percentiles, Preferences, SortBy
from pointsman.secret import Secret
from pointsman.wire.members import Members, read_request

# Members that are for routing alone. A request that has one of them is looked at more closely.
SECRET: Final = "provider_key"  # Hardcarrx's: the pinned provider's credential, for this one request
MEMBERS: Final = frozenset(("provider", "models", "route", "session_id", "fallbacks", "preset", SECRET))
# An API that has a member of the name itself keeps it: ``fallbacks`` is OpenRouter's only beside Anthropic's words.
ONLY_OF: Final = {"fallbacks": "anthropic"}
HARDCARRX: Final = "hardcarrx"  # the API that has `SECRET`, and switches of the cache in its body
CACHE_SWITCHES: Final = {"cache": True, "no_cache": False}  # what ``true`` means for each
MAX_SECRET: Final = 4096  # characters
MAX_MODELS: Final = 32
MAX_FALLBACKS: Final = 3
MAX_NAME: Final = 256
MAX_SLUGS: Final = 200
MAX_SESSION: Final = 256
SESSION_HEADER: Final = b"x-session-id"
SORTS: Final = ("price", "throughput", "latency", "exacto")
QUANTIZATIONS: Final = frozenset(
    ("int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown")
)
# max_price: USD per million tokens, or per request, picture or unit of sound; ours are pico-USD per one.
UNITS: Final = {"prompt": 10**6, "completion": 10**6, "request": 10**12, "image": 10**12, "audio": 10**12}
PERCENTILES: Final = ("p50", "p75", "p90", "p99")
_SWITCHES: Final = {
    "require_parameters": "require_parameters",
    "zdr": "zdr",
    "enforce_distillable_text": "distillable",
}
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says to routing. ``whole`` is its body as it came, ``bare`` without these members; ``options``
    are members for one provider, by its slug. ``pin`` is the one provider that a name means, ``secret`` the key that
    the request brings for it, which is in no body. ``cache``: an answer may come from the response cache, or must not.
    """

    whole: bytes
    bare: bytes
    preferences: Preferences = NO_PREFERENCES
    models: tuple[str, ...] = ()
    session: str | None = None
    options: dict[str, dict[str, Any]] = {}
    pin: str | None = None
    secret: Secret | None = None
    cache: bool | None = None

    def body_for(self, target: Target) -> bytes:
        """The body for a target: whole for OpenRouter itself, else bare, with the options for its provider."""
        if keeps_wishes(target):
            return self.whole
        for slug, members in self.options.items():
            if slug.lower() in (target.connection.vendor.lower(), target.connection.id.lower()) and members:
                return _encode(_fields.decode(self.bare) | {name: _encoded(value) for name, value in members.items()})
        return self.bare


def keeps_wishes(target: Target) -> bool:
    """Whether an upstream reads these members itself."""
    return target.connection.vendor == "openrouter"


def read_wishes(body: bytes, wire: str) -> Wishes:
    """The wishes in a body that has some; ``wire`` is the client's API.

    Raises GatewayError(INVALID_REQUEST) that names the member at fault.
    """
    top = read_request(body, "'model'")
    fields = _fields.decode(body)
    pin, secret, cache = _pin(top), _secret(top, wire), _cache(top, wire)
    if SECRET in fields or pin is not None:  # a name is nothing that another router could read
        ours = (SECRET,) if pin is None else (SECRET, "provider")
        body = _encode({name: value for name, value in fields.items() if name not in ours})
    for name in MEMBERS:
        if ONLY_OF.get(name, wire) == wire:
            fields.pop(name, None)
    preferences, options = _preferences(top)
    across = _across_models(top)
    if across is not None and preferences.across_models is not across:
        preferences = msgspec.structs.replace(preferences, across_models=across)
    models = _models(top)
    if wire == ONLY_OF["fallbacks"] and "fallbacks" in top:
        models = _fallbacks(top)
    return Wishes(
        whole=body,
        bare=_encode(fields),
        preferences=preferences,
        models=models,
        session=checked_session(top.string("session_id"), "session_id"),
        options=options,
        pin=pin,
        secret=secret,
        cache=cache,
    )


def has_secret(body: bytes) -> bool:
    """Whether a body brings a provider's key. One that can't be read has none: it is refused."""
    if b"provider" not in body and b"\\u" not in body:
        return False
    try:
        return SECRET in _fields.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False


def refuse_secret(body: bytes) -> None:
    """Raises GatewayError(INVALID_REQUEST) for a body that brings a provider's key where none is taken."""
    if has_secret(body):
        raise _secret_elsewhere()


def _secret_elsewhere() -> GatewayError:
    message = f"'{SECRET}' is taken on a chat whose 'provider' is the name of a provider, and nowhere else"
    return GatewayError(Kind.INVALID_REQUEST, message, param=SECRET)


def _pin(top: Members) -> str | None:
    value = top.value.get("provider")
    return value if isinstance(value, str) else None


def _secret(top: Members, wire: str) -> Secret | None:
    """The key that a request brings. No word of it is repeated, whatever is wrong with it."""
    if SECRET not in top.value:
        return None
    value = top.value[SECRET]
    if value is None:
        return None
    if wire != HARDCARRX or _pin(top) is None:
        raise _secret_elsewhere()
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SECRET or not all("!" <= one <= "~" for one in value):
        message = f"'{SECRET}' must be 1 to {MAX_SECRET} visible ASCII characters without spaces"
        raise GatewayError(Kind.INVALID_REQUEST, message, param=SECRET)
    return Secret(value)


def _cache(top: Members, wire: str) -> bool | None:
    """Hardcarrx's switches: ``cache`` true or false, ``no_cache`` true. Who forbids wins."""
    found: list[bool] = []
    for name, meaning in CACHE_SWITCHES.items() if wire == HARDCARRX else ():
        value = top.value.get(name)
        if isinstance(value, bool) and (value or meaning):
            found.append(value is meaning)
    return all(found) if found else None


def named_model(body: bytes, default: str | None) -> bytes | None:
    """A body that names no model, with one: the first of its ``models``, or the default. None: it names one, or there
    is none to name.
    """
    try:
        top = read_request(body, "'model'")
        models = _models(top)
    except GatewayError:
        return None
    chosen = models[0] if models else default
    if chosen is None or top.value.get("model") is not None:
        return None
    return _encode(_fields.decode(body) | {"model": _encoded(chosen)})


def checked_session(name: str | None, member: str) -> str | None:
    """A conversation's name. Raises GatewayError(INVALID_REQUEST) for one that is too long."""
    if name is not None and len(name) > MAX_SESSION:
        raise GatewayError(Kind.INVALID_REQUEST, f"'{member}' is longer than {MAX_SESSION} characters", param=member)
    return name or None


def _preferences(top: Members) -> tuple[Preferences, dict[str, dict[str, Any]]]:
    value = top.raw("provider")
    if value is None:
        return NO_PREFERENCES, {}
    if isinstance(value, str):
        if not value:
            raise top.wrong("provider", "is empty")
        return Preferences(only=(value,), allow_fallbacks=False), {}
    if not isinstance(value, dict):
        raise top.wrong("provider", "must be an object of preferences or the name of a provider")
    members = Members(value, "provider")
    sort, across = _sort(members)
    allow = members.boolean("allow_fallbacks")
    switches: dict[str, Any] = {ours: members.boolean(theirs) or False for theirs, ours in _SWITCHES.items()}
    only = _slugs(members, "only")
    options = _options(members)
    preferences = Preferences(
        order=_slugs(members, "order") or (),
        only=only or None,
        ignore=_slugs(members, "ignore") or (),
        allow_fallbacks=allow is not False,
        deny_data_collection=members.one_of("data_collection", "allow", "deny") == "deny",
        quantizations=_quantizations(members),
        sort=sort,
        across_models=across,
        max_price=_max_price(members),
        min_throughput=_percentiles(members, "preferred_min_throughput"),
        max_latency=_percentiles(members, "preferred_max_latency"),
        **switches,
    )
    _refuse_rest(members)
    return preferences, options


def _refuse_rest(members: Members) -> None:
    unknown = next((name for name in members.value if name not in members.read), None)
    if unknown is not None:
        raise members.wrong(unknown, "is not known here")


def _slugs(members: Members, name: str) -> tuple[str, ...] | None:
    found = members.strings(name)
    if found is None:
        return None
    if len(found) > MAX_SLUGS:
        raise members.wrong(name, f"must name at most {MAX_SLUGS} providers")
    return tuple(found)


def _quantizations(members: Members) -> tuple[str, ...]:
    found = members.strings("quantizations") or []
    if not QUANTIZATIONS.issuperset(found):
        raise members.wrong("quantizations", f"must be of {', '.join(sorted(QUANTIZATIONS))}")
    return tuple(found)


def _sort(members: Members) -> tuple[SortBy | None, bool]:
    if not isinstance(members.raw("sort"), dict):
        return members.one_of("sort", *SORTS), False  # type: ignore[return-value]
    inner = members.object("sort")
    assert inner is not None
    by, partition = inner.one_of("by", *SORTS), inner.one_of("partition", "model", "none")
    _refuse_rest(inner)
    return by, partition == "none"  # type: ignore[return-value]


def _max_price(members: Members) -> dict[str, int]:
    inner = members.object("max_price")
    if inner is None:
        return {}
    most = {unit: price for unit in UNITS if (price := _price(inner, unit)) is not None}
    _refuse_rest(inner)
    return most


def _price(members: Members, unit: str) -> int | None:
    value = members.raw(unit)
    if value is None:
        return None
    try:
        price = Decimal(str(value)) if type(value) in (int, float, str) else None
    except ArithmeticError:
        price = None
    if price is None or not price.is_finite() or not 0 <= price < 10**9:
        raise members.wrong(unit, "must be a price in USD")
    return int(price * UNITS[unit])


def _percentiles(members: Members, name: str) -> Percentiles | None:
    if not isinstance(members.raw(name), dict):
        value = members.number(name)
        return None if value is None else Percentiles(p50=_positive(members, name, value))
    inner = members.object(name)
    assert inner is not None
    bounds = {at: _positive(inner, at, value) for at in PERCENTILES if (value := inner.number(at)) is not None}
    _refuse_rest(inner)
    return Percentiles(**bounds)


def _positive(members: Members, name: str, value: float) -> float:
    if value < 0:
        raise members.wrong(name, "must not be below 0")
    return float(value)


def _options(members: Members) -> dict[str, dict[str, Any]]:
    options = members.mapping("options") or {}
    for slug, value in options.items():
        if value is not None and not isinstance(value, dict):
            raise members.wrong(f"options.{slug[:100]}", "must be an object")
    return {slug: value for slug, value in options.items() if value}


def _across_models(top: Members) -> bool | None:
    """The older member ``route``: ``fallback`` takes model by model, ``sort`` all together."""
    word = top.one_of("route", "fallback", "sort")
    return None if word is None else word == "sort"


def _models(top: Members) -> tuple[str, ...]:
    found = top.strings("models") or []
    if len(found) > MAX_MODELS:
        raise top.wrong("models", f"must name at most {MAX_MODELS} models")
    if not all(0 < len(name) <= MAX_NAME for name in found):
        raise top.wrong("models", f"must be names of 1 to {MAX_NAME} characters")
    return tuple(found)


def _fallbacks(top: Members) -> tuple[str, ...]:
    """Anthropic's clients have them as objects that hold ``model`` alone."""
    if "models" in top:
        raise top.wrong("fallbacks", "can't stand beside 'models'")
    found = []
    for item in top.objects("fallbacks"):
        name = item.text("model")
        if not 0 < len(name) <= MAX_NAME:
            raise item.wrong("model", f"must have 1 to {MAX_NAME} characters")
        _refuse_rest(item)
        found.append(name)
    if len(found) > MAX_FALLBACKS:
        raise top.wrong("fallbacks", f"must be at most {MAX_FALLBACKS}")
    return tuple(found)


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
