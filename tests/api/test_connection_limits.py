"""Limits of connections that are set over HTTP, and what the configuration file says of headers and further keys."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, running_gateway
from pointsman.errors import ConfigError
from pointsman.testing import OpenAIChat, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]


def ask(http: httpx.Client, model: str) -> int:
    """The status of a call."""
    return http.post("/v1/chat/completions", json={"model": model, "messages": HELLO}).status_code


def refusal(http: httpx.Client, model: str) -> str:
    """What a call is told that is beyond a limit."""
    answer = http.post("/v1/chat/completions", json={"model": model, "messages": HELLO})
    assert answer.status_code == 429
    return answer.text


@pytest.mark.parametrize(("member", "span"), [("requestsPerMinute", "minute"), ("requestsPerDay", "day")])
def test_limits_of_a_connection_are_set_shown_held_and_taken_away(tmp_path: Path, member: str, span: str) -> None:
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream,
        running_gateway(tmp_path, {}) as gateway,
        httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=10) as http,
    ):
        body = {
            "provider": "openai", "name": "mine", "url": upstream.base_url, "apiKey": UPSTREAM_KEY, "models": ["m"],
            "allowPrivate": True, member: 2, "tokensPerMinute": 1_000_000,
        }  # fmt: skip
        made = http.post("/api/providers", json=body)
        assert made.status_code == 201, made.text
        connection = made.json()["connection"]
        assert (connection[member], connection["tokensPerMinute"]) == (2, 1_000_000)
        model = f"{connection['id']}/m"
        assert [ask(http, model) for _ in range(2)] == [200, 200]
        assert f"2 requests per {span} of the connection" in refusal(http, model)
        path = f"/api/providers/{connection['id']}"
        wrong = http.put(path, json={member: -1})
        assert wrong.status_code == 400
        assert member in wrong.text
        changed = http.put(path, json={member: 0})
        assert changed.status_code == 200, changed.text
        assert changed.json()["connection"][member] is None
        assert ask(http, model) == 200


def settings(address: str, **more: Any) -> dict[str, Any]:
    """One connection of the file."""
    row = {"id": "one", "kind": "openai", "base_url": address, "api_key": "first-key", "models": ["m"]}
    return {"connections": [{**row, **more}]}


def test_a_limit_of_a_day_that_stands_in_the_file_holds(tmp_path: Path) -> None:
    with (
        running_simulator(OpenAIChat()) as upstream,
        running_gateway(tmp_path, settings(upstream.base_url, requests_per_day=2)) as gateway,
        httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=10) as http,
    ):
        assert [ask(http, "one/m") for _ in range(2)] == [200, 200]
        assert "2 requests per day of the connection" in refusal(http, "one/m")


def test_headers_and_further_keys_of_the_file_go_with_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "team"
    secret.write_text("blue\n")
    with running_simulator(OpenAIChat()) as upstream:
        more = {"headers": {"x-team": f"file:{secret}"}, "extra_api_keys": ["second-key"]}
        with (
            running_gateway(tmp_path / "data", settings(upstream.base_url, **more)) as gateway,
            httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=10) as http,
        ):
            assert [ask(http, "one/m") for _ in range(4)] == [200] * 4
        assert {one.header("x-team") for one in upstream.requests} == {"blue"}
        assert {one.header("authorization") for one in upstream.requests} == {"Bearer first-key", "Bearer second-key"}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"headers": {"authorization": "x"}}, "connections[0].headers.authorization"),
        ({"headers": {"x-team": "file:/nowhere/at/all"}}, "connections[0].headers.x-team"),
        ({"extra_api_keys": ["two words"]}, "connections[0].extra_api_keys[0]"),
        ({"api_key": None, "extra_api_keys": ["k"]}, "connections[0].extra_api_keys"),
    ],
)
def test_a_wrong_header_or_key_of_the_file_is_named(tmp_path: Path, more: dict[str, Any], place: str) -> None:
    given = settings("http://127.0.0.1:9/v1", **more)
    given["connections"][0] = {name: value for name, value in given["connections"][0].items() if value is not None}
    with pytest.raises(ConfigError) as caught, running_gateway(tmp_path, given):
        pass
    assert place in str(caught.value)
    assert "two words" not in str(caught.value)
