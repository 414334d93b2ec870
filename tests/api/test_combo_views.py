"""Combos over OmniRoute's management API, and what requests of stored combos do."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]
BROKEN = "sim-model#fault=http_500"


class Place:
    """A gateway before two upstreams, and its management API."""

    def __init__(self, gateway: RunningGateway, first: RunningSimulator, second: RunningSimulator) -> None:
        self.gateway = gateway
        self.first, self.second = first, second
        self.http = httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=10)
        self.client = openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20)

    def make(self, name: str, *models: Any, **rest: Any) -> dict[str, Any]:
        """Create a combo."""
        answer = self.http.post("/api/combos", json={"name": name, "models": list(models), **rest})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def ask(self, model: str, messages: Any = HELLO, **rest: Any) -> Any:
        """One request."""
        return self.client.chat.completions.create(model=model, messages=messages, **rest)

    def refused(self, body: Any, **rest: Any) -> Any:
        """The error of a combo that can't be created."""
        answer = self.http.post("/api/combos", json=body, **rest)
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]


def settings(first: RunningSimulator, second: RunningSimulator) -> dict[str, Any]:
    """Two connections and a combo of the file."""
    rows = [
        {"id": "one", "kind": "openai", "base_url": first.base_url, "api_key": UPSTREAM_KEY, "provider": "acme",
         "models": ["sim-model", BROKEN]},
        {"id": "two", "kind": "openai", "base_url": second.base_url, "api_key": UPSTREAM_KEY, "provider": "acme",
         "models": ["sim-model", "other-model"]},
    ]  # fmt: skip
    combos = [{"name": "declared", "targets": ["one/sim-model", "two/sim-model"]}]
    return {"connections": rows, "combos": combos}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        first = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        second = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        gateway = stack.enter_context(running_gateway(tmp_path, settings(first, second)))
        found = Place(gateway, first, second)
        yield found
        found.http.close()
        found.client.close()


def test_a_combo_is_created_used_changed_and_removed(place: Place) -> None:
    combo = place.make("my combo", f"one/{BROKEN}", {"kind": "model", "model": "two/sim-model", "weight": 5})
    assert combo["strategy"] == "priority"
    assert [entry["id"] for entry in combo["models"]] == ["step-1", "step-2"]
    assert place.ask("my combo").choices[0].message.content == "echo: hello there"
    assert place.ask("combo/my combo").choices[0].message.content == "echo: hello there"
    path = f"/api/combos/{combo['id']}"
    for method, body in (("PATCH", {"models": ["one/sim-model"]}), ("PUT", {"description": "only one"})):
        changed = place.http.request(method, path, json=body)
        assert changed.status_code == 200, changed.text
    assert changed.json()["models"][0]["model"] == "one/sim-model"
    assert changed.json()["name"] == "my combo"
    before = len(place.first.requests)
    place.ask("my combo")
    assert len(place.first.requests) == before + 1
    assert place.http.delete(path).json() == {"success": True}
    assert place.http.get(path).status_code == 404
    with pytest.raises(openai.NotFoundError):
        place.ask("my combo")


def test_the_shape_of_the_specification_is_accepted_too(place: Place) -> None:
    nodes = [{"connectionId": "two", "weight": 3, "priority": 2}, {"connectionId": "one", "weight": 1, "priority": 1}]
    body = {"name": "spec", "model": "sim-model", "strategy": "weighted", "nodes": nodes}
    combo = place.http.post("/api/combos", json=body).json()
    assert [(entry["connectionId"], entry["weight"]) for entry in combo["models"]] == [("one", 1), ("two", 3)]
    assert combo["model"] == "sim-model"
    assert [node["connectionId"] for node in combo["nodes"]] == ["one", "two"]
    assert place.ask("spec").choices[0].message.content


def test_combos_of_the_file_are_shown_and_can_not_be_changed(place: Place) -> None:
    [shown] = place.http.get("/api/combos").json()["combos"]
    assert (shown["name"], shown["source"]) == ("declared", "file")
    answer = place.http.patch(f"/api/combos/{shown['id']}", json={"strategy": "random"})
    assert answer.status_code == 400
    assert "configuration file" in answer.json()["error"]
    assert place.refused({"name": "declared", "models": []}) == "Combo name already exists"


