"""The official SDK is the judge of every shape the OpenAI simulator emits."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import BaseModel as SdkModel
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from raw_http import KEY

from pointsman.testing import Behaviour, OpenAIChat, RunningSimulator
from pointsman.testing.reply import Request

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}},
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture(scope="module")
def client(simulator: RunningSimulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


def ask(text: str = "hello there") -> Any:
    return [{"role": "user", "content": text}]


def assert_strict(answer: SdkModel, raw: str) -> None:
    """The answer has no member that the SDK does not know and none of a wrong type."""
    type(answer).model_validate_json(raw, strict=True)
    for path, extra in _extras(answer):
        assert not extra, f"unknown members at {path}: {extra}"


def _extras(value: object, path: str = "$") -> Iterator[tuple[str, object]]:
    if isinstance(value, pydantic.BaseModel):
        yield path, value.model_extra
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _extras(item, f"{path}[]")


def events(client: openai.OpenAI, **arguments: Any) -> list[str]:
    with client.chat.completions.with_streaming_response.create(stream=True, **arguments) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def chunks_of(client: openai.OpenAI, **arguments: Any) -> list[ChatCompletionChunk]:
    *data, done = events(client, **arguments)
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate_json(one, strict=True) for one in data]
    for one, raw in zip(parsed, data, strict=True):
        assert_strict(one, raw)
    return parsed


def test_a_buffered_answer_has_every_member_of_openai_and_no_other(client: openai.OpenAI) -> None:
    response = client.chat.completions.with_raw_response.create(model="sim-model", messages=ask())
    answer = response.parse()
    assert_strict(answer, response.text)
    body = json.loads(response.text)
    assert list(body) == ["id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"]
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "echo: hello there", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens == 3
    assert answer.id.startswith("chatcmpl-")
    for header in ("x-request-id", "openai-processing-ms", "openai-version", "x-ratelimit-remaining-requests"):
        assert response.headers[header]


def test_the_same_request_gets_the_same_words(client: openai.OpenAI) -> None:
    first, second = (client.chat.completions.create(model="m#tokens=9", messages=ask("a b")) for _ in range(2))
    assert first.choices == second.choices
    assert first.usage == second.usage
    assert first.id != second.id
    assert first.model == "m#tokens=9"
    assert first.choices[0].message.content == "echo: a b echo: a b echo: a b"


def test_text_comes_back_exactly_in_any_script(client: openai.OpenAI) -> None:
    text = 'naïve 日本語 🙂 "quoted" \\ back\n\n  two  spaces \t'
    whole = client.chat.completions.create(model="m", messages=ask(text)).choices[0].message.content
    parts = chunks_of(client, model="m", messages=ask(text))
    assert whole == f"echo: {text}"
    assert "".join(one.choices[0].delta.content or "" for one in parts) == whole


def test_a_stream_starts_with_the_role_and_ends_with_the_finish_reason(client: openai.OpenAI) -> None:
    first, *middle, last = chunks_of(client, model="m", messages=ask())
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == ""
    assert [one.choices[0].delta.content for one in middle] == ["echo:", " hello", " there"]
    assert last.choices[0].delta.to_dict() == {}
    assert last.choices[0].finish_reason == "stop"
    assert {one.id for one in middle} == {first.id} == {last.id}
    assert all("usage" not in one.model_fields_set for one in [first, *middle, last])


def test_usage_is_a_last_chunk_without_choices_and_null_in_all_others(client: openai.OpenAI) -> None:
    *others, last = chunks_of(client, model="m", messages=ask(), stream_options={"include_usage": True})
    whole = client.chat.completions.create(model="m", messages=ask())
    assert last.choices == []
    assert last.usage == whole.usage
    assert all("usage" in one.model_fields_set and one.usage is None for one in others)


def test_padding_of_events_is_left_out_on_request(client: openai.OpenAI) -> None:
    padded = chunks_of(client, model="m", messages=ask())
    bare = chunks_of(client, model="m", messages=ask(), stream_options={"include_obfuscation": False})
    assert all(one.obfuscation for one in padded)
    assert all("obfuscation" not in one.model_fields_set for one in bare)


def test_n_choices_are_told_apart_by_index(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="m", messages=ask(), n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    streamed = ["", "", ""]
    finished = set()
    for one in chunks_of(client, model="m", messages=ask(), n=3):
        for choice in one.choices:
            streamed[choice.index] += choice.delta.content or ""
            finished |= {choice.index} if choice.finish_reason else set()
    assert streamed == [choice.message.content for choice in whole.choices]
    assert len(set(streamed)) == 3
    assert finished == {0, 1, 2}
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 11


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_ends_the_answer_with_length(client: openai.OpenAI, name: str) -> None:
    limit: dict[str, Any] = {name: 2}
    choice = client.chat.completions.create(model="m", messages=ask(), **limit).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("echo: hello", "length")
    parts = chunks_of(client, model="m#tokens=500", messages=ask(), **limit)
    assert len(parts) == 4
    assert parts[-1].choices[0].finish_reason == "length"


def test_a_stop_sequence_ends_the_answer_before_it(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(model="m", messages=ask(), stop=["zzz", "lo th"]).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("echo: hel", "stop")


def test_logprobs_cover_every_token(client: openai.OpenAI) -> None:
    response = client.chat.completions.with_raw_response.create(
        model="m", messages=ask(), logprobs=True, top_logprobs=2
    )
    assert_strict(response.parse(), response.text)
    found = response.parse().choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert [one.token for one in found.content] == ["echo:", " hello", " there"]
    assert [len(one.top_logprobs) for one in found.content] == [2, 2, 2]
    streamed = [one.choices[0].logprobs for one in chunks_of(client, model="m", messages=ask(), logprobs=True)]
    assert [one.content[0].token for one in streamed if one and one.content] == ["echo:", " hello", " there"]


def test_a_required_tool_is_called_with_arguments_that_fit_its_schema(client: openai.OpenAI) -> None:
    response = client.chat.completions.with_raw_response.create(
        model="m", messages=ask(), tools=[WEATHER], tool_choice="required"
    )
    answer = response.parse()
    assert_strict(answer, response.text)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "example city", "days": 1, "unit": "c"}
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None


def test_a_named_tool_is_called_and_the_answer_ends_with_stop(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "clock"}}
    answer = client.chat.completions.create(model="m", messages=ask(), tools=[WEATHER, CLOCK], tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("clock", "{}")
    assert answer.choices[0].finish_reason == "stop"


def test_tool_arguments_are_streamed_in_fragments_that_add_up(client: openai.OpenAI) -> None:
    arguments: dict[str, Any] = {"model": "m", "messages": ask("call the tool twice"), "tools": [WEATHER, CLOCK]}
    whole = client.chat.completions.create(**arguments).choices[0].message.tool_calls or []
    names: dict[int, str] = {}
    built: dict[int, str] = {}
    pieces = 0
    first, *rest, last = chunks_of(client, **arguments)
    assert first.choices[0].delta.role == "assistant"
    for one in rest:
        for call in one.choices[0].delta.tool_calls or ():
            assert call.function is not None
            assert (call.id is None) == (call.function.name is None)
            names[call.index] = names.get(call.index) or call.function.name or ""
            built[call.index] = built.get(call.index, "") + (call.function.arguments or "")
            pieces += 1
    assert [(call.function.name, call.function.arguments) for call in whole if call.type == "function"] == [
        (names[index], built[index]) for index in (0, 1)
    ]
    assert pieces > 5
    assert last.choices[0].finish_reason == "tool_calls"
    assert len({call.id for call in whole}) == 2


def test_a_single_streamed_call_opens_in_the_role_chunk(client: openai.OpenAI) -> None:
    first, *_ = chunks_of(client, model="m", messages=ask("call the tool"), tools=[WEATHER])
    assert first.choices[0].delta.role == "assistant"
    (call,) = first.choices[0].delta.tool_calls or ()
    assert call.id is not None
    assert call.id.startswith("call_")


def test_no_tool_is_called_when_forbidden_or_already_answered(client: openai.OpenAI) -> None:
    forbidden = client.chat.completions.create(
        model="m", messages=ask("call the tool"), tools=[CLOCK], tool_choice="none"
    )
    assert forbidden.choices[0].message.tool_calls is None
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns: Any = [
        *ask("call the tool"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
    ]
    answered = client.chat.completions.create(model="m", messages=turns, tools=[CLOCK])
    assert answered.choices[0].message.content == "echo: call the tool"


def test_the_sdks_own_stream_accumulator_accepts_the_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="m", messages=ask("call the tool"), tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    assert isinstance(final, ChatCompletion)
    assert final.choices[0].message.tool_calls is not None


def test_a_json_schema_is_obeyed(client: openai.OpenAI) -> None:
    class Place(pydantic.BaseModel):
        name: str
        inhabitants: int
        tags: list[str]

    answer = client.chat.completions.parse(model="m", messages=ask(), response_format=Place)
    assert answer.choices[0].message.parsed == Place(name="example name", inhabitants=1, tags=["example tags"])


ODD = st.sampled_from([None, True, 3, "x", [], [1], ["x"], [[]], [{}], {}, {"type": []}, {"name": 1}, {"id": "x"}])


def shape(**members: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these members, each as it should be or odd."""
    return st.fixed_dictionaries({}, optional={name: value | ODD for name, value in members.items()})


