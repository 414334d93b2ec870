"""What Anthropic's clients look for beside the body: names of requests, overload, their limits."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import pytest

from gateway import KEY, RunningGateway, wait_until
from raw_client import Answer, Connection, ask, chat, request

SETTINGS = {
    "server": {"max_concurrent_requests": 1, "max_queued_requests": 0},
    "limits": {"key_requests_per_minute": 500, "key_tokens_per_minute": 1_000_000},
}
ASKED: Any = {"model": "sim/sim-model", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


def post(gateway: RunningGateway, path: str = "/v1/messages", key: str | None = KEY, **members: Any) -> Answer:
    return ask(gateway.port, request("POST", path, json.dumps({**ASKED, **members}).encode(), key=key))


def test_every_answer_names_the_request_as_anthropic_does(gateway: RunningGateway, client: anthropic.Anthropic) -> None:
    message = client.messages.create(**ASKED)
    assert message._request_id is not None
    assert gateway.journal.the(message._request_id).status == 200
    count = {name: value for name, value in ASKED.items() if name != "max_tokens"}
    counted = ask(gateway.port, request("POST", "/v1/messages/count_tokens", json.dumps(count).encode()))
    listed = ask(gateway.port, request("GET", "/v1/models", b"", "anthropic-version: 2023-06-01"))
    streamed, refused = post(gateway, stream=True), post(gateway, key="wrong")
    assert refused.json()["request_id"] == refused.headers["request-id"]
    for answer in (counted, listed, streamed, refused, post(gateway, messages=[])):
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert "request-id" not in ask(gateway.port, chat()).headers


def test_limits_are_told_with_the_time_of_their_reset(gateway: RunningGateway) -> None:
    headers = post(gateway).headers
    for unit, limit in (("requests", "500"), ("tokens", "1000000")):
        assert headers[f"anthropic-ratelimit-{unit}-limit"] == limit
        reset = datetime.strptime(headers[f"anthropic-ratelimit-{unit}-reset"], "%Y-%m-%dT%H:%M:%SZ").replace(
            tzinfo=UTC
        )
        assert timedelta(seconds=-2) <= reset - datetime.now(UTC) <= timedelta(seconds=62)


def test_a_full_gateway_is_overloaded_in_anthropics_way(gateway: RunningGateway, client: anthropic.Anthropic) -> None:
    with Connection(gateway.port) as busy:
        busy.send(chat("first_token_ms=30000", stream=True))
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.running) == 1, "a call in flight")
        refused = post(gateway)
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(**ASKED)
        assert ask(gateway.port, chat()).status == 503  # others have no such status
    assert (refused.status, refused.json()["error"]["type"]) == (529, "overloaded_error")
    assert refused.headers["retry-after"] == "1"
    assert gateway.journal.the(refused.request_id).status == 529
    assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")
    wait_until(lambda: gateway.read(lambda: gateway.server.admission.running) == 0, "a free place")


def test_an_overloaded_upstream_is_told_the_same_way(gateway: RunningGateway) -> None:
    refused = post(gateway, model="sim/sim-model#fault=http_503")
    assert (refused.status, refused.json()["error"]["type"]) == (529, "overloaded_error")
