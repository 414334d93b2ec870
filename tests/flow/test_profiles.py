"""Profiles over whole requests: which model answers, what clients are told, what conversations keep."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import Behaviour, NotDiamond, OpenAIChat, RunningSimulator, running_simulator
from scripted_upstream import running_upstream

SIMPLE = "What is the capital of France?"
MEDIUM = "Write a short email to my landlord that asks for a repair of the heating."
HARD = (
    "Prove by induction that the sum of the first n odd numbers equals n squared, derive a closed formula for the sum"
    " of the first n cubes, and show step by step why the proof is rigorous."
)
FACTS = [
    {"model": "up/small", "prompt": 0.1, "completion": 0.4, "slug": "sim/small", "context_tokens": 200000},
    {"model": "up/middle", "prompt": 1.0, "completion": 4.0, "slug": "sim/middle", "context_tokens": 200000},
    {"model": "up/large", "prompt": 5.0, "completion": 25.0, "slug": "sim/large", "context_tokens": 200000},
]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
P = "x-crosscompute-"


def said(*texts: str) -> list[Any]:
    """A conversation: the user and the model in turn."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


class Site:
    """A gateway before one upstream with three models."""

    def __init__(self, gateway: RunningGateway, upstream: RunningSimulator) -> None:
        self.gateway = gateway
        self.upstream = upstream

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return httpx.post(
            self.gateway.address + path, json=body, headers={"authorization": f"Bearer {KEY}", **headers}, timeout=20
        )

    def chat(self, model: str, *texts: str, **rest: Any) -> httpx.Response:
        answer = self.post("/v1/chat/completions", {"model": model, "messages": said(*texts), **rest})
        assert answer.status_code == 200, answer.text
        return answer

    def asked(self) -> str:
        """The model that the upstream was asked for last."""
        return str(msgspec.json.decode(self.upstream.requests[-1].body)["model"])


def settings(upstream: RunningSimulator, **rest: Any) -> dict[str, Any]:
    connection = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
    return {"connections": [connection | {"models": ["small", "middle", "large"]}], "facts": FACTS, **rest}


@pytest.fixture
def upstream() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        yield simulator


@pytest.fixture
def site(upstream: RunningSimulator, tmp_path: Path) -> Iterator[Site]:
    with running_gateway(tmp_path, settings(upstream)) as gateway:
        yield Site(gateway, upstream)


def test_auto_sends_easy_requests_to_cheap_models_and_hard_ones_to_capable_models(site: Site) -> None:
    for text, model, budget, tier in (
        (SIMPLE, "small", "cheap", "SIMPLE"),
        (MEDIUM, "middle", "medium", "MEDIUM"),
        (HARD, "large", "premium", "REASONING"),
    ):
        headers = site.chat("auto", text).headers
        assert site.asked() == model
        assert headers[P + "routing-profile"] == "auto"
        assert headers[P + "routing-tier"] == tier
        assert headers[P + "routing-budget"] == budget
        assert headers[P + "routing-intelligence"] == "local"
        assert headers[P + "routing-version"]
        assert headers[P + "routed-model"] == f"sim/{model}"
        assert headers[P + "provider"] == "openai"
        assert P + "routing-intelligence-session" not in headers


def test_a_named_budget_is_kept_whatever_the_request_asks_for_and_old_words_are_told_by_their_new_name(
    site: Site,
) -> None:
    for word, profile, model in (
        ("cheap", "cheap", "small"),
        ("eco", "cheap", "small"),
        ("medium", "medium", "middle"),
        ("balanced", "medium", "middle"),
        ("premium", "premium", "large"),
    ):
        headers = site.chat(word, HARD).headers
        assert site.asked() == model
        assert (headers[P + "routing-profile"], headers[P + "routing-budget"]) == (profile, profile)
        assert headers[P + "routing-tier"] == "REASONING"


def test_a_whole_answer_tells_its_cost_and_the_price_it_goes_by(site: Site) -> None:
    answer = site.chat("cheap", SIMPLE)
    record = site.gateway.journal.the(answer.headers["x-request-id"])
    usage = answer.json()["usage"]
    expected = usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 400
    assert record.cost_nano_usd == expected
    assert float(answer.headers[P + "billed-credits"]) == pytest.approx(expected / 1e5)
    assert answer.headers[P + "price-rule"] == "operator-or-upstream's-list"


def test_a_stream_tells_what_is_known_before_its_first_byte(site: Site) -> None:
    body = {"model": "premium", "messages": said(SIMPLE), "stream": True}
    answer = site.post("/v1/chat/completions", body)
    assert answer.text.rstrip().endswith("[DONE]")
    assert answer.headers[P + "routed-model"] == "sim/large"
    assert answer.headers[P + "price-rule"]
    assert P + "billed-credits" not in answer.headers