def test_every_field_at_fault_is_named(place: Place) -> None:
    error = place.refused(
        {
            "name": "bad!",
            "strategy": "best",
            "models": [{"kind": "model", "weight": 200}, 7],
            "config": {"maxRetries": 11, "queueDepth": -1, "handoffThreshold": 0.99, "somethingNew": "passes"},
            "tool_filter_regex": "(",
            "context_length": 10,
        }
    )
    assert {detail["field"] for detail in error["details"]} == {
        "name", "strategy", "models[0].weight", "models[0].model", "models[1]", "config.maxRetries",
        "config.queueDepth", "config.handoffThreshold", "tool_filter_regex", "context_length",
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b""])
def test_a_body_that_is_no_object_is_refused(place: Place, body: bytes) -> None:
    answer = place.http.post("/api/combos", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "body"


def test_circles_and_deep_nesting_are_refused_at_the_write(place: Place) -> None:
    place.make("a", "one/sim-model")
    place.make("b", {"kind": "combo-ref", "comboName": "a"})
    combo = place.make("c", {"kind": "combo-ref", "comboName": "b", "weight": 10})
    assert "nested 4 deep" in place.refused({"name": "d", "models": [{"kind": "combo-ref", "comboName": "c"}]})
    ids = {one["name"]: one["id"] for one in place.http.get("/api/combos").json()["combos"]}
    answer = place.http.patch(f"/api/combos/{ids['a']}", json={"models": ["combo/c"]})
    assert answer.status_code == 400
    assert "circle" in answer.json()["error"]
    assert place.ask("c").choices[0].message.content == "echo: hello there"
    assert combo["models"][0]["comboName"] == "b"


def test_a_wildcard_stands_for_every_model_of_a_provider(place: Place) -> None:
    place.make("all", "acme/*", strategy="priority")
    answer = place.http.post("/api/combos/test", json={"comboName": "all"})
    assert answer.status_code == 200, answer.text + place.gateway.log_text()[-3000:]
    found = answer.json()
    assert [result["model"] for result in found["results"]] == [
        "one/sim-model", f"one/{BROKEN}", "two/sim-model", "two/other-model"
    ]  # fmt: skip
    states = {result["model"]: result["status"] for result in found["results"]}
    assert states["one/sim-model"] == "ok"
    assert states[f"one/{BROKEN}"] == "error"
    assert found["resolvedBy"] == "one/sim-model"
    assert found["results"][0]["responseText"].startswith("echo:")


def test_a_name_that_hides_a_model_is_warned_about(place: Place) -> None:
    combo = place.make("other-model", "one/sim-model")
    assert combo["warning"]["code"] == "COMBO_NAME_SHADOWS_MODEL"
    assert combo["warning"]["modelId"] == "other-model"
    assert "warning" not in place.make("unlike any", "one/sim-model")


def test_only_administrators_come_in(place: Place) -> None:
    keys = place.gateway.installation.keys

    async def make() -> str:
        _, secret = await keys.create("other", "inference")
        return secret.reveal()

    other = place.gateway.call(make())
    wait_until(lambda: place.http.get("/api/combos", headers={"authorization": f"Bearer {other}"}).status_code == 403,
               "refusal")  # fmt: skip
    nobody = httpx.get(f"{place.gateway.address}/api/combos")
    assert nobody.status_code == 401
    assert nobody.json()["error"]["message"] == "Authentication required"
    assert nobody.json()["requestId"].startswith("req_")
    with_header = httpx.get(f"{place.gateway.address}/api/combos", headers={"x-api-key": KEY})
    assert with_header.status_code == 200


def test_figures_are_added_up_from_the_records_and_can_be_reset(place: Place) -> None:
    place.make("counted", f"one/{BROKEN}", "two/sim-model")
    for _ in range(3):
        place.ask("counted")

    def figures() -> Any:
        found = place.http.get("/api/combos/metrics").json()["metrics"].get("counted")
        return found if found and found["totalRequests"] == 3 else None

    found = wait_until(figures, "figures")
    assert (found["totalSuccesses"], found["successRate"], found["strategy"]) == (3, 100, "priority")
    assert found["totalFallbacks"] == 1
    assert found["byTarget"][f"one/{BROKEN}"]["failures"] == 1
    assert found["byTarget"]["two/sim-model"]["successes"] == 3
    assert found["byModel"]["sim-model"]["requests"] == 3
    one = place.http.get("/api/combos/metrics", params={"combo": "counted"}).json()
    assert one["metrics"]["totalRequests"] == 3
    assert place.http.delete("/api/combos/metrics", params={"combo": "counted"}).json()["success"] is True
    empty = place.http.get("/api/combos/metrics", params={"combo": "counted"}).json()
    assert empty["metrics"] is None
    assert empty["message"]


def test_defaults_come_down_the_cascade(place: Place) -> None:
    combo = place.make("tuned", "one/sim-model", "two/sim-model", config={"queueDepth": 0, "maxRetries": None})
    assert combo["config"] == {"queueDepth": 0}
    body = {"comboDefaults": {"maxRetries": 4, "queueDepth": 9}, "providerOverrides": {"one": {"retryDelayMs": 1}}}
    answer = place.http.patch("/api/settings/combo-defaults", json=body)
    assert answer.status_code == 200, answer.text
    stored = place.http.get("/api/settings/combo-defaults").json()
    assert stored["comboDefaults"] == {"maxRetries": 4, "queueDepth": 9}
    settings_now = place.gateway.read(lambda: place.gateway.server.gateway.snapshot.catalogue.combos["tuned"])
    assert (settings_now.settings["maxRetries"], settings_now.settings["queueDepth"]) == (4, 0)
    assert settings_now.settings["retryDelayMs"] == 2000
    assert settings_now.overrides["one"]["retryDelayMs"] == 1
    place.http.put("/api/settings/combo-defaults", json={"comboDefaults": {"maxRetries": None}})
    assert place.http.get("/api/settings/combo-defaults").json()["comboDefaults"] == {"queueDepth": 9}
    for wrong in ({}, {"comboDefaults": {"maxRetries": 99}}, {"providerOverrides": []}):
        assert place.http.put("/api/settings/combo-defaults", json=wrong).status_code == 400


def test_a_fallback_chain_leads_to_other_providers(place: Place) -> None:
    model = f"one/{BROKEN}"
    chain = [{"provider": "one", "priority": 1}, {"provider": "two", "priority": 2, "enabled": False}]
    assert place.http.post("/api/fallback/chains", json={"model": model, "chain": chain}).json() == {
        "success": True, "model": model
    }  # fmt: skip
    found = place.http.get("/api/fallback/chains").json()
    assert found[model][1] == {"provider": "two", "priority": 2, "enabled": False}
    body = {"model": "sim-model", "chain": [{"provider": "two"}, {"provider": "one"}]}
    place.http.post("/api/fallback/chains", json=body)
    place.ask("sim-model")
    assert [len(place.first.requests), len(place.second.requests)] == [0, 1]
    removed = place.http.request("DELETE", "/api/fallback/chains", json={"model": "sim-model"})
    assert removed.json() == {"success": True, "removed": True}
    again = place.http.request("DELETE", "/api/fallback/chains", json={"model": "sim-model"})
    assert again.json() == {"success": True, "removed": False}
    wrong = place.http.post("/api/fallback/chains", json={"model": "", "chain": [{"priority": 3}]})
    assert {detail["field"] for detail in wrong.json()["error"]["details"]} == {"model", "chain[0].provider"}


def test_the_common_fallback_answers_when_a_whole_combo_fails(place: Place) -> None:
    place.make("doomed", f"one/{BROKEN}")
    with pytest.raises(openai.InternalServerError):
        place.ask("doomed")
    place.http.patch("/api/settings/combo-defaults", json={"globalFallbackModel": "two/other-model"})
    assert place.ask("doomed").choices[0].message.content == "echo: hello there"


def test_combos_are_put_in_another_order(place: Place) -> None:
    ids = [place.make(name, "one/sim-model")["id"] for name in ("first", "second", "third")]
    answer = place.http.post("/api/combos/reorder", json={"comboIds": [ids[2], ids[0], ids[1]]})
    assert [combo["name"] for combo in answer.json()["combos"]] == ["declared", "third", "first", "second"]
    assert place.http.post("/api/combos/reorder", json={"comboIds": ["nobody"]}).status_code == 404
