"""The official Ollama SDK talks to a simulated Cohere and a simulated Bedrock through both halves."""

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from tests.joined_halves import KEY, Joined
from tests.ollama_fixtures import CLOCK, PIXEL, SCHEMA, WEATHER

from pointsman.dialects.ollama import chat, generate
from pointsman.providers import bedrock, cohere
from pointsman.testing import Bedrock, Cohere, running_simulator

DIALECTS = {"/api/chat": chat, "/api/generate": generate}


@pytest.fixture(scope="module", params=["cohere", "bedrock"])
def bridge(request: pytest.FixtureRequest) -> Joined:
    if request.param == "cohere":
        return Joined(DIALECTS, cohere, Cohere(api_key=KEY))
    return Joined(DIALECTS, bedrock, Bedrock(api_key=KEY))


@pytest.fixture(scope="module")
def client(bridge: Joined) -> Iterator[ollama.Client]:
    with running_simulator(bridge) as running, ollama.Client(host=running.origin, timeout=20) as sdk:
        yield sdk


def user(text: str, **members: Any) -> Any:
    return [{"role": "user", "content": text, **members}]


@pytest.mark.parametrize("stream", [False, True])
def test_text_thinking_and_usage(client: ollama.Client, stream: bool) -> None:
    found = client.chat("m", user("hello there"), think="low", stream=stream)
    parts = list(found) if stream else [found]
    assert "".join(part.message.content or "" for part in parts) == "echo: hello there"
    assert "".join(part.message.thinking or "" for part in parts) == "thinking about: hello there"
    assert (parts[-1].done_reason, parts[-1].eval_count) == ("stop", 7)


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_calls_and_their_results(client: ollama.Client, bridge: Joined, stream: bool) -> None:
    messages = user("call the tool twice")
    found = client.chat("m", messages, tools=[WEATHER, CLOCK], stream=stream)
    calls = [call for part in (found if stream else [found]) for call in part.message.tool_calls or ()]
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert calls[0].function.arguments["city"]
    messages.append({"role": "assistant", "tool_calls": [call.model_dump() for call in calls]})
    messages += [{"role": "tool", "tool_name": call.function.name, "content": "fine"} for call in calls]
    assert client.chat("m", messages, tools=[WEATHER, CLOCK]).message.content == "echo: call the tool twice"
    assert json.dumps(bridge.sent).count("call_1_0") == json.dumps(bridge.sent).count("call_1_1") == 2


def test_pictures_and_schemas(client: ollama.Client, bridge: Joined) -> None:
    answer = client.chat("m", user("look", images=[PIXEL]), format=SCHEMA)
    assert json.loads(answer.message.content or "") == {"answer": "example answer"}
    assert PIXEL in json.dumps(bridge.sent)
    assert not bridge.fidelity


def test_a_prompt_and_what_others_have_no_place_for(client: ollama.Client, bridge: Joined) -> None:
    answer = client.generate("m", "one two", suffix="end", options={"num_ctx": 1, "num_predict": 2})
    assert (answer.response, answer.done_reason) == ("echo: one", "length")
    assert [note.path for note in bridge.fidelity.notes] == ["options.num_ctx", "suffix"]


def test_a_refusal_is_raised_by_the_sdk(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "tool", "content": "x", "tool_name": "f"}]
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("m", messages, tools=[WEATHER])
    assert caught.value.status_code == 400
    assert caught.value.error
