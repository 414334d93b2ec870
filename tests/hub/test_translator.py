"""Translation by itself: detection, `/api/translator/*`."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway, wait_until
from pointsman.hub.translator import FORMATS, detect
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "top_k": 5, "seed": 7}
CLAUDE: dict[str, Any] = {"model": "m", "max_tokens": 9, "system": "Be brief.", "messages": CHAT["messages"]}
UPSTREAM_KEY = "sk-upstream-0123456789"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"model": "m", "input": "hello"}, "openai-responses"),
        ({"model": "m", "max_output_tokens": 5}, "openai-responses"),
        ({"contents": [{"parts": [{"text": "hello"}]}]}, "gemini"),
        ({"messages": [], "response_format": {"type": "text"}, "max_tokens": 5}, "openai"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}]}, "claude"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]}, "claude"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "max_tokens": 5}, "openai"),
        (CLAUDE, "claude"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "openai"),
        ({"messages": 5, "max_tokens": None}, "openai"),
    ],
)
def test_a_body_is_known_by_its_looks(body: dict[str, Any], found: str) -> None:
    assert detect(body) == found


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    base = simulator.base_url.removesuffix("/v1")
    with running_simulator(OpenAIChat()) as openai:
        connections = [
            {"id": "claude", "kind": "anthropic", "base_url": base, "api_key": UPSTREAM_KEY, "models": ["sim-model"]},
            {"id": "plain", "kind": "openai", "base_url": openai.base_url, "api_key": "k", "models": ["sim-model"]},
        ]
        with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": connections}) as running:
            yield running


def post(gateway: RunningGateway, path: str, body: Any, key: str | None = KEY) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    return httpx.post(f"{gateway.address}/api/translator/{path}", json=body, headers=headers, timeout=10)


def test_nobody_translates_without_a_key(gateway: RunningGateway) -> None:
    for path in ("detect", "translate", "send"):
        assert post(gateway, path, {"body": CHAT, "provider": "claude"}, key=None).status_code == 401
    assert httpx.get(f"{gateway.address}/api/translator/history").status_code == 401


def test_detection_is_served(gateway: RunningGateway) -> None:
    assert post(gateway, "detect", {"body": CLAUDE}).json() == {"success": True, "format": "claude"}
    refused = post(gateway, "detect", {"body": 5})
    assert refused.status_code == 400
    assert "body" in refused.text


def test_a_direct_translation_comes_with_its_ledger(gateway: RunningGateway) -> None:
    answer = post(
        gateway, "translate", {"step": "direct", "sourceFormat": "openai", "targetFormat": "claude", "body": CHAT}
    ).json()
    assert (answer["success"], answer["sourceFormat"], answer["targetFormat"]) == (True, "openai", "claude")
    assert answer["result"]["top_k"] == 5
    assert answer["result"]["messages"][0]["role"] == "user"
    assert ["seed", "dropped"] in [row[:2] for row in answer["fidelity"]]


def test_the_steps_lead_to_the_whole_request_without_its_credential(gateway: RunningGateway) -> None:
    steps = [post(gateway, "translate", {"step": step, "provider": "claude", "body": CLAUDE}) for step in (1, 2, 3, 4)]
    described, hub, theirs, whole = (step.json()["result"] for step in steps)
    assert described["_detectedFormat"] == "claude"
    assert hub["messages"][0] == {"role": "system", "content": "Be brief."}
    assert theirs["max_tokens"] == 9
    assert whole["url"].endswith("/v1/messages")
    assert whole["body"] == theirs
    assert UPSTREAM_KEY not in steps[3].text
    assert whole["headers"]["x-api-key"] == "(hidden)"


@pytest.mark.parametrize(
    "wrong", [{"targetFormat": "kiro"}, {"sourceFormat": "cohere"}, {"step": 9}, {"provider": "x"}]
)
def test_what_is_not_known_is_named(gateway: RunningGateway, wrong: dict[str, Any]) -> None:
    answer = post(gateway, "translate", {"body": CHAT, **wrong})
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.text


def test_a_body_is_sent_as_it_is_and_recorded(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    body = CLAUDE | {"model": "sim-model"}
    answer = post(gateway, "send", {"provider": "claude", "body": body})
    assert answer.status_code == 200
    assert answer.json()["content"][0]["text"] == "echo: hello"
    assert b'"system":"Be brief."' in simulator.requests[-1].body
    record = gateway.journal.the(answer.headers["x-request-id"])
    assert (record.connection_id, record.dialect, record.output_tokens) == ("claude", "anthropic.messages", 2)


def test_a_sent_body_may_stream(gateway: RunningGateway) -> None:
    answer = post(gateway, "send", {"provider": "claude", "body": CLAUDE | {"model": "sim-model", "stream": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "message_stop" in answer.text


def test_an_upstreams_refusal_keeps_its_status(gateway: RunningGateway) -> None:
    answer = post(
        gateway, "send", {"provider": "claude", "body": {"model": "sim-model", "messages": [], "max_tokens": 5}}
    )
    assert answer.status_code == 400
    assert answer.json()["success"] is False


def test_a_missing_connection_is_told(gateway: RunningGateway) -> None:
    answer = post(gateway, "send", {"provider": "nobody", "body": CHAT})
    assert answer.status_code == 400
    assert "nobody" in answer.json()["error"]


def test_the_history_shows_translated_calls_newest_first(gateway: RunningGateway) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    for model in ("claude/sim-model", "plain/sim-model"):
        body = {"model": model, "messages": CHAT["messages"]}
        assert httpx.post(f"{gateway.address}/v1/chat/completions", json=body, headers=headers).status_code == 200

    def events() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(
            f"{gateway.address}/api/translator/history?limit=1", headers=headers
        ).json()["events"]
        return found

    [event] = wait_until(events, "translated call in the history")
    assert (event["sourceFormat"], event["targetFormat"]) == ("openai", "claude")
    assert (event["model"], event["statusCode"]) == ("claude/sim-model", 200)
    assert httpx.get(f"{gateway.address}/api/translator/history?limit=0", headers=headers).status_code == 400


def test_every_name_of_a_format_leads_somewhere() -> None:
    assert {"openai", "openai-responses", "claude", "gemini"} <= set(FORMATS)
