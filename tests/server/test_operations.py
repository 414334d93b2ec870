"""Health, metrics, the model list and the request log."""

import datetime
import re

import pytest

from gateway import KEY, RunningGateway, wait_until
from pointsman.policy.local_callers import PROXY_HEADERS
from pointsman.testing import RunningSimulator
from raw_client import Answer, Connection, ask, chat, request

SETTINGS = {
    "connections": [{"id": "dead", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["a/b", "c"]}]
}
LOGS = "/v1/request-logs"

PROFILES = ("auto", "cheap", "medium", "premium")


def get(gateway: RunningGateway, path: str, *headers: str, key: str | None = KEY) -> Answer:
    """A GET on a connection of its own."""
    return ask(gateway.port, request("GET", path, b"", *headers, key=key))


def metrics(gateway: RunningGateway) -> dict[str, float]:
    """Every sample of /metrics by its name and labels."""
    text = get(gateway, "/metrics", key=None).body.decode()
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


def test_health_needs_no_key_and_never_asks_an_upstream(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    answer = get(gateway, "/health", key=None)
    assert answer.status == 200
    body = answer.json()
    assert (body["ok"], body["status"], body["checks"]["journal"]) == (True, "ok", "ok")
    assert body["version"]
    assert simulator.requests == ()


def test_metrics_count_right_after_a_request(gateway: RunningGateway) -> None:
    def count(before: dict[str, float], after: dict[str, float], name: str, **labels: str) -> float:
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        keys = [key for key in after if key.startswith(name) and all(one in key for one in wanted)]
        return sum(after[key] - before.get(key, 0.0) for key in keys)

    before = metrics(gateway)
    for stream in (False, True):
        ask(gateway.port, chat("tokens=7,prompt_tokens=20", stream=stream))
    ask(gateway.port, chat("fault=http_500"))
    ask(gateway.port, chat(key="sk-wrong"))
    ask(gateway.port, chat(model="dead/c"))
    after = metrics(gateway)
    total = "gen_ai_server_request_duration_seconds_count"
    assert count(before, after, total) == 5
    assert count(before, after, total, connection="sim", status="200", outcome="success") == 2
    assert count(before, after, total, connection="sim", status="502", outcome="error") == 1
    assert count(before, after, total, connection="dead", status="502") == 1
    assert count(before, after, total, connection="", status="401") == 1
    tokens = "gen_ai_client_token_usage_total"
    assert count(before, after, tokens, connection="sim", type="output") == pytest.approx(14, abs=2)
    assert after["pointsman_requests_in_flight"] == 1  # the scrape itself
    assert after["pointsman_journal_parked_records"] == 0


def test_metrics_behind_a_proxy_need_a_key(gateway: RunningGateway) -> None:
    for name in (*PROXY_HEADERS, b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"):
        header = f"{name.decode()}: 203.0.113.9"
        assert get(gateway, "/metrics", header, key=None).status == 401
        assert get(gateway, "/metrics", header).status == 200


def test_models_are_public_but_a_wrong_key_is_refused(gateway: RunningGateway) -> None:
    for path in ("/v1/models", "/api/v1/models"):
        answer = get(gateway, path, key=None)
        assert answer.json()["object"] == "list"
        own = () if path.startswith("/api") else PROFILES
        assert [model["id"] for model in answer.json()["data"]] == [*own, "dead/a/b", "dead/c"]
        assert get(gateway, path, key="sk-wrong").status == 401


@pytest.mark.parametrize("name", ["dead/a/b", "dead%2Fa%2fb", "dead/a%2Fb", "a%2Fb", "c", "sim/any%20thing%C3%A9"])
def test_a_model_is_found_by_its_id_raw_or_encoded(gateway: RunningGateway, name: str) -> None:
    answer = get(gateway, f"/v1/models/{name}")
    assert answer.status == 200
    assert set(answer.json()) >= {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize("name", ["nothing", "dead/x", "%00", "%FF", "dead/%0d%0aset-cookie:x"])
def test_an_unknown_model_is_not_found(gateway: RunningGateway, name: str) -> None:
    answer = get(gateway, f"/v1/models/{name}")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


# the request log


def test_the_request_log_has_the_contracts_shape_newest_first(gateway: RunningGateway) -> None:
    fine = ask(gateway.port, chat()).request_id
    failed = ask(gateway.port, chat("fault=http_500")).request_id
    limited = ask(gateway.port, chat("fault=rate_limit", stream=True)).request_id
    unknown = ask(gateway.port, chat(model="nothing-like-it")).request_id

    def page() -> list[dict[str, str]] | None:
        body = get(gateway, f"{LOGS}?limit=4").json()
        assert set(body) == {"logs", "limit", "offset"}
        assert (body["limit"], body["offset"]) == (4, 0)
        rows: list[dict[str, str]] = body["logs"]
        return rows if rows and rows[0]["request_id"] == unknown else None

    rows = wait_until(page, "projection")
    assert [row["request_id"] for row in rows] == [unknown, limited, failed, fine]
    assert [row["status"] for row in rows] == ["ERROR", "RATE_LIMITED", "ERROR", "SUCCESS"]
    names = {"request_id", "route", "status", "provider", "model", "cache_state", "memory_state", "created_at"}
    for row in rows:
        assert set(row) == names
        assert all(isinstance(value, str) for value in row.values())
        assert row["route"] == "/v1/chat/completions"
        at = datetime.datetime.fromisoformat(row["created_at"].replace("Z", "+00:00"))
        assert abs((datetime.datetime.now(datetime.UTC) - at).total_seconds()) < 60
    assert rows[3]["model"] == "sim-model"


def test_pages_of_the_request_log_follow_each_other(gateway: RunningGateway) -> None:
    ids = [ask(gateway.port, chat()).request_id for _ in range(6)]

    def logged(query: str) -> list[str]:
        return [row["request_id"] for row in get(gateway, f"{LOGS}?{query}").json()["logs"]]

    wait_until(lambda: logged("limit=1") == ids[-1:], "projection")
    assert logged("limit=3") + logged("limit=3&offset=3") == ids[::-1]
    assert logged("limit=100&offset=100000") == []
    assert get(gateway, LOGS).json()["limit"] == 25


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=abc", "limit=1.5", "limit=", "offset=-1", "offset=x", "limit=%C2%B2",
     "limit=99999999999999999999", "offset=99999999999999999999"],
)  # fmt: skip
def test_a_bound_that_is_broken_is_named(gateway: RunningGateway, query: str) -> None:
    answer = get(gateway, f"{LOGS}?{query}")
    assert answer.status == 400
    assert (answer.error["type"], answer.error["param"]) == ("invalid_request_error", query.partition("=")[0])


def test_the_request_log_needs_a_key(gateway: RunningGateway) -> None:
    assert get(gateway, LOGS, key=None).status == 401
    assert get(gateway, LOGS, key="sk-wrong").status == 401
    assert get(gateway, LOGS, f"x-api-key: {KEY}", key=None).status == 200
    assert get(gateway, f"{LOGS}?limit=0", key=None).status == 401  # who may ask comes first


def test_other_methods_and_neighbours_of_the_request_log_are_refused(gateway: RunningGateway) -> None:
    assert ask(gateway.port, request("POST", LOGS, b"{}")).status == 405
    assert ask(gateway.port, request("DELETE", LOGS)).status == 405
    for path in (f"{LOGS}/x", "/v1/Request-logs", "/v1/request%2Dlogs", f"/{LOGS}"):
        assert get(gateway, path).status in (404, 405), path


def test_the_management_plane_keeps_the_connection_too(gateway: RunningGateway) -> None:
    with Connection(gateway.port) as connection:
        for path in (LOGS, "/health", LOGS, "/v1/nothing", LOGS):
            answer = connection.ask(request("GET", path))
            assert answer.status == (404 if path == "/v1/nothing" else 200)
            assert answer.headers["content-type"] == "application/json"
            assert "x-request-id" in answer.headers
