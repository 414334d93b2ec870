"""The response cache over sockets: what is given again, to whom, in which words, and what is never kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import CacheOutcome
from pointsman.identity.keys import NewKey
from pointsman.policy.response_cache import ResponseCache
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import ask, chat, request

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ON = "x-pointsman-cache: on"


class Site:
    """A gateway before an upstream."""

    def __init__(self, gateway: RunningGateway, simulator: RunningSimulator) -> None:
        self.gateway = gateway
        self.simulator = simulator
        self.port = gateway.port

    @property
    def cache(self) -> ResponseCache:
        """The gateway's."""
        assert self.gateway.server.gateway.cache is not None
        return self.gateway.server.gateway.cache


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": [row]}) as gateway:
            yield Site(gateway, simulator)


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.simulator.log.clear()
    shared_site.gateway.read(shared_site.cache.forget)
    return shared_site


def new_key(site: Site, workspace_id: str, settings: dict[str, Any] | None = None) -> str:
    """The secret of a new key that is in effect."""
    installation = site.gateway.installation

    async def make() -> str:
        new = NewKey(name="another", workspace_id=workspace_id, settings=settings or {})
        _, secret = await installation.keys.issue(new)
        assert await installation.await_revision(await installation.configuration.revision())
        return secret.reveal()

    return site.gateway.call(make())