def test_every_api_of_clients_can_name_a_profile(site: Site) -> None:
    bodies: list[tuple[str, Any]] = [
        ("/v1/responses", {"model": "auto", "input": HARD, "store": False}),
        ("/v1/messages", {"model": "auto", "max_tokens": 99, "messages": said(HARD)}),
        ("/v1beta/models/auto:generateContent", {"contents": [{"role": "user", "parts": [{"text": HARD}]}]}),
        ("/api/chat", {"model": "auto", "messages": said(HARD), "stream": False}),
        ("/api/v1/chat/completions", {"model": "openrouter/auto", "messages": said(HARD)}),
        ("/v1/completions", {"model": "auto", "prompt": HARD}),
    ]
    for path, body in bodies:
        answer = site.post(path, body)
        assert answer.status_code == 200, (path, answer.text)
        assert site.asked() == "large", path
        assert answer.headers[P + "routing-tier"] == "REASONING", path
        assert answer.headers[P + "routed-model"] == "sim/large", path
    streams: list[tuple[str, Any]] = [
        ("/v1/responses", {"model": "auto", "input": SIMPLE, "store": False, "stream": True}),
        ("/v1/messages", {"model": "auto", "max_tokens": 99, "messages": said(SIMPLE), "stream": True}),
        ("/v1beta/models/auto:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": SIMPLE}]}]}),
        ("/api/chat", {"model": "auto", "messages": said(SIMPLE)}),
    ]
    for path, body in streams:
        answer = site.post(path, body)
        assert answer.status_code == 200, (path, answer.text)
        assert (site.asked(), answer.headers[P + "routed-model"]) == ("small", "sim/small"), path


def test_tools_at_work_keep_the_model_whatever_the_last_words_are(site: Site) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages: list[Any] = [{"role": "user", "content": HARD}]
    site.post("/v1/chat/completions", {"model": "auto", "messages": messages, "tools": [TOOL]})
    assert site.asked() == "large"
    messages += [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "ok"}]
    for _ in range(5):
        answer = site.post("/v1/chat/completions", {"model": "auto", "messages": messages, "tools": [TOOL]})
        assert (answer.status_code, site.asked()) == (200, "large")
        assert answer.headers[P + "routing-tier"] == "REASONING"
        messages += [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
            {"role": "user", "content": "go on"},
        ]


def test_a_conversation_rises_at_once_and_falls_slowly(site: Site) -> None:
    texts = [SIMPLE]
    site.chat("auto", *texts)
    assert site.asked() == "small"
    texts += ["Paris.", HARD]
    site.chat("auto", *texts)
    assert site.asked() == "large"
    models = []
    for _ in range(12):
        texts += ["Fine.", SIMPLE]
        headers = site.chat("auto", *texts).headers
        assert headers[P + "routing-tier"] == "SIMPLE"
        models.append(site.asked())
    assert models[0] == "large", "a thanks does not send it elsewhere"
    assert models[-1] == "small", "nor does one hard question keep it there for good"


def test_the_decision_is_kept_with_its_reasons_and_replays_identically(site: Site) -> None:
    answer = site.post(
        "/v1/chat/completions", {"model": "auto", "messages": said(HARD)}, **{"x-pointsman-explain": "1"}
    )
    plan = answer.headers["x-pointsman-plan"]
    assert "strategy=profile" in plan
    assert "judged=auto/premium/REASONING/local" in plan
    headers = {"authorization": f"Bearer {KEY}"}
    where = f"{site.gateway.address}/api/pointsman/route/replay?request_id={answer.headers['x-request-id']}"

    def kept() -> Any:
        found = httpx.get(where, headers=headers, timeout=20)
        return found.json() if found.status_code == 200 else None

    told = wait_until(kept, "kept decision")
    assert told["identical"] is True
    judged = told["plan"]["judged"]
    assert (judged["profile"], judged["budget"], judged["tier"], judged["engine"]) == (
        "auto", "premium", "REASONING", "local",
    )  # fmt: skip
    assert 0.5 <= judged["confidence"] <= 1
    assert judged["signals"]["reasoning"] > 0
    assert "induction" not in msgspec.json.encode(told).decode()
    asked = site.post("/api/pointsman/route/explain", {"model": "auto", "messages": said(HARD)})
    assert asked.json()["judged"] == judged
    assert [row["target"] for row in asked.json()["order"]] == ["up/large", "up/middle", "up/small"]
    assert asked.json()["order"][0]["reason"].startswith("premium: quality")


