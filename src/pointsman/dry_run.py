"""What a request would ask of routing, without making it: from a body of any API, or from little more than a model."""

from importlib import import_module
from typing import Any, Final

import msgspec

from pointsman.accounting.estimation import estimate_tokens
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.request import Request
from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError, Kind
from pointsman.hub.translator import FORMATS, detect
from pointsman.planning import wished_route
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.demands import Asked
from pointsman.routing.plan import Route
from pointsman.routing.presets import CHAT, MARK, MEMBER, Presets, filled_in
from pointsman.routing.profiles.making import profile_of
from pointsman.routing.wishes import MEMBERS as WISHES
from pointsman.routing.wishes import read_wishes
from pointsman.wire.json_faults import describe

# Members that hold what is said: a body without any of them is a model with a few wishes, not a request.
CONTENT: Final = ("messages", "input", "contents", "prompt")
MAX_MODEL: Final = 256
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_asked(body: bytes, presets: Presets) -> Asked:
    """What a request of this body asks. Raises GatewayError(INVALID_REQUEST) that names the field at fault, or
    MODEL_NOT_FOUND for a preset that there isn't.
    """
    try:
        value = msgspec.json.decode(body, type=dict[str, Any])
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise describe(error, body) from None
    model = value.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL:
        message = f"'model' must be a text of 1 to {MAX_MODEL} characters"
        raise GatewayError(Kind.INVALID_REQUEST, message, param="model")
    if MARK in model or MEMBER in value:
        body = filled_in(body, FORMATS[detect(value)].wire if _is_whole(value) else CHAT, model, presets)
        return read_asked(body, {})
    read: dict[str, Any] = {}
    if not _is_whole(value):
        if not WISHES.isdisjoint(value):
            read["wishes"] = read_wishes(body, "openai.chat")
        return _asked(model, body, _whole(value, "input_tokens"), _whole(value, "max_tokens"), fields=fields, **read)
    name = detect(value)
    if not WISHES.isdisjoint(value):
        read["wishes"] = wishes = read_wishes(body, FORMATS[name].wire)
        body = wishes.bare
    if name == "openai":
        call = openai_chat.parse_request(body)
        return _asked(model, body, 0, call.max_output_tokens, fields=call.fields, **read)
    dialect = import_module(f"pointsman.dialects.{FORMATS[name].dialect}")
    request = dialect.read_request(body, ClientCall(model=model, stream=value.get("stream") is True))
    return _asked(model, body, 0, request.max_output_tokens or 0, request=request, **read)


def _is_whole(value: dict[str, Any]) -> bool:
    return any(name in value for name in CONTENT)


def route_of(asked: Asked, catalogue: Catalogue) -> Route:
    """Where it may go, its fallbacks included. Raises GatewayError(MODEL_NOT_FOUND)."""
    if asked.wishes is None:
        return catalogue.route(asked.model)
    return wished_route(asked.model, asked.wishes, catalogue)


def judged(asked: Asked, route: Route) -> Asked:
    """The request as a profile judges it, where its route is one; as the first of its conversation.

    Raises GatewayError(INVALID_REQUEST) when it can't be read.
    """
    if route.kind != "profile":
        return asked
    from pointsman.routing.profiles.judging import judge  # the scorer is for who names a profile

    request = asked.request
    if request is None and asked.fields is not None and "messages" in asked.fields:
        request = openai_chat.read_request(asked.body, ClientCall())
    verdict = judge(request or Request(wire="openai.chat", model=asked.model, messages=[]), profile_of(route))
    return msgspec.structs.replace(asked, judged=verdict.judged)


def _asked(model: str, body: bytes, tokens_in: int, tokens_out: int, **read: Any) -> Asked:
    return Asked(
        model=model,
        operation="chat",
        body=body,
        headers={},
        input_tokens=tokens_in or estimate_tokens(body, 0),
        max_output_tokens=tokens_out,
        **read,
    )


def _whole(value: dict[str, Any], name: str) -> int:
    number = value.get(name, 0)
    if type(number) is not int or not 0 <= number <= 2**40:
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must be a whole number of tokens", param=name)
    return number
