"""What OpenRouter's clients demand beyond OpenAI's: error codes that are numbers, `reasoning`, a fingerprint."""

import json

import pytest

from pointsman.canonical.collect import replay
from pointsman.canonical.events import Failed
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import ReasoningPart, TextPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.dialects import openrouter
from pointsman.errors import GatewayError, Kind

IDENTITY = Identity(request_id="req_1", created=1_800_000_000)
ASKED = Request(wire="openai.chat", model="asked", messages=[])
ANSWER = Response(
    wire="ollama",
    choices=[Choice(parts=[ReasoningPart(text="hm"), TextPart(text="yes")], finish_reason=FinishReason.STOP)],
)


def test_thoughts_stand_in_reasoning_whole_and_streamed() -> None:
    whole = json.loads(openrouter.write_response(ANSWER, ASKED, IDENTITY, Fidelity()))
    message = whole["choices"][0]["message"]
    assert (message["reasoning"], message["content"], whole["system_fingerprint"]) == ("hm", "yes", None)
    renderer = openrouter.StreamRenderer(ASKED, IDENTITY, Fidelity())
    stream = b"".join(renderer.feed(event) for event in replay(ANSWER))
    assert b'"delta":{"reasoning":"hm"}' in stream
    assert b"reasoning_content" not in stream


@pytest.mark.parametrize("kind", Kind)
def test_every_error_has_its_status_as_code_and_a_word_of_openrouters(kind: Kind) -> None:
    error = GatewayError(kind, "because", param="model")
    error.upstream_body = b'{"error":{"code":null}}'
    told = json.loads(openrouter.render_error(error, "req_1"))["error"]
    status = 400 if kind is Kind.MODEL_NOT_FOUND else error.status
    assert (told["code"], told["message"], told["metadata"]["param"]) == (status, "because", "model")
    assert openrouter.status_of(error) == status
    assert told["metadata"]["error_type"]


def test_a_broken_stream_ends_with_a_chunk_that_holds_the_error() -> None:
    renderer = openrouter.StreamRenderer(ASKED, IDENTITY, Fidelity())
    error = GatewayError(Kind.UPSTREAM_ERROR, "it broke")
    for data in (renderer.feed(Failed(error)), openrouter.render_stream_error(error, "req_1")):
        chunk = json.loads(data.removeprefix(b"data: "))
        assert chunk["error"]["code"] == error.status
        assert chunk["choices"][0]["finish_reason"] == "error"
    assert renderer.feed(Failed(error)) == b""
