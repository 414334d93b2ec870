"""A request in our words as an Anthropic Messages request."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import Request
from pointsman.providers.anthropic.generations import Generation, generation_of
from pointsman.providers.anthropic.schemas import closed_schema
from pointsman.providers.anthropic.thinking import DEFAULT_MAX_TOKENS, write_thinking
from pointsman.providers.anthropic.tools import mark, put_back, write_tools
from pointsman.providers.anthropic.turns import end_prefill, write_turns
from pointsman.wire.anthropic import VERSION, WIRE
from pointsman.wire.bodies import with_model

Json = dict[str, Any]

MESSAGES_PATH: Final = "/v1/messages"
COUNT_PATH: Final = "/v1/messages/count_tokens"
MAX_USER_ID: Final = 512  # characters
# Options that Anthropic's API has no word for.
_UNKNOWN: Final = (
    "max_tool_calls", "min_p", "top_a", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed",
    "logit_bias", "logprobs", "top_logprobs", "verbosity", "metadata", "store", "prompt_cache_key",
    "prompt_cache_retention", "audio", "prediction",
)  # fmt: skip
_unknown: Final = attrgetter(*_UNKNOWN)
_NONE: Final = (None,) * len(_UNKNOWN)
_LACKS: Final = frozenset(("choices", "json_object"))
_TIERS: Final = {"auto": "auto", "default": "standard_only", "priority": "auto"}
# Members that only an answer needs; counting tokens refuses them.
_OF_ANSWERS: Final = (
    "max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k", "metadata", "service_tier", "container",
    "inference_geo", "diagnostics", "fallbacks",
)  # fmt: skip

_encode: Final = msgspec.json.Encoder().encode


def lacks(upstream: Upstream) -> frozenset[str]:
    """Several choices, JSON without a schema, and schemas where the model is too old or not Anthropic's."""
    return _LACKS if generation_of(upstream.model).schemas else _LACKS | {"json_schema"}


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """The request for ``upstream``. Raises GatewayError: UNSUPPORTED or INVALID_REQUEST for content it can't have."""
    generation = generation_of(upstream.model)
    body: Json = {"model": upstream.model, "max_tokens": _max_tokens(request, upstream, fidelity)}
    _write_prompt(request, body, generation, fidelity)
    end_prefill(request, body, fidelity)
    _write_sampling(request, body, generation, fidelity)
    _write_account(request, body, fidelity)
    _note_rest(request, fidelity)
    if request.stream:
        body["stream"] = True
    if request.extra:
        put_back(body, request.extra, "", request.wire == WIRE, fidelity)
    return Built(path=MESSAGES_PATH, body=_encode(body), headers=_headers(request))


def build_count_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """The request that counts the tokens of the same prompt; what only an answer needs is left out without a note."""
    generation = generation_of(upstream.model)
    body: Json = {"model": upstream.model, "max_tokens": request.max_output_tokens or DEFAULT_MAX_TOKENS}
    _write_prompt(request, body, generation, fidelity)
    put_back(body, request.extra, "", request.wire == WIRE, fidelity)
    for name in _OF_ANSWERS:
        body.pop(name, None)
    return Built(path=COUNT_PATH, body=_encode(body), headers=_headers(request))


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The client's own body with nothing changed but the model. Raises GatewayError when it is no JSON object."""
    return Built(path=MESSAGES_PATH, body=with_model(body, upstream.model), headers=_headers(request))


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """``x-api-key``, or a bearer token where the host's row says so."""
    if upstream.quirks.get("auth") == "bearer":
        return (("authorization", f"Bearer {secret}"),)
    return (("x-api-key", secret),)


def _headers(request: Request) -> tuple[tuple[str, str], ...]:
    version = ("anthropic-version", VERSION)
    betas = request.all_betas
    return (version, ("anthropic-beta", ",".join(betas))) if betas else (version,)


def _max_tokens(request: Request, upstream: Upstream, fidelity: Fidelity) -> int:
    path = request.path("max_output_tokens")
    wanted, most = request.max_output_tokens, upstream.max_output_tokens
    if wanted is None:
        synthesised = most or generation_of(upstream.model).output_tokens
        fidelity.synthesised(path, f"Anthropic wants a limit: {synthesised} tokens")
        return synthesised
    if most is not None and wanted > most:
        fidelity.approximated(path, f"the model's largest answer is {most} tokens")
        return most
    return wanted


