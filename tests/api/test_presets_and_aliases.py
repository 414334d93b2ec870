"""Presets and aliases over HTTP: made, used in every API that has them, and removed."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import AnthropicMessages, OpenAIChat, OpenAIResponses, RunningSimulator, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]
LOOK = {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}}
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


class Place:
    """A gateway before three upstreams, each of another API."""

    def __init__(self, gateway: RunningGateway, behind: dict[str, RunningSimulator]) -> None:
        self.gateway = gateway
        self.behind = behind
        self.http = httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=10)

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        """An answer's JSON."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def store(self, slug: str, status: int = 200, **body: Any) -> Any:
        """A stored preset, or the error."""
        answer = self.http.put(f"/api/v1/presets/{slug}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def sent(self, name: str) -> dict[str, Any]:
        """What an upstream was asked last."""
        found: dict[str, Any] = json.loads(self.behind[name].requests[-1].body)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        kinds = {"chat": OpenAIChat, "responses": OpenAIResponses, "claude": AnthropicMessages}
        behind = {
            name: stack.enter_context(running_simulator(kind(api_key=UPSTREAM_KEY))) for name, kind in kinds.items()
        }
        rows = [
            {"id": "one", "kind": "openai", "base_url": behind["chat"].base_url, "models": ["m", "n"]},
            {"id": "two", "kind": "openai-responses", "base_url": behind["responses"].base_url, "models": ["r"]},
            {"id": "three", "kind": "anthropic", "base_url": behind["claude"].origin, "models": ["claude-sonnet-4-5"]},
        ]  # fmt: skip
        settings = {
            "connections": [{**row, "api_key": UPSTREAM_KEY} for row in rows],
            "models": [{"name": "file-*", "target": "one/*"}],
        }
        gateway = stack.enter_context(running_gateway(tmp_path, settings))
        found = Place(gateway, behind)
        yield found
        found.http.close()


def test_a_preset_fills_in_what_a_chat_does_not_say(place: Place) -> None:
    place.store(
        "brief", model="one/m", system="Be brief.", parameters={"temperature": 0.2, "max_tokens": 50}, tools=[LOOK]
    )
    place.post("/api/v1/chat/completions", model="@preset/brief", messages=HELLO)
    sent = place.sent("chat")
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["tools"]) == ("m", 0.2, 50, [LOOK])
    place.post(
        "/v1/chat/completions", model="one/n", preset="brief", temperature=1, max_completion_tokens=9, tools=[FIND],
        messages=[{"role": "system", "content": "Mine."}, *HELLO],
    )  # fmt: skip
    sent = place.sent("chat")
    assert (sent["model"], sent["temperature"], sent["messages"][0]["content"]) == ("n", 1, "Mine.")
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["find", "look"]
    assert "max_tokens" not in sent
    assert "preset" not in sent


@pytest.mark.parametrize("named", [{"preset": "brief"}, {"model": "@preset/brief"}, {"model": "one/n@preset/brief"}])
def test_a_preset_may_name_the_model_and_its_fallbacks(place: Place, named: dict[str, str]) -> None:
    place.store("brief", models=["one/m#fault=http_500", "nobody/knows", "one/m"])
    place.post("/api/v1/chat/completions", **named, messages=HELLO)
    assert place.sent("chat")["model"] == ("n" if "one/n" in named.get("model", "") else "m")


def test_a_preset_is_put_into_the_words_of_responses_and_messages(place: Place) -> None:
    parameters = {"max_tokens": 60, "stop": "END", "top_p": 0.5}
    place.store("brief", model="two/r", system="Be brief.", parameters=parameters, tools=[LOOK])
    place.post("/v1/responses", model="@preset/brief", input="hello")
    sent = place.sent("responses")
    assert (sent["model"], sent["instructions"], sent["max_output_tokens"], sent["top_p"]) == (
        "r",
        "Be brief.",
        60,
        0.5,
    )
    assert sent["tools"][0]["name"] == "look"
    place.post("/v1/messages", model="three/claude-sonnet-4-5@preset/brief", messages=HELLO)
    sent = place.sent("claude")
    assert (sent["max_tokens"], sent["stop_sequences"]) == (60, ["END"])
    assert "Be brief." in str(sent["system"])
    assert (sent["tools"][0]["name"], sent["tools"][0]["input_schema"]["type"]) == ("look", "object")


