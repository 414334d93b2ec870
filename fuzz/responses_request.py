"""Bytes of a body into the Responses dialect, and what it read into the formats of Responses and of three others.

Holds for any bytes: our own refusals only, told in OpenAI's shape; the request's settings can be told in an answer;
what was built is JSON that reads back to a request which is built the same again.
"""

import json
from types import ModuleType

from pointsman.canonical.events import Ended, Started
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.dialects import openai_responses as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import anthropic, gemini, openai_chat, openai_responses

REFUSALS = (Kind.INVALID_REQUEST, Kind.UNSUPPORTED)
UPSTREAM = Upstream(model="m", max_output_tokens=99)
IDENTITY = Identity(request_id="r", created=1)
ANSWER = Response(wire="anthropic", choices=[Choice(parts=[], finish_reason=FinishReason.STOP)])


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    request = _read(raw)
    if request is None:
        return
    for provider in (openai_chat, anthropic, gemini):
        json.loads(_built(request, provider) or b"{}")
    json.loads(dialect.write_response(ANSWER, request, IDENTITY, Fidelity()))
    renderer = dialect.StreamRenderer(request, IDENTITY, Fidelity())
    stream = renderer.feed(Started()) + renderer.feed(Ended())
    for frame in stream.split(b"\n\n")[:-1]:
        json.loads(frame.partition(b"data: ")[2])
    body = _built(request, openai_responses)
    if body is None:
        return
    patched = openai_responses.patch_request(raw, request, UPSTREAM)
    assert json.loads(patched.body)["model"] == "m"
    again = _read(body)
    assert again is not None, "what was built can't be read"
    assert json.loads(_built(again, openai_responses) or b"{}") == json.loads(body), "built otherwise the second time"


def _read(raw: bytes) -> Request | None:
    try:
        return dialect.read_request(raw, ClientCall())
    except GatewayError as error:
        assert error.kind in REFUSALS, error.kind
        json.loads(dialect.render_error(error, "req_1"))
        return None


def _built(request: Request, provider: ModuleType) -> bytes | None:
    try:
        body: bytes = provider.build_request(request, UPSTREAM, Fidelity()).body
    except GatewayError as error:
        assert error.kind in REFUSALS, error.kind
        return None
    return body