SCHEMA = shape(
    type=st.just("object"),
    properties=st.fixed_dictionaries({"a": shape(type=st.just("array"), items=ODD, minItems=ODD, enum=ODD)}),
    anyOf=ODD,
)
SCHEMA |= st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/x"]) | ODD})
FUNCTION = st.fixed_dictionaries({"name": st.just("f")}, optional={"parameters": SCHEMA | ODD})
TOOL = st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTION})
CALL = shape(id=st.just("c"), type=st.just("function"), function=FUNCTION)
MESSAGE = shape(
    role=st.sampled_from(["user", "assistant", "tool"]),
    content=st.just("call the tool twice"),
    tool_calls=st.lists(CALL, max_size=2),
    tool_call_id=st.just("c"),
)
ALLOWED = shape(mode=st.just("required"), tools=st.lists(TOOL, max_size=1))
REQUEST = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(MESSAGE | ODD, max_size=2)},
    optional={
        "stream": st.booleans(),
        "tools": st.lists(TOOL, min_size=1, max_size=2) | ODD,
        "tool_choice": st.just("required")
        | shape(type=st.just("function"), function=FUNCTION)
        | shape(type=st.just("allowed_tools"), allowed_tools=ALLOWED)
        | ODD,
        "response_format": shape(type=st.just("json_schema"), json_schema=shape(schema=SCHEMA)) | ODD,
        "stream_options": shape(include_usage=st.booleans()),
        "stop": ODD,
        "n": ODD,
        "max_tokens": ODD,
        "logprobs": ODD,
        "top_logprobs": ODD,
        "service_tier": ODD,
    },
)


