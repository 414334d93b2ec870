"""The official Ollama SDK, through a whole gateway, onto Ollama, Cohere and Bedrock."""

import json
from collections.abc import Iterator
from typing import Any

import ollama
import openai
import pytest
from tests.ollama_fixtures import CLOCK, PIXEL, SCHEMA, WEATHER

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import Bedrock, Cohere, Ollama, running_simulator
from raw_client import Connection, ask, request

UPSTREAMS = ["ollama", "cohere", "bedrock", "signed"]
ACCESS_KEY = "AKIASIMULATED:simulated/secret+key"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with (
        running_simulator(Ollama(api_key=UPSTREAM_KEY)) as local,
        running_simulator(Cohere(api_key=UPSTREAM_KEY)) as cohere,
        running_simulator(Bedrock(api_key=UPSTREAM_KEY)) as bedrock,
        running_simulator(Bedrock(api_key=ACCESS_KEY)) as signed,
    ):
        connections = [
            {"id": name, "kind": kind, "base_url": one.origin, "api_key": key, "models": ["sim"]}
            for name, kind, one, key in (
                ("ollama", "ollama-cloud", local, UPSTREAM_KEY),
                ("cohere", "cohere", cohere, UPSTREAM_KEY),
                ("bedrock", "bedrock", bedrock, UPSTREAM_KEY),
                ("signed", "bedrock", signed, ACCESS_KEY),
            )
        ]
        with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": connections}) as running:
            yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[ollama.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with ollama.Client(host=gateway.address, headers=headers, timeout=20) as sdk:
        yield sdk


def user(text: str, **members: Any) -> Any:
    return [{"role": "user", "content": text, **members}]


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("stream", [False, True])
def test_text_thinking_and_usage(client: ollama.Client, upstream: str, stream: bool) -> None:
    found = client.chat(f"{upstream}/sim", user("hello there"), think="low", stream=stream)
    parts = list(found) if stream else [found]
    assert "".join(part.message.content or "" for part in parts) == "echo: hello there"
    assert "".join(part.message.thinking or "" for part in parts) == "thinking about: hello there"
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].eval_count) == (True, "stop", 7)


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("stream", [False, True])
def test_parallel_calls_and_their_results(client: ollama.Client, upstream: str, stream: bool) -> None:
    messages = user("call the tool twice")
    found = client.chat(f"{upstream}/sim", messages, tools=[WEATHER, CLOCK], stream=stream)
    calls = [call for part in (found if stream else [found]) for call in part.message.tool_calls or ()]
    assert [call.function.name for call in calls] == ["weather", "clock"]
    messages.append({"role": "assistant", "tool_calls": [call.model_dump() for call in calls]})
    messages += [{"role": "tool", "tool_name": call.function.name, "content": "fine"} for call in calls]
    answer = client.chat(f"{upstream}/sim", messages, tools=[WEATHER, CLOCK])
    assert answer.message.content == "echo: call the tool twice"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_pictures_schemas_and_prompts(client: ollama.Client, upstream: str) -> None:
    answer = client.chat(f"{upstream}/sim", user("look", images=[PIXEL]), format=SCHEMA)
    assert json.loads(answer.message.content or "") == {"answer": "example answer"}
    assert client.generate(f"{upstream}/sim", "one two").response == "echo: one two"
    parts = list(client.generate(f"{upstream}/sim", "one two", stream=True))
    assert "".join(part.response or "" for part in parts) == "echo: one two"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_stream_that_breaks_off_raises(client: ollama.Client, upstream: str) -> None:
    found = client.chat(f"{upstream}/sim#fault=cut_mid_stream,after_events=4", user("a b c d e f g"), stream=True)
    with pytest.raises(ollama.ResponseError):
        list(found)


def test_models_are_listed_and_keys_demanded(client: ollama.Client, gateway: RunningGateway) -> None:
    assert {model.model for model in client.list().models} >= {f"{name}/sim" for name in UPSTREAMS}
    assert client.show("ollama/sim").capabilities
    with ollama.Client(host=gateway.address, timeout=20) as stranger:
        with pytest.raises(ollama.ResponseError) as caught:
            stranger.chat("ollama/sim", user("x"))
        assert caught.value.status_code == 401


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_openais_sdk_reaches_them_too(gateway: RunningGateway, upstream: str) -> None:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk:
        messages: Any = user("call the tool twice")
        whole = sdk.chat.completions.create(model=f"{upstream}/sim", messages=messages, tools=[WEATHER, CLOCK])
        calls = whole.choices[0].message.tool_calls or []
        assert [json.loads(call.function.arguments) for call in calls] == [{"city": "example city"}, {}]  # type: ignore[union-attr]
        messages.append(whole.choices[0].message)
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls]
        stream = sdk.chat.completions.create(
            model=f"{upstream}/sim", messages=messages, tools=[WEATHER, CLOCK], stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == "echo: call the tool twice"


@pytest.mark.parametrize("upstream", ["cohere/sim", "bedrock/sim"])
def test_a_request_that_only_loads_a_model_is_answered_at_once(client: ollama.Client, upstream: str) -> None:
    answer = client.chat(model=upstream, messages=[])
    assert (answer.done, answer.done_reason) == (True, "load")
    assert client.generate(model=upstream).done


def test_the_root_tells_ollamas_clients_that_somebody_is_there_and_browsers_something_else(
    gateway: RunningGateway,
) -> None:
    for method, accept in (("GET", "application/json"), ("HEAD", "application/json"), ("GET", "*/*"), ("GET", None)):
        lines = [f"accept: {accept}"] if accept else []
        with Connection(gateway.port) as connection:
            answer = connection.ask(request(method, "/", b"", *lines, key=None))
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert answer.body == (b"" if method == "HEAD" else b"Ollama is running")
        assert answer.headers["content-length"] == "17"
    page = "accept: text/html,application/xhtml+xml,*/*;q=0.8"
    assert b"Ollama" not in ask(gateway.port, request("GET", "/", b"", page, key=None)).body