def test_presets_are_listed_shown_and_removed_and_an_unknown_one_is_named(place: Place) -> None:
    place.store("a", model="one/m")
    place.store("b", model="one/n", provider={"sort": "price"})
    listed = place.http.get("/api/v1/presets").json()
    assert [(row["slug"], row["model"]) for row in listed["data"]] == [("a", "one/m"), ("b", "one/n")]
    assert place.http.get("/api/v1/presets", params={"limit": 1, "offset": 1}).json()["data"][0]["slug"] == "b"
    assert place.http.get("/api/v1/presets/b").json()["data"]["provider"] == {"sort": "price"}
    assert place.http.delete("/api/v1/presets/b").status_code == 200
    assert [place.http.request(method, "/api/v1/presets/b").status_code for method in ("GET", "DELETE")] == [404, 404]
    error = place.post("/api/v1/chat/completions", 404, model="@preset/b", messages=HELLO)["error"]
    assert "the preset 'b' does not exist" in error["message"]
    error = place.post("/v1/chat/completions", 400, model="one/m", preset="b", messages=HELLO)["error"]
    assert error["param"] == "preset"


@pytest.mark.parametrize(
    ("slug", "body", "field"),
    [
        ("UPPER", {"model": "m"}, "slug"),
        ("ok", {"modell": "m"}, "modell"),
        ("ok", {"model": 5}, "model"),
        ("ok", {"model": "@preset/ok"}, "models"),
        ("ok", {"parameters": {"n": 3}}, "parameters.n"),
        ("ok", {"provider": {"sort": "beauty"}}, "provider.sort"),
    ],
)
def test_a_preset_that_can_not_be_so_is_refused_by_field(place: Place, slug: str, body: Any, field: str) -> None:
    assert f"'{field}'" in place.store(slug, 400, **body)["error"]["message"]


def test_only_administrators_see_presets(place: Place) -> None:
    assert httpx.get(f"{place.gateway.address}/api/v1/presets").status_code == 401


def test_an_explanation_knows_presets(place: Place) -> None:
    place.store("brief", model="one/m")
    told = place.post("/api/pointsman/route/explain", model="@preset/brief")
    assert "one/m" in json.dumps(told)


def test_an_alias_with_a_star_is_made_used_and_removed(place: Place) -> None:
    assert place.post("/api/models/alias", alias="claude-*", model="one/m")["success"]
    assert place.http.put("/api/models/alias", json={"alias": "claude-opus-*", "model": "one/n"}).status_code == 200
    for asked, got in (("claude-haiku", "m"), ("claude-opus-5", "n"), ("file-n", "n")):
        place.post("/v1/chat/completions", model=asked, messages=HELLO)
        assert place.sent("chat")["model"] == got
    listed = place.http.get("/api/models/alias").json()["aliases"]
    assert listed == {"file-*": "one/*", "claude-*": "one/m", "claude-opus-*": "one/n"}
    assert "claude-*" not in place.http.get("/v1/models").text
    assert place.http.delete("/api/models/alias", params={"alias": "claude-*"}).status_code == 200
    assert place.http.delete("/api/models/alias", params={"alias": "claude-*"}).status_code == 404
    place.post("/v1/chat/completions", 404, model="claude-haiku", messages=HELLO)


@pytest.mark.parametrize(
    ("alias", "model", "field"),
    [("", "m", "alias"), ("a", "", "model"), ("a", "b*", "model"), ("*" * 5, "m", "alias"), ("file-*", "m", "alias")],
)
def test_an_alias_that_can_not_be_so_is_refused_by_field(place: Place, alias: str, model: str, field: str) -> None:
    error = place.post("/api/models/alias", 400, alias=alias, model=model)["error"]
    assert error["details"][0]["field"] == field
