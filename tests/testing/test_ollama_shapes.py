"""The official SDK is the judge of every shape the Ollama simulator emits."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from pointsman.testing import Ollama, RunningSimulator, running_simulator

KEY = "ollama-simulated-key"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def upstream() -> Iterator[RunningSimulator]:
    with running_simulator(Ollama(models=("sim-model", "sim-large:70b"))) as running:
        yield running


@pytest.fixture(scope="module")
def client(upstream: RunningSimulator) -> Iterator[ollama.Client]:
    with ollama.Client(host=upstream.origin, timeout=20) as sdk:
        yield sdk


def ask(text: str = "hello there", **members: Any) -> Any:
    return {"model": "sim-model", "messages": [{"role": "user", "content": text}], **members}


def collect(parts: Any) -> dict[str, Any]:
    """The chunks of a chat as one message; the last chunk's other members."""
    message: dict[str, Any] = {"content": "", "thinking": "", "tool_calls": []}
    chunks = list(parts)
    assert [one.done for one in chunks] == [*([False] * (len(chunks) - 1)), True]
    for one in chunks:
        message["content"] += one.message.content or ""
        message["thinking"] += one.message.thinking or ""
        message["tool_calls"] += one.message.tool_calls or []
    return {**message, "last": chunks[-1]}


def refused(client: ollama.Client, **request: Any) -> tuple[int, str]:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(**request)
    return caught.value.status_code, caught.value.error


def test_a_buffered_chat_echoes_with_counts_and_durations(client: ollama.Client) -> None:
    answer = client.chat(**ask())
    assert answer.message.role == "assistant"
    assert answer.message.content == "echo: hello there"
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert answer.eval_count == 3
    assert answer.prompt_eval_count
    assert answer.total_duration
    assert answer.created_at
    assert answer.created_at.endswith("Z")
    assert answer.message.thinking is None
    assert answer.message.tool_calls is None


def test_a_streamed_chat_says_the_same_as_a_buffered_one(client: ollama.Client) -> None:
    whole = client.chat(**ask("a b c"))
    streamed = collect(client.chat(**ask("a b c"), stream=True))
    assert streamed["content"] == whole.message.content
    assert streamed["last"].eval_count == whole.eval_count
    assert streamed["last"].done_reason == "stop"


