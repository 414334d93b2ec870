"""boto3 is the judge of every shape the Bedrock simulator emits, and signs what the simulator checks."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from pointsman.testing import Bedrock, RunningSimulator, running_simulator

ACCESS_KEY = "AKIASIMULATED"
SECRET = "simulated/secret+key"
WEATHER: Any = {
    "toolSpec": {
        "name": "weather",
        "description": "Tells the weather.",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
}
CLOCK: Any = {"toolSpec": {"name": "clock", "inputSchema": {"json": {"type": "object"}}}}
TOOLS: Any = {"tools": [WEATHER, CLOCK]}
THINKING: Any = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.fixture(scope="module")
def upstream() -> Iterator[RunningSimulator]:
    with running_simulator(Bedrock(api_key=f"{ACCESS_KEY}:{SECRET}")) as running:
        yield running


def connect(upstream: RunningSimulator, secret: str = SECRET, **members: Any) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=upstream.origin,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 1, "mode": "standard"}, read_timeout=5),
        **members,
    )


@pytest.fixture(scope="module")
def client(upstream: RunningSimulator) -> Iterator[Any]:
    sdk = connect(upstream)
    yield sdk
    sdk.close()


def ask(*content: Any, model: str = "acme.sim-v1:0", **members: Any) -> Any:
    blocks = [{"text": one} if isinstance(one, str) else one for one in content]
    return {"modelId": model, "messages": [{"role": "user", "content": blocks}], **members}


def collected(client: Any, **request: Any) -> tuple[list[Any], Any, Any]:
    """The content, the stop reason and the usage of a stream."""
    content: dict[int, Any] = {}
    reason = usage = None
    with closing(client.converse_stream(**request)["stream"]) as stream:
        events = list(stream)
    for event in events:
        ((name, members),) = event.items()
        match name:
            case "contentBlockStart":
                content[members["contentBlockIndex"]] = {"toolUse": {**members["start"]["toolUse"], "input": ""}}
            case "contentBlockDelta":
                _add(content.setdefault(members["contentBlockIndex"], {}), members["delta"])
            case "messageStop":
                reason = members["stopReason"]
            case "metadata":
                usage = members["usage"]
    return list(content.values()), reason, usage


def _add(block: Any, delta: Any) -> None:
    if "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    else:
        told = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {"text": ""})
        told["text"] += delta["reasoningContent"].get("text", "")
        if "signature" in delta["reasoningContent"]:
            told["signature"] = delta["reasoningContent"]["signature"]


def refused(client: Any, **request: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        client.converse(**request)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def test_text_streamed_and_whole_is_the_same(client: Any) -> None:
    answer = client.converse(**ask("hello there"))
    assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "echo: hello there"}]}
    assert answer["stopReason"] == "end_turn"
    content, reason, usage = collected(client, **ask("hello there"))
    assert (content, reason) == ([{"text": "echo: hello there"}], "end_turn")
    assert usage == answer["usage"]


def test_thoughts_are_signed_and_taken_back_unchanged_only(client: Any) -> None:
    request = ask("call the tool", toolConfig=TOOLS, additionalModelRequestFields=THINKING)
    answer = client.converse(**request)
    thought, call = answer["output"]["message"]["content"]
    assert thought["reasoningContent"]["reasoningText"]["text"] == "thinking about: call the tool"
    content, reason, _ = collected(client, **request)
    assert content[0] == thought
    assert reason == "tool_use"
    result = {"toolResult": {"toolUseId": call["toolUse"]["toolUseId"], "content": [{"text": "sunny"}]}}
    messages = [*request["messages"], answer["output"]["message"], {"role": "user", "content": [result]}]
    request["messages"] = messages
    assert client.converse(**request)["stopReason"] == "end_turn"
    messages[1] = {"role": "assistant", "content": [call]}
    assert "Expected `thinking`" in refused(client, **request)[2]
    thought["reasoningContent"]["reasoningText"]["signature"] = "forged"
    messages[1] = {"role": "assistant", "content": [thought, call]}
    assert "Invalid `signature`" in refused(client, **request)[2]


def test_two_tools_are_called_in_parallel(client: Any) -> None:
    request = ask("call the tool twice", toolConfig=TOOLS)
    calls = [block["toolUse"] for block in client.converse(**request)["output"]["message"]["content"]]
    assert [(call["name"], call["input"]) for call in calls] == [("weather", {"city": "example city"}), ("clock", {})]
    content, _, _ = collected(client, **request)
    assert [block["toolUse"]["input"] for block in content] == ['{"city":"example city"}', "{}"]


def test_cache_points_are_written_then_read(client: Any) -> None:
    request = ask("x", system=[{"text": "Be very brief."}, {"cachePoint": {"type": "default"}}])
    first, second = (client.converse(**request)["usage"] for _ in range(2))
    assert first["cacheWriteInputTokens"] == second["cacheReadInputTokens"] > 0
    assert first["cacheReadInputTokens"] == second["cacheWriteInputTokens"] == 0


def test_pictures_documents_and_schemas(client: Any) -> None:
    picture = {"image": {"format": "png", "source": {"bytes": b"png"}}}
    document = {"document": {"format": "txt", "name": "notes", "source": {"bytes": b"text"}}}
    schema = {"jsonSchema": {"schema": '{"type": "object", "properties": {"a": {"type": "integer"}}}'}}
    form = {"textFormat": {"type": "json_schema", "structure": schema}}
    answer = client.converse(**ask("x", picture, document, outputConfig=form))
    assert answer["output"]["message"]["content"] == [{"text": '{"a":1}'}]
    assert answer["usage"]["inputTokens"] > 512


def test_limits_and_stops(client: Any) -> None:
    assert client.converse(**ask("a b", inferenceConfig={"maxTokens": 2}))["stopReason"] == "max_tokens"
    stopped = client.converse(**ask("a b", inferenceConfig={"stopSequences": ["b"]}))
    assert (stopped["stopReason"], stopped["output"]["message"]["content"]) == ("stop_sequence", [{"text": "echo: a "}])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {**ask("x"), "messages": [{"role": "assistant", "content": [{"text": "x"}]}]},
            "must start with a user message",
        ),
        (ask(" "), "is blank"),
        (ask("x", inferenceConfig={"temperature": 1.5}), "less than or equal to 1"),
        (ask({"toolResult": {"toolUseId": "a", "content": []}}), "toolConfig field must be defined"),
        (ask({"toolResult": {"toolUseId": "a", "content": []}}, toolConfig=TOOLS), "exceeds the number of toolUse"),
    ],
)
def test_wrong_requests_are_refused_in_bedrocks_words(client: Any, request_: Any, message: str) -> None:
    status, code, told = refused(client, **request_)
    assert (status, code) == (400, "ValidationException")
    assert message in told


def test_signatures_and_keys_are_checked(upstream: RunningSimulator) -> None:
    wrong = connect(upstream, "other")
    assert refused(wrong, **ask("x"))[:2] == (403, "InvalidSignatureException")
    wrong.close()
    session = connect(upstream, aws_session_token="token/with+signs=")
    assert session.converse(**ask("x"))["stopReason"] == "end_turn"
    session.close()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("rate_limit_bare", 429, "ThrottlingException"),
        ("http_500", 500, "InternalServerException"),
        ("http_503", 503, "ServiceUnavailableException"),
        ("unauthorized", 403, "UnrecognizedClientException"),
        ("context_length", 400, "ValidationException"),
    ],
)
def test_faults_refuse_in_bedrocks_shape(client: Any, fault: str, status: int, code: str) -> None:
    assert refused(client, **ask("x", model=f"m#fault={fault}"))[:2] == (status, code)


def test_an_exception_in_mid_stream_is_raised(client: Any) -> None:
    stream = client.converse_stream(**ask("hello there", model="m#fault=error_event,after_events=2"))["stream"]
    with closing(stream), pytest.raises(EventStreamError, match="internalServerException"):
        list(stream)
