"""The operator's words on models: stored over the API or by command, in effect at once, and the file's own."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.cli import app
from pointsman.testing import OpenAIChat, running_simulator

PATH = "/api/pointsman/model-facts"
FILE: Any = {
    "connections": [{"id": "up", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["one", "two"]}],
    "facts": [{"model": "up/two", "context_tokens": 1000}],
}


def call(gateway: RunningGateway, method: str, **rest: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.request(method, gateway.address + PATH, headers=headers, timeout=20, **rest)


def facts(gateway: RunningGateway, name: str = "up/one") -> Any:
    return gateway.read(lambda: gateway.server.gateway.snapshot.catalogue.resolve(name).facts)


@pytest.fixture
def gateway(tmp_path: Path) -> Any:
    with running_gateway(tmp_path, FILE) as running:
        yield running


def test_words_are_in_effect_when_the_answer_comes_and_gone_when_they_are_taken_back(gateway: RunningGateway) -> None:
    said = {"model": "up/one", "prompt": 0.4, "completion": 1.6, "parameters": ["tools"], "zdr": True}
    assert call(gateway, "PUT", json=said).json() == said
    known = facts(gateway)
    assert (known.price.prompt, known.price.completion, known.zdr) == (400_000, 1_600_000, True)
    more = call(gateway, "PATCH", json={"model": "up/one", "context_tokens": 5000, "zdr": None}).json()
    assert more == {
        "model": "up/one",
        "prompt": 0.4,
        "completion": 1.6,
        "parameters": ["tools"],
        "context_tokens": 5000,
    }
    assert (facts(gateway).context_tokens, facts(gateway).zdr) == (5000, None)
    assert call(gateway, "GET").json() == {"data": [more], "next": None, "declared": FILE["facts"]}
    assert call(gateway, "DELETE", params={"model": "up/one"}).json() == {"deleted": True, "model": "up/one"}
    assert facts(gateway).price is None
    assert call(gateway, "DELETE", params={"model": "up/one"}).status_code == 404


def test_words_of_the_file_are_changed_there_alone_and_patterns_give_way_to_exact_names(
    gateway: RunningGateway,
) -> None:
    refused = call(gateway, "PUT", json={"model": "up/two", "context_tokens": 9})
    assert (refused.status_code, refused.json()["error"]["param"]) == (409, "model")
    assert call(gateway, "DELETE", params={"model": "up/two"}).status_code == 409
    assert call(gateway, "PUT", json={"model": "up/*", "context_tokens": 77}).status_code == 200
    assert (facts(gateway).context_tokens, facts(gateway, "up/two").context_tokens) == (77, 1000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": "x" * 600, "zdr": True}, "model"),
        ({"model": "up/one"}, None),
        ({"model": "up/one", "prompt": 1}, None),
        ({"model": "up/one", "price": 1}, "price"),
        ({"model": "up/one", "context_tokens": -1}, "context_tokens"),
        ({"model": "up/one", "context_tokens": "many"}, "context_tokens"),
        ({"model": "up/one", "parameters": "tools"}, "parameters"),
        ({"model": "up/one", "slug": "nobody"}, "slug"),
        ({"model": "up/one", "deprecated": "soon"}, "deprecated"),
        ({"model": "up/one", "name": "n" * 201}, "name"),
    ],
)
def test_wrong_words_are_refused_and_named(gateway: RunningGateway, body: Any, field: str | None) -> None:
    answer = call(gateway, "PUT", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field), answer.text
    assert call(gateway, "GET").json()["data"] == []


def test_words_are_listed_in_pages(gateway: RunningGateway) -> None:
    for name in ("a", "b", "c"):
        call(gateway, "PUT", json={"model": f"up/{name}", "zdr": True})
    first = call(gateway, "GET", params={"limit": 2}).json()
    assert ([row["model"] for row in first["data"]], first["next"]) == (["up/a", "up/b"], "up/b")
    second = call(gateway, "GET", params={"limit": 2, "after": "up/b"}).json()
    assert ([row["model"] for row in second["data"]], second["next"]) == (["up/c"], None)
    assert call(gateway, "GET", params={"limit": "0"}).status_code == 400


def test_they_need_an_administrators_key(gateway: RunningGateway) -> None:
    assert httpx.get(gateway.address + PATH, timeout=20).status_code == 401


def test_commands_say_and_take_back_and_calls_are_billed_by_what_was_said(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["models", *words, "--data-dir", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream:
        connection = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        with running_gateway(tmp_path, {"connections": [connection | {"models": ["sim-model"]}]}) as gateway:
            run("set", "up/sim-model", "prompt=1", "completion=2", "parameters=tools,stop", "zdr=true")
            body = {"model": "up/sim-model", "messages": [{"role": "user", "content": "hello"}]}
            headers = {"authorization": f"Bearer {KEY}"}
            answer = httpx.post(f"{gateway.address}/v1/chat/completions", json=body, headers=headers, timeout=20)
            usage = answer.json()["usage"]
            record = gateway.journal.the(answer.headers["x-request-id"])
            assert record.cost_nano_usd == usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 2000
            assert "prompt=1.0 completion=2.0 parameters=tools,stop zdr=True" in run("words")
            run("set", "up/sim-model", "zdr=")
            assert facts(gateway, "up/sim-model").zdr is None
            run("unset", "up/sim-model")
            assert facts(gateway, "up/sim-model").price is None
