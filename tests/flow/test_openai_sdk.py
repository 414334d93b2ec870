"""The official OpenAI SDK as the judge of every shape that a client sees."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway import KEY, RunningGateway
from pointsman.testing import RunningSimulator

MODEL = "sim/sim-model"
SETTINGS = {
    "connections": [
        {"id": "dead", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["deep/nested", "plain"]}
    ],
    "models": [{"name": "fast", "target": MODEL}],
    "upstream": {"headers_timeout_seconds": 0.3},
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
HELLO: Any = [{"role": "user", "content": "hello from the client"}]
PLEASE_CALL: Any = [{"role": "user", "content": "call the tool"}]


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The SDK, which must not hide an error by asking again."""
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_a_chat_has_content_usage_and_the_request_id(client: openai.OpenAI, gateway: RunningGateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == "echo: hello from the client"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.input_tokens, record.output_tokens) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert (record.usage_estimated, record.finish_reason, record.response_model) == (False, "stop", "sim-model")


def test_a_stream_says_the_same_as_a_buffered_answer(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "echo: hello from the client"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_gives_usage_when_asked(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    last = list(stream)[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 5


def test_two_choices_come_whole_buffered_and_streamed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=2)
    assert [choice.message.content for choice in answer.choices] == [
        "echo: hello from the client",
        "echo 1: hello from the client",
    ]
    texts, ends = ["", ""], ["", ""]
    for chunk in client.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [choice.message.content for choice in answer.choices]
    assert ends == ["stop", "stop"]


def test_a_tool_call_comes_whole_and_its_result_is_taken(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=PLEASE_CALL, tools=[WEATHER])
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    [call] = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    again: Any = [*PLEASE_CALL, message.model_dump(exclude_none=True), result]
    final = client.chat.completions.create(model=MODEL, messages=again, tools=[WEATHER])
    assert final.choices[0].finish_reason == "stop"


def test_streamed_tool_calls_add_up_to_the_buffered_ones(client: openai.OpenAI) -> None:
    twice: Any = [{"role": "user", "content": "call the tool twice"}]
    buffered = client.chat.completions.create(model=MODEL, messages=twice, tools=[WEATHER]).choices[0].message
    assert buffered.tool_calls is not None
    with client.chat.completions.stream(model=MODEL, messages=twice, tools=[WEATHER]) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert streamed.tool_calls is not None

    def calls(message: Any) -> list[tuple[str, str]]:
        return [(call.function.name, call.function.arguments) for call in message.tool_calls]

    assert calls(streamed) == calls(buffered)
    assert len(calls(streamed)) == 2


def test_an_image_part_reaches_the_upstream(client: openai.OpenAI, simulator: RunningSimulator) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    content: Any = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": image}}]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == "echo: look[image image/png 12 characters]"
    assert image.encode() in simulator.requests[-1].body


def test_an_alias_is_a_model(client: openai.OpenAI, simulator: RunningSimulator) -> None:
    answer = client.chat.completions.create(model="fast", messages=HELLO)
    assert answer.model == "sim-model"
    assert simulator.requests[-1].model == "sim-model"


def test_models_are_listed_and_found_by_their_ids(client: openai.OpenAI, gateway: RunningGateway) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed == ["auto", "cheap", "medium", "premium", "dead/deep/nested", "dead/plain", "fast"]
    for name in (*listed, "plain", "sim/anything/at/all"):
        assert client.models.retrieve(name).id == name
    raw = client.get("/models/dead/deep/nested", cast_to=dict)
    assert raw["id"] == "dead/deep/nested"
    assert raw["owned_by"] == "dead"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("dead/unheard")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("rate_limit", openai.RateLimitError),
        ("http_500", openai.InternalServerError),
        ("http_503", openai.InternalServerError),
        ("unauthorized", openai.InternalServerError),
        ("bad_request", openai.BadRequestError),
        ("context_length", openai.BadRequestError),
        ("reset", openai.InternalServerError),
        ("silence", openai.InternalServerError),
    ],
)
def test_upstream_faults_raise_the_fitting_exception(
    client: openai.OpenAI, fault: str, expected: type[openai.APIStatusError], stream: bool
) -> None:
    with pytest.raises(expected) as caught:
        client.chat.completions.create(model=f"{MODEL}#fault={fault}", messages=HELLO, stream=stream)
    assert caught.value.request_id is not None


def test_a_context_overflow_keeps_the_upstreams_code_and_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=f"{MODEL}#fault=context_length", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("fault", ["cut_mid_stream", "reset_mid_stream", "malformed_chunk", "error_event"])
def test_a_stream_that_breaks_raises_in_the_clients_loop(client: openai.OpenAI, fault: str) -> None:
    stream = client.chat.completions.create(
        model=f"{MODEL}#tokens=20,fault={fault},after_events=3", messages=HELLO, stream=True
    )
    for _ in range(3):
        next(stream)
    with pytest.raises(openai.APIError):
        next(stream)


def test_the_gateways_own_refusals_raise_the_fitting_exception(client: openai.OpenAI, gateway: RunningGateway) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model=MODEL, messages=HELLO)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="dead/plain", messages=HELLO)
    assert caught.value.status_code == 502
    assert caught.value.code == "upstream_unavailable"
