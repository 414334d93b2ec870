"""Gemini requests: generateContent and countTokens bodies in our own words."""

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.request import Request
from pointsman.dialects.gemini.options import read_config, read_rest, read_tool_config, read_tools
from pointsman.dialects.gemini.parts import ContentReader, read_system
from pointsman.errors import GatewayError, Kind
from pointsman.wire.gemini import WIRE, read_body
from pointsman.wire.members import Members

MAX_MODEL_LENGTH = 256


def read_request(body: bytes, call: ClientCall) -> Request:
    """A generateContent request. Raises GatewayError(INVALID_REQUEST) that names the member at fault."""
    return _request(read_body(body, "GenerateContentRequest", "'contents'"), call)


def read_count_request(body: bytes, call: ClientCall) -> Request:
    """What a countTokens request asks to count, as a request. Raises GatewayError(INVALID_REQUEST)."""
    members = read_body(body, "CountTokensRequest", "'contents'")
    inner = members.object("generateContentRequest")
    if inner is None:
        return _request(members, call)
    if "contents" in members:
        raise members.wrong("contents", "can't stand beside 'generateContentRequest'")
    return _request(inner, call)


def _request(body: Members, call: ClientCall) -> Request:
    model = _model(body, call)
    contents = list(body.objects("contents"))
    if not contents:
        raise body.wrong("contents", "is missing; send at least one content")
    messages = read_system(body.object("systemInstruction")) + ContentReader().messages(contents)
    request = Request(wire=WIRE, model=model, messages=messages, stream=call.stream is True, extra={})
    read_tools(body, request)
    read_tool_config(body.object("toolConfig"), request)
    read_config(body.object("generationConfig"), request)
    read_rest(body, request)
    return request


def _model(body: Members, call: ClientCall) -> str:
    """The path names the model; the body may repeat it."""
    model = (call.model or body.string("model") or "").removeprefix("models/")
    body.ignore("model")
    if not model:
        raise GatewayError(Kind.INVALID_REQUEST, "the path names no model", param="model")
    if len(model) > MAX_MODEL_LENGTH:
        raise GatewayError(Kind.INVALID_REQUEST, f"'model' is longer than {MAX_MODEL_LENGTH} characters", param="model")
    return model
