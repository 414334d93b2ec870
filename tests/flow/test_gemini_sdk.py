"""Google's SDK through a real gateway to every kind of upstream, and other clients through it to Gemini."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import (
    AnthropicMessages,
    Cohere,
    Gemini,
    Ollama,
    OpenAIResponses,
    RunningSimulator,
    running_simulator,
)
from pointsman.wire.gemini import PLACEHOLDER_SIGNATURE

UPSTREAMS: dict[str, tuple[Any, str, str]] = {
    "gemini": (Gemini, "gemini", ""),
    "anthropic": (AnthropicMessages, "anthropic", ""),
    "openai": (OpenAIResponses, "openai", "/v1"),
    "ollama": (Ollama, "ollama", ""),
    "cohere": (Cohere, "cohere", ""),
}
TOOLS: Any = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(
                name="weather",
                parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
            ),
            types.FunctionDeclaration(name="clock"),
        ]
    )
]
WEATHER: Any = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, RunningSimulator]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(running_simulator(api())) for name, (api, _, _) in UPSTREAMS.items()}


@pytest.fixture(scope="module")
def gateway(
    simulators: dict[str, RunningSimulator], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    connections = [
        {
            "id": name,
            "kind": kind,
            "base_url": simulators[name].origin + path,
            "api_key": UPSTREAM_KEY,
            "models": ["sim-model"],
        }
        for name, (_, kind, path) in UPSTREAMS.items()
    ]
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": connections}) as running:
        yield running


@pytest.fixture(scope="module", params=["v1", "v1beta"])
def client(request: pytest.FixtureRequest, gateway: RunningGateway) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{gateway.port}", api_version=request.param, timeout=10_000)
    made = genai.Client(api_key=KEY, http_options=options)
    yield made
    made.close()


def config(**options: Any) -> types.GenerateContentConfig:
    manual = types.AutomaticFunctionCallingConfig(disable=True)
    return types.GenerateContentConfig(automatic_function_calling=manual, **options)


@pytest.mark.parametrize("upstream", list(UPSTREAMS))
def test_text_is_the_same_whole_and_streamed_and_both_tell_their_usage(client: genai.Client, upstream: str) -> None:
    model = f"{upstream}/sim-model"
    whole = client.models.generate_content(model=model, contents="hello there", config=config())
    chunks = list(client.models.generate_content_stream(model=model, contents="hello there", config=config()))
    assert whole.text == "".join(chunk.text or "" for chunk in chunks) == "echo: hello there"
    for usage in (whole.usage_metadata, chunks[-1].usage_metadata):
        assert usage
        assert usage.total_token_count
    assert chunks[-1].candidates
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP


@pytest.mark.parametrize("upstream", list(UPSTREAMS))
@pytest.mark.parametrize("streamed", [False, True])
def test_parallel_calls_come_and_their_results_are_taken(client: genai.Client, upstream: str, streamed: bool) -> None:
    model, text = f"{upstream}/sim-model", "call the tool twice"
    ask: Any = client.models.generate_content_stream if streamed else client.models.generate_content
    got = ask(model=model, contents=text, config=config(tools=TOOLS))
    called = [
        part
        for chunk in (got if streamed else [got])
        for candidate in chunk.candidates or ()
        for part in (candidate.content.parts if candidate.content else None) or ()
        if part.function_call
    ]
    assert [part.function_call.name for part in called] == ["weather", "clock"]
    results = [
        types.Part(
            function_response=types.FunctionResponse(
                id=part.function_call.id, name=part.function_call.name, response={"ok": True}
            )
        )
        for part in called
    ]
    history: list[Any] = [
        types.UserContent(text),
        types.Content(role="model", parts=called),
        types.Content(role="user", parts=results),
    ]
    again = client.models.generate_content(model=model, contents=history, config=config(tools=TOOLS))
    assert again.text == f"echo: {text}"


def test_models_are_listed_and_found_and_tokens_counted(client: genai.Client) -> None:
    assert [model.name for model in client.models.list()] == [f"models/{name}/sim-model" for name in UPSTREAMS]
    assert client.models.get(model="gemini/sim-model").name == "models/gemini/sim-model"
    assert client.models.count_tokens(model="gemini/sim-model", contents="hello there").total_tokens == 5


def test_an_unknown_model_is_not_found_in_googles_words(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model="nobody/nothing", contents="hello", config=config())
    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")


def test_a_stream_without_sse_is_an_array_and_the_key_may_stand_in_the_query(gateway: RunningGateway) -> None:
    body = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
    for upstream in ("gemini", "anthropic"):
        url = f"http://127.0.0.1:{gateway.port}/v1beta/models/{upstream}/sim-model:streamGenerateContent?key={KEY}"
        with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=20) as answer:
            assert answer.headers["content-type"] == "application/json; charset=UTF-8"
            chunks = json.loads(answer.read())
        texts = [part["text"] for one in chunks for part in one["candidates"][0].get("content", {}).get("parts", ())]
        assert "".join(texts) == "echo: hi"


def signatures_sent(simulator: RunningSimulator) -> list[str]:
    """Of the calls in the last request that the simulated Gemini got."""
    contents = json.loads(simulator.requests[-1].body)["contents"]
    parts = [part for content in contents for part in content["parts"] if "functionCall" in part]
    return [part.get("thoughtSignature", "") for part in parts]


def test_an_openai_clients_calls_get_their_signatures_back(
    gateway: RunningGateway, simulators: dict[str, RunningSimulator]
) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    text: Any = {"role": "user", "content": "call the tool"}
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=KEY, max_retries=0) as sdk:
        first = sdk.chat.completions.create(model="gemini/sim-model", messages=[text], tools=tools)
        [call] = first.choices[0].message.tool_calls or []
        history: Any = [
            text,
            {
                "role": "assistant",
                "tool_calls": [{"id": call.id, "type": "function", "function": call.to_dict()["function"]}],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "blue"},
        ]
        second = sdk.chat.completions.create(model="gemini/sim-model", messages=history, tools=tools)
    assert second.choices[0].message.content == "echo: call the tool"
    [signature] = signatures_sent(simulators["gemini"])
    assert signature not in ("", PLACEHOLDER_SIGNATURE)


def test_an_anthropic_clients_calls_get_their_signatures_back(
    gateway: RunningGateway, simulators: dict[str, RunningSimulator]
) -> None:
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    text: Any = {"role": "user", "content": "call the tool"}
    asked: Any = {"model": "gemini/sim-model", "max_tokens": 1000, "tools": tools}
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key=KEY, max_retries=0) as sdk:
        with sdk.messages.stream(messages=[text], **asked) as streamed:
            first = streamed.get_final_message()
        [call] = [block for block in first.content if block.type == "tool_use"]
        history: Any = [
            text,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "blue"}]},
        ]
        second = sdk.messages.create(messages=history, **asked)
    assert [block.text for block in second.content if block.type == "text"] == ["echo: call the tool"]
    [signature] = signatures_sent(simulators["gemini"])
    assert signature not in ("", PLACEHOLDER_SIGNATURE)
