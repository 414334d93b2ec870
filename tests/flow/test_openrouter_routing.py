"""OpenRouter's routing through a whole gateway: its SDK in front, several providers of one model behind."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openrouter
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from pointsman.testing.openai_flavours import FLAVOURS

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
MODEL = "lab/echo"
BROKEN = "sim-model#fault=http_500"
NAMES = ("cheap", "fair", "dear")
PRICES = {"cheap": 0.001, "fair": 1.0, "dear": 100.0}


class Site:
    """A gateway before three providers of one model, a broken one, and OpenRouter itself."""

    def __init__(self, gateway: RunningGateway, behind: dict[str, RunningSimulator]) -> None:
        self.gateway = gateway
        self.behind = behind
        self.client = openrouter.OpenRouter(
            api_key=KEY, server_url=f"{gateway.address}/api/v1", retry_config=None, timeout_ms=10_000
        )

    def send(self, **members: Any) -> Any:
        """A chat's answer."""
        return self.client.chat.send(**{"model": MODEL, "messages": HELLO, **members})

    def asked(self) -> dict[str, int]:
        """How many calls each provider has had."""
        return {name: len(one.requests) for name, one in self.behind.items() if one.requests}

    def post(self, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        connection = HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)
        try:
            sent = {"authorization": f"Bearer {KEY}", **{name.replace("_", "-"): v for name, v in headers.items()}}
            connection.request("POST", path, json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        behind = {name: stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for name in NAMES}
        behind["router"] = stack.enter_context(
            running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, flavour=FLAVOURS["openrouter"]))
        )
        # Those that fail are accounts of their own: a failure is held against the connection.
        rows: list[dict[str, Any]] = [
            {
                "id": identifier, "kind": "vllm", "provider": name, "base_url": behind[name].base_url,
                "api_key": UPSTREAM_KEY, "models": [model],
            }
            for name in NAMES
            for identifier, model in ((name, "sim-model"), (f"{name}-broken", BROKEN))
        ]  # fmt: skip
        rows.append(
            {"id": "router", "kind": "openrouter", "base_url": behind["router"].base_url, "api_key": UPSTREAM_KEY,
             "models": ["only-there"]}
        )  # fmt: skip
        facts: list[dict[str, Any]] = []
        for name in NAMES:
            price = {"prompt": PRICES[name], "completion": PRICES[name]}
            facts.append({"model": f"{name}/sim-model", "slug": MODEL, **price})
            facts.append({"model": f"{name}-broken/{BROKEN}", "slug": "lab/broken", **price})
        settings = {
            "connections": rows, "facts": facts, "routing": {"default_model": MODEL, "model_lists": False},
        }  # fmt: skip
        found = Site(stack.enter_context(running_gateway(tmp_path, settings)), behind)
        with found.client:
            yield found


def test_the_cheapest_provider_is_nearly_always_drawn(site: Site) -> None:
    for _ in range(20):
        site.send()
    assert site.asked() == {"cheap": 20}


def test_an_order_an_exclusion_and_a_string_decide(site: Site) -> None:
    site.send(provider={"order": ["dear"]})
    site.send(provider={"only": ["fair", "dear"], "sort": "price"})
    site.send(provider={"ignore": ["cheap", "dear"]})
    assert site.asked() == {"dear": 1, "fair": 2}
    status, _ = site.post("/v1/chat/completions", {"model": MODEL, "messages": HELLO, "provider": "dear"})
    assert (status, site.asked()["dear"]) == (200, 2)


def test_wishes_reach_no_upstream_but_openrouter_itself(site: Site) -> None:
    wishes = {"provider": {"sort": "price"}, "session_id": "s", "route": "fallback", "models": [MODEL]}
    for path in ("/v1/chat/completions", "/api/v1/chat/completions"):
        status, _ = site.post(path, {"model": MODEL, "messages": HELLO, "seed": 7, **wishes})
        assert status == 200
        sent = json.loads(site.behind["cheap"].requests[-1].body)
        assert sent.keys().isdisjoint(wishes)
        assert sent["seed"] == 7
    only_there = {"model": "router/only-there", "messages": HELLO, "provider": {"sort": "price"}}
    assert site.post("/v1/chat/completions", only_there)[0] == 200
    assert json.loads(site.behind["router"].requests[-1].body)["provider"] == {"sort": "price"}