@settings(max_examples=150, deadline=None)
@given(request=REQUEST, strict=st.booleans())
def test_whatever_json_comes_is_answered_or_refused(request: dict[str, Any], strict: bool) -> None:
    asked = Request(
        method="POST",
        path="/v1/chat/completions",
        headers=(),
        body=json.dumps(request).encode(),
        http_version="1.1",
        keep_alive=True,
    )
    reply = OpenAIChat(strict=strict).answer(asked, Behaviour())
    assert reply.status in (200, 400)
    assert reply.body or list(reply.events or ())[-1].data == b"data: [DONE]\n\n"


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    listed = client.models.list()
    assert [model.id for model in listed] == ["sim-model", "sim-large"]
    response = client.models.with_raw_response.retrieve("sim-large")
    assert_strict(response.parse(), response.text)
    assert isinstance(response.parse(), Model)
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("sim-none")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("rate_limit", openai.RateLimitError, "rate_limit_exceeded"),
        ("rate_limit_bare", openai.RateLimitError, "rate_limit_exceeded"),
        ("http_500", openai.InternalServerError, None),
        ("http_503", openai.InternalServerError, None),
        ("unauthorized", openai.AuthenticationError, "invalid_api_key"),
        ("bad_request", openai.BadRequestError, "decimal_above_max_value"),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("reset", openai.APIConnectionError, None),
        ("close", openai.APIConnectionError, None),
        ("malformed_json", json.JSONDecodeError, None),
    ],
)
def test_each_fault_is_the_sdks_own_error(
    client: openai.OpenAI, fault: str, error: type[Exception], code: str | None
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=f"m#fault={fault}", messages=ask())
    if isinstance(caught.value, openai.APIError):
        assert caught.value.code == code


def test_an_error_event_is_raised_by_the_sdk_in_mid_stream(client: openai.OpenAI) -> None:
    model = "m#fault=error_event,after_events=2"
    with client.chat.completions.create(model=model, messages=ask(), stream=True) as stream:
        assert next(stream).choices[0].delta.role == "assistant"
        assert next(stream).choices[0].delta.content == "echo:"
        with pytest.raises(openai.APIError, match="had an error while processing"):
            next(stream)


def test_a_wrong_key_is_shown_back_with_its_middle_starred_out(simulator: RunningSimulator) -> None:
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-other-key-12345678-abcd", max_retries=0) as other:
        with pytest.raises(openai.AuthenticationError) as caught:
            other.models.list()
        assert "sk-othe***************abcd" in str(caught.value)


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", None),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]}, "messages.[0].role", None),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"tools": [{"type": "function", "function": "f"}]}, "tools[0].function", "invalid_type"),
        ({"tools": []}, "tools", "empty_array"),
        ({"stream_options": {}}, "stream_options", None),
        ({"extra_member": 1}, None, None),
    ],
)
def test_a_wrong_request_is_refused_with_the_parameter_named(
    client: openai.OpenAI, members: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=ask(), extra_body=members)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