def test_thinking_comes_before_the_answer_and_only_when_asked_for(client: ollama.Client) -> None:
    whole = client.chat(**ask(), think="high")
    assert whole.message.thinking == "thinking about: hello there"
    assert whole.message.content == "echo: hello there"
    chunks = list(client.chat(**ask(), think=True, stream=True))
    kinds = ["thinking" if one.message.thinking else "content" for one in chunks[:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert collect(chunks)["thinking"] == whole.message.thinking


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_with_arguments_as_an_object(client: ollama.Client, stream: bool) -> None:
    request = ask("please call the tool", tools=[WEATHER, CLOCK])
    answer = client.chat(**request, stream=stream)
    calls = collect(answer)["tool_calls"] if stream else answer.message.tool_calls
    assert [(call.function.name, call.function.arguments) for call in calls] == [("weather", {"city": "example city"})]


@pytest.mark.parametrize("stream", [False, True])
def test_two_tools_are_called_in_parallel(client: ollama.Client, stream: bool) -> None:
    answer = client.chat(**ask("call the tool twice", tools=[WEATHER, CLOCK]), stream=stream)
    calls = collect(answer)["tool_calls"] if stream else answer.message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "clock"]


def test_a_tool_result_is_answered_in_words(client: ollama.Client) -> None:
    first = client.chat(**ask("call the tool", tools=[WEATHER]))
    messages = [{"role": "user", "content": "call the tool"}, first.message]
    messages.append({"role": "tool", "tool_name": "weather", "content": "sunny"})
    answer = client.chat(model="sim-model", messages=messages, tools=[WEATHER])
    assert answer.message.content == "echo: call the tool"


def test_a_schema_gets_an_object_that_fits_it(client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    assert json.loads(client.chat(**ask(), format=schema).message.content or "") == {"name": "example name", "age": 1}
    assert json.loads(client.chat(**ask("x"), format="json").message.content or "") == {"echo": "x"}


def test_options_limit_and_stop_the_answer(client: ollama.Client) -> None:
    short = client.chat(**ask("a b c"), options={"num_predict": 2})
    assert (short.message.content, short.done_reason) == ("echo: a", "length")
    stopped = client.chat(**ask("a b c"), options={"stop": ["b"]})
    assert (stopped.message.content, stopped.done_reason) == ("echo: a ", "stop")


def test_images_are_counted_and_broken_ones_refused(client: ollama.Client) -> None:
    plain = client.chat(**ask())
    messages = [{"role": "user", "content": "hello there", "images": [PIXEL]}]
    seen = client.chat(model="sim-model", messages=messages)
    assert (seen.prompt_eval_count or 0) - (plain.prompt_eval_count or 0) == 256
    messages[0]["images"] = ["%%%"]
    assert refused(client, model="sim-model", messages=messages)[0] == 400


def test_logprobs_cover_every_token(client: ollama.Client) -> None:
    answer = client.chat(**ask(), logprobs=True, top_logprobs=2)
    assert [one.token for one in answer.logprobs or ()] == ["echo:", " hello", " there"]
    assert {len(one.top_logprobs or ()) for one in answer.logprobs or ()} == {2}
    streamed = [one.logprobs for one in client.chat(**ask(), logprobs=True, stream=True)]
    assert [found[0].token for found in streamed if found] == ["echo:", " hello", " there"]


def test_generate_answers_a_prompt_and_returns_a_context(client: ollama.Client) -> None:
    answer = client.generate("sim-model", "one two", system="be brief")
    assert answer.response == "echo: one two"
    assert answer.context
    again = client.generate("sim-model", "three", context=answer.context)
    assert list(again.context or ())[: len(answer.context)] == list(answer.context)
    parts = list(client.generate("sim-model", "one two", stream=True, think=True))
    assert "".join(part.response or "" for part in parts) == "echo: one two"
    assert "".join(part.thinking or "" for part in parts) == "thinking about: one two"
    assert parts[-1].done_reason == "stop"


def test_generate_takes_a_suffix_and_raw_prompts(client: ollama.Client) -> None:
    assert "the end" in (client.generate("sim-model", "begin", suffix="the end").response or "")
    raw = client.generate("sim-model", "begin", raw=True)
    assert raw.context is None
    with pytest.raises(ollama.ResponseError, match="raw mode does not support template, system, or context"):
        client.generate("sim-model", "begin", raw=True, system="x")


def test_an_empty_prompt_loads_and_unloads_a_model(client: ollama.Client) -> None:
    assert client.generate("sim-model", "").done_reason == "load"
    assert client.generate("sim-model", "", keep_alive=0).done_reason == "unload"
    assert client.chat("sim-model", []).done_reason == "load"


def test_models_are_listed_shown_and_running(client: ollama.Client) -> None:
    names = ["sim-model:latest", "sim-large:70b"]
    assert [model.model for model in client.list().models] == names
    assert [model.name for model in client.ps().models] == names
    shown = client.show("sim-model")
    assert "tools" in (shown.capabilities or ())
    assert (shown.modelinfo or {})["llama.context_length"] == 8192
    with pytest.raises(ollama.ResponseError, match="model 'other' not found"):
        client.show("other")


def test_embeddings_are_unit_vectors_of_the_width_asked_for(client: ollama.Client) -> None:
    answer = client.embed("sim-model", ["one", "two"], dimensions=8)
    assert [len(one) for one in answer.embeddings] == [8, 8]
    assert sum(value * value for value in answer.embeddings[0]) == pytest.approx(1)
    assert list(client.embed("sim-model", "one", dimensions=8).embeddings[0]) == list(answer.embeddings[0])
    assert len(client.embeddings("sim-model", "one").embedding) == 64


@pytest.mark.parametrize(
    ("members", "status", "message"),
    [
        ({"think": "enormous"}, 400, 'invalid think value: "enormous"'),
        ({"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        ({"options": {"temperature": "hot"}}, 500, 'option "temperature" must be of type float32'),
        ({"keep_alive": "soon"}, 400, 'time: invalid duration "soon"'),
    ],
)
def test_wrong_values_are_refused_in_ollamas_words(
    client: ollama.Client, members: dict[str, Any], status: int, message: str
) -> None:
    found = refused(client, **ask(**members))
    assert found[0] == status
    assert message in found[1]


def test_wrong_types_are_refused_in_the_words_of_its_decoder(upstream: RunningSimulator) -> None:
    import httpx

    def post(body: object) -> tuple[int, dict[str, str]]:
        answer = httpx.post(f"{upstream.origin}/api/chat", json=body, timeout=20)
        return answer.status_code, answer.json()

    message = {"role": "user", "content": [{"type": "text", "text": "x"}]}
    wrong = "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
    assert post({"model": "m", "messages": [message]}) == (400, {"error": wrong})
    call = {"function": {"name": "f", "arguments": "{}"}}
    wrong = (
        "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments "
        "of type api.ToolCallFunctionArguments"
    )
    assert post({"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}) == (400, {"error": wrong})
    assert post({"messages": []}) == (400, {"error": "model is required"})
    assert httpx.get(f"{upstream.origin}/api/chat").status_code == 405
    assert httpx.get(f"{upstream.origin}/nowhere").text == "404 page not found"
    assert httpx.get(upstream.origin).text == "Ollama is running"


def test_what_a_model_cannot_do_is_refused() -> None:
    plain = Ollama(capabilities=frozenset({"completion"}), only_listed=True)
    with running_simulator(plain) as running, ollama.Client(host=running.origin) as client:
        assert refused(client, **ask(think=True)) == (400, '"sim-model" does not support thinking')
        assert "does not support tools" in refused(client, **ask(tools=[WEATHER]))[1]
        assert refused(client, model="other", messages=ask()["messages"]) == (404, "model 'other' not found")


def test_a_key_is_demanded_when_one_is_set() -> None:
    with running_simulator(Ollama(api_key=KEY)) as hosted:
        with ollama.Client(host=hosted.origin) as without_key:
            assert refused(without_key, **ask()) == (401, "unauthorized")
        with ollama.Client(host=hosted.origin, headers={"Authorization": f"Bearer {KEY}"}) as with_key:
            assert with_key.chat(**ask()).message.content == "echo: hello there"


@pytest.mark.parametrize(
    ("fault", "status"),
    [("rate_limit", 429), ("http_500", 500), ("http_503", 503), ("unauthorized", 401), ("context_length", 400)],
)
def test_faults_refuse_in_ollamas_shape(client: ollama.Client, fault: str, status: int) -> None:
    found = refused(client, model=f"sim-model#fault={fault}", messages=ask()["messages"])
    assert found[0] == status
    assert found[1]


def test_an_error_in_mid_stream_is_a_line_of_its_own(client: ollama.Client) -> None:
    parts = client.chat(f"{ask()['model']}#fault=error_event,after_events=2", ask()["messages"], stream=True)
    assert next(parts).message.content == "echo:"
    assert next(parts).message.content == " hello"
    with pytest.raises(ollama.ResponseError, match="llama runner process has terminated"):
        next(parts)


def test_a_broken_line_is_broken_json_in_sound_lines(upstream: RunningSimulator) -> None:
    import httpx

    body = {**ask(), "model": "m#fault=malformed_json,after_events=1"}
    lines = httpx.post(f"{upstream.origin}/api/chat", json=body, timeout=20).text.split("\n")
    assert lines[-1] == ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[1])
    assert json.loads(lines[-2])["done"] is True