def test_other_dialects_carry_wishes_too(site: Site) -> None:
    wish = {"provider": {"order": ["dear"]}}
    assert site.post("/v1/completions", {"model": MODEL, "prompt": "hello", **wish})[0] == 200
    assert site.post("/v1/responses", {"model": MODEL, "input": "hello", **wish})[0] == 200
    with anthropic.Anthropic(base_url=site.gateway.address, api_key=KEY, max_retries=0) as client:
        body = {**wish, "fallbacks": [{"model": MODEL}]}
        client.messages.create(model="lab/broken", max_tokens=9, messages=HELLO, extra_body=body)
    assert {json.loads(one.body).get("provider") for one in site.behind["dear"].requests} == {None}
    assert site.asked() == {"dear": 4, "cheap": 1, "fair": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/responses", {"input": "hello"}),
        ("/api/v1/messages", {"messages": HELLO, "max_tokens": 9}),
        ("/api/v1/chat/completions", {"messages": HELLO}),
    ],
)
def test_every_wish_is_honoured_whatever_api_a_client_speaks(site: Site, path: str, body: dict[str, Any]) -> None:
    def ask(**more: Any) -> tuple[int, Any]:
        return site.post(path, {"model": MODEL, **body, **more})

    assert ask(provider={"only": ["fair", "dear"], "sort": "price"})[0] == 200
    assert site.asked() == {"fair": 1}
    assert ask(models=[MODEL], model="lab/broken", provider={"order": ["dear"], "allow_fallbacks": True})[0] == 200
    assert site.asked() == {"fair": 2, "dear": 2, "cheap": 1}
    assert ask(provider={"ignore": ["cheap", "dear"]}, route="fallback", session_id="s")[0] == 200
    assert ask(session_id="s")[0] == 200
    assert site.asked() == {"fair": 4, "dear": 2, "cheap": 1}
    status, told = ask(provider={"beauty": True})
    assert status == 400
    assert "provider.beauty" in json.dumps(told)
    for one in site.behind["fair"].requests:
        assert json.loads(one.body).keys().isdisjoint({"provider", "models", "route", "session_id"})


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/v1/responses", {"input": "hello"}), ("/api/v1/messages", {"messages": HELLO, "max_tokens": 9})],
)
def test_how_a_request_was_routed_is_told_in_other_apis_too(site: Site, path: str, body: dict[str, Any]) -> None:
    asked = {"model": "lab/broken", "models": [MODEL], "provider": {"sort": "price"}, **body}
    status, answer = site.post(path, asked, x_openrouter_metadata="enabled")
    assert status == 200, answer
    told = answer["openrouter_metadata"]
    assert (told["requested"], told["strategy"], told["attempt"]) == ("lab/broken", "fallback", 4)
    assert "openrouter_metadata" not in site.post(path, asked)[1]
    status, answer = site.post(path, {**asked, "models": []}, x_openrouter_metadata="enabled")
    assert status >= 500
    assert answer["openrouter_metadata"]["attempts"]


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/api/v1/responses", {"input": "hello"}, "response.completed"),
        ("/api/v1/messages", {"messages": HELLO, "max_tokens": 9}, "message_stop"),
    ],
)
def test_streams_of_other_apis_end_with_how_they_were_routed(
    site: Site, path: str, body: dict[str, Any], last: str
) -> None:
    headers = {"authorization": f"Bearer {KEY}", "x-openrouter-metadata": "enabled"}
    answer = httpx.post(
        site.gateway.address + path, json={"model": MODEL, "stream": True, **body}, headers=headers, timeout=20
    )
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert events[-1]["type"] == last
    told = events[-1].get("response", events[-1])["openrouter_metadata"]
    assert told["endpoints"]["total"] == 3


def test_the_models_of_a_request_are_tried_one_after_another(site: Site) -> None:
    answer = site.send(model="lab/broken", models=["no/such", MODEL], provider={"sort": "price"})
    assert answer.choices[0].message.content == "echo: hello there"
    assert site.asked() == {"cheap": 2, "fair": 1, "dear": 1}