def test_an_operators_pins_and_exclusions_hold(upstream: RunningSimulator, tmp_path: Path) -> None:
    profiles = {
        "exclude": ["sim/large"],
        "cheap": {"models": ["up/middle"]},
        "premium": {"models": ["sim/mid*"], "simple": ["up/small"], "only": True},
    }
    with running_gateway(tmp_path, settings(upstream, profiles=profiles)) as gateway:
        site = Site(gateway, upstream)
        site.chat("cheap", SIMPLE)
        assert site.asked() == "middle"
        site.chat("premium", HARD)
        assert site.asked() == "middle"
        site.chat("premium", SIMPLE)
        assert site.asked() == "small"
        explained = site.post("/api/pointsman/route/explain", {"model": "premium", "messages": said(HARD)}).json()
        assert [row["target"] for row in explained["order"]] == ["up/middle"]
        assert explained["order"][0]["reason"].startswith("pinned; ")


def test_a_name_of_the_operators_own_is_meant_before_a_profile_only_where_the_order_of_names_says_so(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    rest = {
        "combos": [{"name": "auto", "targets": ["up/middle"]}],
        "models": [{"name": "cheap", "target": "up/large"}, {"name": "clever", "target": "premium"}],
    }
    with running_gateway(tmp_path, settings(upstream, **rest)) as gateway:
        site = Site(gateway, upstream)
        assert P + "routing-profile" not in site.chat("auto", SIMPLE).headers  # a combo comes first
        assert site.asked() == "middle"
        assert site.chat("cheap", SIMPLE).headers[P + "routing-profile"] == "cheap"  # an alias after
        assert site.asked() == "small"
        assert site.chat("clever", SIMPLE).headers[P + "routing-profile"] == "premium"  # and may name one
        assert site.asked() == "large"


def test_a_request_without_a_profile_is_told_nothing_of_them(site: Site) -> None:
    headers = site.chat("up/small", SIMPLE).headers
    assert not [name for name in headers if name.startswith(P)]


def test_when_the_chosen_model_fails_the_next_one_answers_and_is_named(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ups = [stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2)]
        connections = [
            {"id": name, "kind": "openai", "base_url": up.base_url, "api_key": UPSTREAM_KEY, "models": [model]}
            for name, up, model in zip(("one", "two"), ups, ("sim-model#fault=http_500", "middle"), strict=True)
        ]
        facts = [
            {"model": "one/*", "prompt": 5.0, "completion": 25.0},
            {"model": "two/*", "prompt": 1.0, "completion": 4.0},
        ]
        gateway = stack.enter_context(running_gateway(tmp_path, {"connections": connections, "facts": facts}))
        site = Site(gateway, ups[1])
        headers = site.chat("premium", HARD).headers
        assert headers[P + "routed-model"] == "middle"
        assert headers[P + "routing-budget"] == "premium"
        assert len(ups[0].requests) == 1


def test_notdiamond_chooses_among_the_budgets_models_and_knows_the_conversation_again(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    with running_simulator(NotDiamond(api_key="nd-key")) as service:
        connection = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        models = ["small", "tiny-a", "tiny-b", "large"]
        facts = [
            {"model": f"up/{name}", "slug": f"sim/{name}", "prompt": price, "completion": price, "trains": False}
            for name, price in zip(models, (0.1, 0.2, 0.3, 9.0), strict=True)
        ]
        profiles = {
            "notdiamond": {"api_key": "nd-key", "base_url": service.base_url.removesuffix("/v1"), "timeout_ms": 2000}
        }
        document = {"connections": [connection | {"models": models}], "facts": facts, "profiles": profiles}
        with running_gateway(tmp_path, document) as gateway:
            site = Site(gateway, upstream)
            headers = site.chat("cheap", "choose sim/tiny-a please").headers
            assert site.asked() == "tiny-a"
            assert headers[P + "routing-intelligence"] == "notdiamond"
            session = headers[P + "routing-intelligence-session"]
            assert headers[P + "routing-intelligence-request-id"]
            sent = msgspec.json.decode(service.requests[0].body)
            assert {one["model"] for one in sent["llm_providers"]} == {"sim/small", "sim/tiny-a", "sim/tiny-b"}
            assert (sent["cost_quality_tradeoff"], sent["type"], sent["hash_content"]) == (10, "openrouter", True)
            # The conversation stays with its model and costs no second call.
            headers = site.chat("cheap", "choose sim/tiny-a please", "ok", "thanks").headers
            assert (site.asked(), len(service.requests)) == ("tiny-a", 1)
            assert headers[P + "routing-intelligence"] == "local"
            assert session
            # What nobody may learn from is not told to the service.
            site.chat("cheap", "choose sim/tiny-b please", provider={"data_collection": "deny"})
            assert (site.asked(), len(service.requests)) == ("small", 1)
            assert "nd-key" not in gateway.log_text()


def test_a_silent_or_failing_notdiamond_costs_its_deadline_and_then_rests(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    with running_simulator(NotDiamond(), Behaviour(fault="silence")) as service:
        profiles = {
            "notdiamond": {"api_key": "nd-key", "base_url": service.base_url.removesuffix("/v1"), "timeout_ms": 60}
        }
        document = settings(upstream, profiles=profiles)
        document["facts"] = [dict(row, prompt=0.1, completion=0.1) for row in FACTS]
        with running_gateway(tmp_path, document) as gateway:
            site = Site(gateway, upstream)
            for _ in range(3):
                begun = time.monotonic()
                headers = site.chat("cheap", SIMPLE).headers
                assert time.monotonic() - begun < 2
                assert headers[P + "routing-intelligence"] == "local"
            assert len(service.requests) == 3
            site.chat("cheap", SIMPLE)
            assert len(service.requests) == 3, "it rests"


@pytest.mark.parametrize("odd", [b'{"session_id":"\xff"}', b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", b"", b"[]"])
def test_an_answer_of_notdiamond_that_can_not_be_read_costs_nothing_but_its_choice(
    upstream: RunningSimulator, tmp_path: Path, odd: bytes
) -> None:
    with running_upstream() as service:
        service.script = lambda number, sent: [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(odd) + odd]
        profiles = {
            "notdiamond": {"api_key": "nd-key", "base_url": service.base_url.removesuffix("/v1"), "timeout_ms": 5000}
        }
        document = settings(upstream, profiles=profiles)
        document["facts"] = [dict(row, prompt=0.1, completion=0.1) for row in FACTS]
        with running_gateway(tmp_path, document) as gateway:
            assert Site(gateway, upstream).chat("cheap", SIMPLE).headers[P + "routing-intelligence"] == "local"
            assert "an answer that can't be read" in gateway.log_text()


def test_openais_sdk_takes_the_answers(site: Site) -> None:
    with openai.OpenAI(base_url=f"{site.gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=said(SIMPLE))
        assert raw.headers[P + "routed-model"] == "sim/small"
        assert raw.parse().choices[0].message.content


def test_the_list_of_models_begins_with_the_profiles_and_tells_its_length(site: Site, tmp_path: Path) -> None:
    answer = httpx.get(f"{site.gateway.address}/v1/models", headers={"authorization": f"Bearer {KEY}"}, timeout=20)
    rows = answer.json()["data"]
    assert [row["id"] for row in rows[:4]] == ["auto", "cheap", "medium", "premium"]
    assert answer.headers[P + "model-catalog"] == "local"
    assert int(answer.headers[P + "model-count"]) == len(rows) == 7
    for name in ("auto", "eco", "premium", "up%2Fsmall"):
        one = httpx.get(f"{site.gateway.address}/v1/models/{name}", timeout=20).json()
        assert (one["id"], one["object"]) == (name.replace("%2F", "/"), "model")
    with running_gateway(tmp_path / "empty", {}) as gateway:
        assert httpx.get(f"{gateway.address}/v1/models", timeout=20).json()["data"] == []
        missing = httpx.post(
            f"{gateway.address}/v1/chat/completions",
            json={"model": "auto", "messages": said(SIMPLE)},
            headers={"authorization": f"Bearer {KEY}"},
            timeout=20,
        )
        assert missing.status_code == 404
        assert missing.json()["error"]["param"] == "model"


def test_crosscomputes_clients_are_told_who_answers_when_they_name_the_model(site: Site) -> None:
    path = "/crosscompute/v1/chat/completions"
    for stream in (False, True):
        answer = site.post(path, {"model": "up/small", "messages": said(SIMPLE), "stream": stream})
        assert answer.status_code == 200, answer.text
        assert answer.headers[P + "routing-profile"] == "explicit"
        assert answer.headers[P + "routed-model"] == "sim/small"
        assert answer.headers[P + "provider"] == "openai"
        assert (P + "billed-credits" in answer.headers) is not stream
        assert P + "routing-tier" not in answer.headers
        assert P + "routing-budget" not in answer.headers
    answer = site.post(path, {"model": "eco", "messages": said(SIMPLE)})
    assert answer.headers[P + "routing-profile"] == "cheap"
    assert answer.headers.get_list(P + "routed-model") == ["sim/small"]


def test_a_shared_call_tells_all_who_share_it_who_answers(site: Site) -> None:
    first, second = (
        site.post("/v1/chat/completions", {"model": "cheap", "messages": said(SIMPLE)}, **{"idempotency-key": "k1"})
        for _ in range(2)
    )
    for answer in (first, second):
        assert answer.headers[P + "routed-model"] == "sim/small"
        assert answer.headers[P + "routing-tier"] == "SIMPLE"
    assert len(site.upstream.requests) == 1
