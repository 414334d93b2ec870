"""OpenRouter's own SDK on the path that its API shares with others: what tells its clients apart, and what they get."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import openrouter
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from pointsman.testing.openai_flavours import FLAVOURS

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
BASES = ("/api/v1", "/openrouter/api/v1")


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, flavour=FLAVOURS["qwen"])) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    row = {"id": "sim", "kind": "vllm", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    settings = {"connections": [row], "local": {"enabled": True}}
    with running_gateway(tmp_path_factory.mktemp("openrouter"), settings) as running:
        yield running


@pytest.fixture(params=BASES)
def client(gateway: RunningGateway, request: pytest.FixtureRequest) -> Iterator[openrouter.OpenRouter]:
    with openrouter.OpenRouter(
        api_key=KEY, server_url=gateway.address + request.param, retry_config=None, timeout_ms=20_000
    ) as client:
        yield client


def post(gateway: RunningGateway, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    try:
        sent = {"authorization": f"Bearer {KEY}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request("POST", path, json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_its_sdk_chats_whole_and_streamed(client: openrouter.OpenRouter) -> None:
    whole = client.chat.send(model="sim/sim-model", messages=HELLO, reasoning={"effort": "low"})
    message = whole.choices[0].message
    assert message.content == "echo: hello there"
    assert message.reasoning == "Thinking about: hello there"
    with client.chat.send(model="sim/sim-model", messages=HELLO, stream=True) as events:
        chunks = list(events)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "echo: hello there"


def test_its_sdk_reads_the_errors_of_chat_and_of_operations(client: openrouter.OpenRouter) -> None:
    with pytest.raises(openrouter.errors.BadRequestResponseError):
        client.chat.send(model="nobody/nothing", messages=HELLO)
    with pytest.raises(openrouter.errors.BadRequestResponseError):
        client.embeddings.generate(model="nobody/nothing", input="x")


def test_its_sdk_embeds_and_ranks(client: openrouter.OpenRouter) -> None:
    found: Any = client.embeddings.generate(model="local/minilm", input=["a cat"])
    assert len(found.data[0].embedding) == 384
    ranked: Any = client.rerank.rerank(
        model="local/minilm", query="capital of France", documents=["bananas", "Paris is the capital of France"]
    )
    assert ranked.results[0].index == 1


@pytest.mark.parametrize(
    ("hint", "seen"),
    [
        ({}, False),
        ({"http_referer": "https://app.example"}, True),
        ({"x_title": "App"}, True),
        ({"x_openrouter_categories": "chat"}, True),
        ({"x_title": "App", "x_omniroute_no_cache": "1"}, False),
        ({"referer": "https://app.example"}, False),
    ],
)
def test_headers_tell_its_clients_apart(gateway: RunningGateway, hint: dict[str, str], seen: bool) -> None:
    status, answer = post(gateway, "/api/v1/chat/completions", {"model": "none/x", "messages": HELLO}, **hint)
    assert (status, answer["error"]["code"]) == ((400, 400) if seen else (404, "model_not_found"))
    _, elsewhere = post(gateway, "/v1/chat/completions", {"model": "none/x", "messages": HELLO}, **hint)
    assert elsewhere["error"]["code"] == "model_not_found"


def test_its_members_and_its_keys_tell_its_clients_apart_but_give_no_right(gateway: RunningGateway) -> None:
    path, body = "/api/v1/chat/completions", {"model": "none/x", "messages": HELLO}
    assert post(gateway, path, {**body, "provider": {"sort": "price"}})[1]["error"]["code"] == 400
    assert post(gateway, path, {**body, "models": ["none/x"]})[1]["error"]["code"] == 400
    assert post(gateway, path, {**body, "provider": "sim"})[1]["error"]["code"] == "model_not_found"
    status, answer = post(gateway, path, body, authorization=f"Bearer sk-or-v1-{'0' * 64}")
    assert (status, answer["error"]["code"]) == (401, 401)


def test_others_take_the_raw_lane_there(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    status, answer = post(
        gateway, "/api/v1/chat/completions", {"model": "sim/sim-model", "messages": HELLO, "x_odd": 1}
    )
    assert (status, answer["system_fingerprint"]) == (200, "fp_simulated0")
    assert b'"x_odd":1' in simulator.requests[-1].body