def _write_prompt(request: Request, body: Json, generation: Generation, fidelity: Fidelity) -> None:
    """What the model reads and is bound to: turns, tools, thinking, the answer's format, the mark for a cache."""
    write_turns(request, body, fidelity)
    write_tools(request, body, fidelity)
    write_thinking(request, body, generation, fidelity)
    _write_format(request, body, fidelity)
    if request.cache is not None:
        body |= mark(request.cache)


def _write_format(request: Request, body: Json, fidelity: Fidelity) -> None:
    wanted = request.output_format
    if wanted is None or wanted.kind == "text":
        return
    path = request.path("output_format")
    if wanted.kind != "json_schema" or wanted.schema is None:
        fidelity.dropped(path, "Anthropic binds answers to JSON schemas only")
        return
    own = request.wire == WIRE
    schema = wanted.schema if own else closed_schema(wanted.schema, f"{path}.schema", fidelity)
    body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
    for name in ("name", "description", "strict"):
        value = getattr(wanted, name)
        if value is not None and not (name == "strict" and value):  # Anthropic's schemas always bind
            fidelity.dropped(f"{path}.{name}", "Anthropic's API has no such member")


def _write_sampling(request: Request, body: Json, generation: Generation, fidelity: Fidelity) -> None:
    if request.stop is not None:
        stop = [mark for mark in request.stop if mark.strip() or request.wire == WIRE]
        if len(stop) < len(request.stop):
            fidelity.dropped(request.path("stop"), "Anthropic takes no stop sequence of white space alone")
        if stop:
            body["stop_sequences"] = stop
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is None:
            continue
        reason = _refusal_of(name, value, body, generation, thinks) if request.wire != WIRE else None
        if reason is not None:
            fidelity.dropped(request.path(name), reason)
        elif name == "temperature" and value > 1:
            fidelity.approximated(request.path(name), "Anthropic's highest is 1")
            body[name] = 1.0
        else:
            body[name] = value


def _refusal_of(name: str, value: float, body: Json, generation: Generation, thinks: bool) -> str | None:
    """Why this model would refuse an option, None when it takes it."""
    if not generation.sampling:
        return "this model takes no sampling options"
    if thinks and not (name == "temperature" and value == 1) and not (name == "top_p" and value >= 0.95):
        return "a model that thinks takes no such option"
    if name == "top_p" and generation.one_sampling and "temperature" in body:
        return "this model takes only one of temperature and top_p"
    return None


def _write_account(request: Request, body: Json, fidelity: Fidelity) -> None:
    """Who asks, and at what priority."""
    user, path = request.user, request.path("user")
    if user is None and request.safety_identifier is not None:
        user, path = request.safety_identifier, request.path("safety_identifier")
        fidelity.mapped(path, "as metadata.user_id")
    elif request.safety_identifier is not None:
        fidelity.dropped(request.path("safety_identifier"), "the user's name is sent")
    if user is not None and len(user) > MAX_USER_ID and request.wire != WIRE:
        fidelity.dropped(path, f"Anthropic takes {MAX_USER_ID} characters")
    elif user is not None:
        body["metadata"] = {"user_id": user}
    tier = request.service_tier
    if tier is None:
        return
    if tier not in _TIERS and request.wire != WIRE:
        fidelity.dropped(request.path("service_tier"), "Anthropic has no such tier")
        return
    if tier == "priority":
        fidelity.approximated(request.path("service_tier"), "auto: priority where the account has it")
    body["service_tier"] = _TIERS.get(tier, tier)


def _note_rest(request: Request, fidelity: Fidelity) -> None:
    if _unknown(request) != _NONE:
        _note_dropped(request, _UNKNOWN, fidelity)
    if request.choices is not None and request.choices != 1:
        fidelity.dropped(request.path("choices"), "Anthropic's messages are one answer")
    if request.modalities is not None and request.modalities != ["text"]:
        fidelity.dropped(request.path("modalities"), "Anthropic's models answer in text")


def _note_dropped(request: Request, names: Iterable[str], fidelity: Fidelity) -> None:
    for name in names:
        if getattr(request, name) is not None:
            fidelity.dropped(request.path(name), "Anthropic's API has no such option")