@pytest.mark.parametrize("then", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_an_answer_is_given_again_whole_or_as_a_stream(site: Site, first: bool, then: bool) -> None:
    text = f"whole or stream {first} {then}"
    one = ask(site.port, chat("", ON, stream=first, text=text))
    two = ask(site.port, chat("", ON, stream=then, text=text))
    assert (one.status, two.status) == (200, 200), site.gateway.log_text()[-3000:]
    assert one.headers["x-pointsman-cache"] == "miss"
    assert two.headers["x-pointsman-cache"] == "hit"
    assert one.text == two.text != ""
    assert len(site.simulator.requests) == 1
    record = site.gateway.journal.the(two.request_id)
    assert (record.cache, record.cache_source) == (CacheOutcome.HIT, one.request_id)
    assert (record.cost_nano_usd, record.input_tokens, record.output_tokens) == (0, 0, 0)
    assert site.gateway.journal.the(one.request_id).cache is CacheOutcome.MISS


def test_nobody_gets_one_who_does_not_ask(site: Site) -> None:
    answers = [ask(site.port, chat("", text="unasked")) for _ in range(2)]
    assert len(site.simulator.requests) == 2
    assert not any("x-pointsman-cache" in answer.headers for answer in answers)
    assert site.gateway.journal.the(answers[1].request_id).cache is None


@pytest.mark.parametrize(
    "no",
    ["cache-control: no-store", "x-omniroute-no-cache: true", "x-openrouter-cache: false", "x-pointsman-cache: off"],
)
def test_who_forbids_wins(site: Site, no: str) -> None:
    yes = "x-openrouter-cache: true" if no.startswith("x-pointsman") else ON
    for _ in range(2):
        answer = ask(site.port, chat("", yes, no, text=no))
        assert "x-pointsman-cache" not in answer.headers
    assert len(site.simulator.requests) == 2


@pytest.mark.parametrize(
    "wish", ["x-pointsman-cache: refresh", "cache-control: no-cache", "x-openrouter-cache-clear: true"]
)
def test_a_refresh_asks_again_and_replaces(site: Site, wish: str) -> None:
    lines = (wish,) if "refresh" in wish else (ON, wish)
    first = ask(site.port, chat("", ON, text=wish))
    second = ask(site.port, chat("", *lines, text=wish))
    third = ask(site.port, chat("", ON, text=wish))
    assert [one.headers["x-pointsman-cache"] for one in (first, second, third)] == ["miss", "miss", "hit"]
    assert site.gateway.journal.the(third.request_id).cache_source == second.request_id


def test_openrouters_clients_are_told_in_its_words(site: Site) -> None:
    lines = ("x-openrouter-cache: true", "x-openrouter-cache-ttl: 60abc")
    miss, hit = (ask(site.port, chat("", *lines, text="theirs")) for _ in range(2))
    assert (miss.headers["x-openrouter-cache-status"], miss.headers["x-openrouter-cache-ttl"]) == ("MISS", "60")
    assert "x-openrouter-cache-age" not in miss.headers
    assert hit.headers["x-openrouter-cache-status"] == "HIT"
    assert hit.headers["x-openrouter-cache-source-id"] == miss.request_id
    assert 0 <= int(hit.headers["x-openrouter-cache-age"]) <= 5
    assert 50 <= int(hit.headers["x-openrouter-cache-ttl"]) <= 60
    assert hit.json()["id"] != miss.json()["id"]
    assert hit.json()["usage"]["total_tokens"] == 0


def test_order_and_spaces_of_the_json_do_not_matter(site: Site) -> None:
    one = b'{"model":"sim/sim-model","temperature":0.5,"messages":[{"role":"user","content":"spaced"}]}'
    two = (
        b'{ "messages": [{"content": "spaced", "role": "user"}], "user": "u", "temperature": 0.5,'
        b' "model": "sim/sim-model"}'
    )
    answers = [ask(site.port, request("POST", "/v1/chat/completions", body, ON)) for body in (one, two)]
    assert [answer.headers["x-pointsman-cache"] for answer in answers] == ["miss", "hit"]


def test_another_api_gets_the_answer_in_its_own_words(site: Site) -> None:
    body = {"model": "sim/sim-model", "max_tokens": 50, "messages": [{"role": "user", "content": "across"}]}
    one = ask(site.port, request("POST", "/v1/chat/completions", msgspec.json.encode(body), ON))
    two = ask(site.port, request("POST", "/v1/messages", msgspec.json.encode(body), ON))
    assert (one.headers["x-pointsman-cache"], two.headers["x-pointsman-cache"]) == ("miss", "hit")
    assert two.json()["content"][0]["text"] == one.text
    assert two.json()["type"] == "message"


@pytest.mark.parametrize("change", [{"temperature": 0.1}, {"max_tokens": 7}, {"seed": 4}, {"tools": [TOOL]}])
def test_all_that_makes_the_answer_is_in_its_name(site: Site, change: dict[str, Any]) -> None:
    text = f"named {sorted(change)}"
    for members in ({}, change):
        assert ask(site.port, chat("", ON, text=text, **members)).headers["x-pointsman-cache"] == "miss"


def test_an_answer_that_calls_a_tool_is_not_kept(site: Site) -> None:
    for _ in range(2):
        answer = ask(site.port, chat("", ON, text="call it", tools=[TOOL], tool_choice="required"))
        assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"
        assert answer.headers["x-pointsman-cache"] == "miss"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut_short_is_not_kept(site: Site, stream: bool) -> None:
    for _ in range(2):
        answer = ask(site.port, chat("tokens=9", ON, text="cut", max_tokens=2, stream=stream))
        assert answer.headers["x-pointsman-cache"] == "miss"
    assert len(site.simulator.requests) == 2


def test_what_failed_is_not_kept(site: Site) -> None:
    message = chat("fault=bad_request,fail_first=1", ON, text="fails")
    assert [ask(site.port, message).status for _ in range(3)] == [400, 200, 200]
    broken = chat("tokens=9,fault=cut_mid_stream,fail_first=1", ON, text="breaks", stream=True)
    first, second = (ask(site.port, broken) for _ in range(2))
    assert "error" in first.events[-1]
    assert (second.headers["x-pointsman-cache"], second.events[-1]) == ("miss", "[DONE]")


def test_a_tenant_never_gets_anothers_answer(site: Site) -> None:
    other = new_key(site, "ws-other")
    text = "private to a workspace"
    assert ask(site.port, chat("", ON, text=text)).headers["x-pointsman-cache"] == "miss"
    assert ask(site.port, chat("", ON, text=text, key=other)).headers["x-pointsman-cache"] == "miss"
    assert ask(site.port, chat("", ON, text=text, key=other)).headers["x-pointsman-cache"] == "hit"
    assert len(site.simulator.requests) == 2


def test_a_key_under_another_policy_gets_no_answer_that_was_made_without_it(site: Site) -> None:
    limited = new_key(site, "default", settings={"maxSessions": 5})
    text = "policy"
    assert ask(site.port, chat("", ON, text=text)).headers["x-pointsman-cache"] == "miss"
    assert ask(site.port, chat("", ON, text=text, key=limited)).headers["x-pointsman-cache"] == "miss"


def test_a_key_may_ask_for_all_its_requests(site: Site) -> None:
    key = new_key(site, "ws-on", settings={"cache": "on"})
    answers = [ask(site.port, chat("", text="by key", key=key)) for _ in range(2)]
    assert [answer.headers["x-pointsman-cache"] for answer in answers] == ["miss", "hit"]


def test_what_memory_forgot_comes_from_the_database(site: Site) -> None:
    first = ask(site.port, chat("", ON, text="durable"))
    wait_until(lambda: site.gateway.read(lambda: site.gateway.installation.cached.queued == 0), "write")
    site.gateway.read(site.cache.forget)
    again = ask(site.port, chat("", ON, text="durable"))
    assert (again.headers["x-pointsman-cache"], again.text) == ("hit", first.text)


def test_the_database_holds_no_readable_answer(site: Site) -> None:
    answer = ask(site.port, chat("", ON, text="a very secret canary"))
    wait_until(lambda: site.gateway.read(lambda: site.gateway.installation.cached.queued == 0), "write")
    for path in site.gateway.data_dir.glob("*.db*"):
        assert answer.text.encode() not in path.read_bytes()
    assert "secret canary" not in site.gateway.log_text()


def test_a_preset_turns_it_on_and_off(site: Site) -> None:
    for slug, enabled in (("kept", True), ("unkept", False)):
        body = msgspec.json.encode({"model": "sim/sim-model", "cache_enabled": enabled, "cache_ttl_seconds": 77})
        assert ask(site.port, request("PUT", f"/api/v1/presets/{slug}", body)).status == 200
    lines = ("x-openrouter-cache: true",)
    for slug, headers, outcomes in (("kept", (), ["miss", "hit"]), ("unkept", lines, [None, None])):
        answers = [ask(site.port, chat("", *headers, model=f"@preset/{slug}", text=slug)) for _ in range(2)]
        assert [answer.headers.get("x-pointsman-cache") for answer in answers] == outcomes


def test_a_model_that_is_pointed_elsewhere_has_no_old_answers(site: Site) -> None:
    for target, outcome in (("sim/one", "miss"), ("sim/two", "miss"), ("sim/two", "hit")):
        body = msgspec.json.encode({"alias": "moving", "model": target})
        assert ask(site.port, request("PUT", "/api/models/alias", body)).status == 200
        answer = ask(site.port, chat("", ON, model="moving", text="where to"))
        assert answer.headers["x-pointsman-cache"] == outcome


def test_an_answer_outlives_its_process_and_off_means_off(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        outcomes = []
        for mode in ("asked", "asked", "off"):
            with running_gateway(tmp_path, {"connections": [row], "cache": {"mode": mode}}) as gateway:
                outcomes.append(ask(gateway.port, chat("", ON, text="lives on")).headers.get("x-pointsman-cache"))
                assert (gateway.server.gateway.cache is None) is (mode == "off")
    assert outcomes == ["miss", "hit", None]


def test_other_preferences_for_providers_make_another_request(site: Site) -> None:
    outcomes = []
    for provider in ({"order": ["sim"]}, {"order": ["sim"]}, {"order": ["sim"], "allow_fallbacks": False}):
        answer = ask(site.port, chat("", ON, text="preferred", provider=provider, models=["sim/other"]))
        outcomes.append((answer.status, answer.headers.get("x-pointsman-cache")))
    assert outcomes == [(200, "miss"), (200, "hit"), (200, "miss")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_from_the_cache_can_be_read_and_gone_on_from(site: Site, stream: bool) -> None:
    body = msgspec.json.encode({"model": "sim/sim-model", "input": f"stored {stream}", "stream": stream})
    answers = [ask(site.port, request("POST", "/v1/responses", body, ON)) for _ in range(2)]
    assert [answer.headers["x-pointsman-cache"] for answer in answers] == ["miss", "hit"]
    if not stream:
        one, two = (answer.json() for answer in answers)
        assert one["id"] != two["id"]
        read = ask(site.port, request("GET", f"/v1/responses/{two['id']}"))
        assert read.json()["output"] == two["output"]


@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat"])
def test_a_stream_of_each_api_is_replayed(site: Site, path: str) -> None:
    words = {"role": "user", "content": f"replay {path}"}
    body = msgspec.json.encode({"model": "sim/sim-model", "max_tokens": 50, "stream": True, "messages": [words]})
    answers = [ask(site.port, request("POST", path, body, ON)) for _ in range(2)]
    assert [answer.headers["x-pointsman-cache"] for answer in answers] == ["miss", "hit"]
    assert len(site.simulator.requests) == 1
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
    assert b"replay" in answers[1].body


def test_what_a_key_may_not_use_now_it_does_not_get_from_the_cache_either(site: Site) -> None:
    key = new_key(site, "bounded", {"allowedEndpoints": ["chat"]})
    kept = ask(site.port, chat("", ON, key=key, text="only here"))
    again = ask(site.port, chat("", ON, key=key, text="only here"))
    assert (kept.headers["x-pointsman-cache"], again.headers["x-pointsman-cache"]) == ("miss", "hit")
    body = msgspec.json.encode({"model": "sim/sim-model", "prompt": "only here"})
    other = ask(site.port, request("POST", "/v1/completions", body, ON, key=key))
    assert (other.status, "x-pointsman-cache" in other.headers) == (403, False)
