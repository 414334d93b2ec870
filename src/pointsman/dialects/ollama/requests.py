"""What Ollama's chat and generate requests have in common: model, options, format, thinking, pictures."""

from collections.abc import Mapping
from typing import Any, Final

from pointsman.canonical.effort import EFFORTS
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.parts import ImagePart, Source
from pointsman.canonical.request import OutputFormat, ReasoningOptions, Request
from pointsman.wire.members import Members
from pointsman.wire.ollama import MAX_TOP_LOGPROBS, NUMBERS, WHOLE_NUMBERS, WIRE

MAX_MODEL_LENGTH: Final = 256

# How the base64 of a picture begins: Ollama's pictures come without a type.
_BEGINNINGS: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
)
# How its clients call what the ledger calls by our words.
NAMES: Final = {
    "tools.strict": "function.strict",
    "tools.parameters": "function.parameters",
    "think.effort": "/think",
    "think.enabled": "/think",
    "think.exclude": "/think",
    "format.schema": "/format",
}


def begin_request(members: Members, call: ClientCall, paths: Mapping[str, str]) -> Request:
    """A request with everything but messages and tools. Raises GatewayError(INVALID_REQUEST)."""
    model = read_model(members, call)
    stream = members.boolean("stream")
    if call.stream is not None:
        stream = call.stream
    request = Request(wire=WIRE, model=model, messages=[], stream=stream is not False, paths=dict(paths), names=NAMES)
    request.include_usage = True  # Ollama's last object always has the counts
    request.output_format = _output_format(members)
    request.reasoning = _reasoning(members)
    request.logprobs = members.boolean("logprobs")
    request.top_logprobs = members.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)
    extra = _read_options(members, request)
    request.extra = extra
    return request


def read_model(members: Members, call: ClientCall) -> str:
    """The model that a request asks for. Raises GatewayError(INVALID_REQUEST)."""
    model = call.model if call.model is not None else members.text("model")
    members.ignore("model")
    if not model:
        raise members.wrong("model", "is empty")
    if len(model) > MAX_MODEL_LENGTH:
        raise members.wrong("model", f"is longer than {MAX_MODEL_LENGTH} characters")
    return model


def read_images(members: Members) -> list[ImagePart]:
    """The pictures of a message or a prompt, in base64."""
    found = members.strings("images") or []
    path = members.at("images")
    return [
        ImagePart(source=Source(data=data, media_type=media_type_of(data)), path=f"{path}[{number}]")
        for number, data in enumerate(found)
    ]


def media_type_of(data: str) -> str | None:
    """The type of a picture in base64, told by its first bytes."""
    return next((kind for beginning, kind in _BEGINNINGS if data.startswith(beginning)), None)


def _output_format(members: Members) -> OutputFormat | None:
    value = members.raw("format")
    if value is None or value == "":
        return None
    if value == "json":
        return OutputFormat(kind="json_object")
    if isinstance(value, dict):
        return OutputFormat(kind="json_schema", schema=value)
    raise members.wrong("format", "must be 'json' or a JSON schema")


def _reasoning(members: Members) -> ReasoningOptions | None:
    value = members.raw("think")
    if value is None:
        return None
    if isinstance(value, bool):
        return ReasoningOptions(enabled=value)
    if value not in EFFORTS:
        raise members.wrong("think", f"must be true, false or one of {', '.join(EFFORTS)}")
    return ReasoningOptions(enabled=value != "none", effort=value)


def _read_options(members: Members, request: Request) -> dict[str, Any]:
    """Take the options that we have words for; the others, by path."""
    options = members.object("options")
    if options is None:
        return {}
    for ours, theirs in NUMBERS.items():
        setattr(request, ours, options.number(theirs))
    for ours, theirs in WHOLE_NUMBERS.items():
        setattr(request, ours, options.integer(theirs))
    if isinstance(options.value.get("stop"), str):
        options.ignore("stop")
        request.stop = [options.value["stop"]]
    else:
        request.stop = options.strings("stop")
    extra = {}
    limit = options.integer("num_predict")
    if limit is not None and limit > 0:
        request.max_output_tokens = limit
    elif limit is not None:  # no limit, or as much as the context holds
        extra["options.num_predict"] = limit
    return extra | {f"options.{name}": value for name, value in (options.rest() or {}).items()}