def test_a_request_without_a_model_gets_the_default_one(site: Site) -> None:
    status, answer = site.post("/v1/chat/completions", {"messages": HELLO})
    assert (status, answer["model"]) == (200, "sim-model")
    status, _ = site.post("/api/v1/chat/completions", {"messages": HELLO, "models": ["fair/sim-model"]})
    assert (status, site.asked()["fair"]) == (200, 1)


def test_an_unknown_preference_is_refused_by_name(site: Site) -> None:
    status, answer = site.post("/api/v1/chat/completions", {"model": MODEL, "messages": HELLO, "provider": {"a": 1}})
    assert (status, answer["error"]["metadata"]["param"]) == (400, "provider.a")
    assert site.asked() == {}


def test_constraints_that_leave_nobody_are_told(site: Site) -> None:
    with pytest.raises(openrouter.errors.NotFoundResponseError) as caught:
        site.send(provider={"max_price": {"prompt": "0.0001"}})
    told = json.loads(caught.value.body)["error"]
    assert (told["code"], told["availability"]["code"]) == (404, "constraint_filtered")
    assert told["availability"]["excluded_by"] == ["max_price"]


def test_when_all_fail_the_providers_and_their_errors_are_told(site: Site) -> None:
    body = {"model": "lab/broken", "messages": HELLO, "provider": {"sort": "price"}}
    status, answer = site.post("/api/v1/chat/completions", body, x_openrouter_metadata="enabled")
    told = answer["error"]
    assert (status, told["code"], told["availability"]["code"]) == (503, 503, "temporarily_unavailable")
    assert told["metadata"]["provider_name"] == "dear"
    assert [one["provider"] for one in told["metadata"]["previous_errors"]] == ["cheap", "fair"]
    assert [one["status"] for one in answer["openrouter_metadata"]["attempts"]] == [500, 500, 500]


def test_how_a_request_was_routed_is_told_to_those_who_ask(site: Site) -> None:
    enabled: Any = "enabled"
    answer = site.send(model="lab/broken", models=[MODEL], provider={"sort": "price"}, x_open_router_metadata=enabled)
    told = answer.openrouter_metadata
    assert (told.requested, told.strategy, told.attempt, told.is_byok) == ("lab/broken", "fallback", 4, False)
    assert [(one.provider, one.status) for one in told.attempts][-1] == ("cheap", 200)
    assert [one.provider for one in told.endpoints.available if one.selected] == ["cheap"]
    assert told.endpoints.total == 6
    assert site.send().openrouter_metadata is None


def test_a_stream_ends_with_its_usage_and_how_it_was_routed(site: Site) -> None:
    enabled: Any = "enabled"
    with site.send(stream=True, x_open_router_metadata=enabled) as stream:
        last = list(stream)[-1]
    assert last.choices == []
    assert last.usage.completion_tokens
    assert last.openrouter_metadata.endpoints.total == 3


def test_a_session_stays_with_the_provider_that_answered(site: Site) -> None:
    site.send(session_id="s1", provider={"ignore": ["cheap", "fair"]})
    for _ in range(3):
        site.send(session_id="s1")
    assert site.asked() == {"dear": 4}
    site.send(session_id="s1", provider={"order": ["fair"]})
    site.send(session_id="s2")
    assert site.asked() == {"dear": 4, "fair": 1, "cheap": 1}


def test_variants_sort(site: Site) -> None:
    site.send(model=f"{MODEL}:floor")
    assert site.asked() == {"cheap": 1}
    with pytest.raises(openrouter.errors.OpenRouterError):
        site.send(model=f"{MODEL}:free")


def test_finished_requests_are_measured(site: Site) -> None:
    for _ in range(3):
        site.send(provider={"order": ["fair"]})
    planner = site.gateway.server.gateway.planner

    def measured() -> int:
        planner.catch_up()
        return planner.measurements.figures("fair/sim-model", site.gateway.server._clock.now_us()).answered

    assert site.gateway.read(measured) == 3
