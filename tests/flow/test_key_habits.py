"""What an OmniRoute key says of all its calls is heeded, field by field, through HTTP."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import OpenAIChat, running_simulator

CHAT = "/v1/chat/completions"
WORD = "CanaryOfTheCaller"


class Place:
    """A gateway with two connections that have one model of the same name, and one that is open to any model."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.http = httpx.Client(base_url=gateway.address, timeout=20, headers={"authorization": f"Bearer {KEY}"})

    def key(self, **fields: Any) -> dict[str, str]:
        """The headers of a new key with these fields."""
        made = self.http.post("/api/keys", json={"label": "one"}).json()
        if fields:
            answer = self.http.patch(f"/api/keys/{made['id']}", json=fields)
            assert answer.status_code == 200, answer.text
        return {"authorization": f"Bearer {made['key']}"}

    def call(self, headers: dict[str, str], /, **members: Any) -> httpx.Response:
        """A chat; at the connection ``a`` unless said otherwise."""
        body = {"model": "a/twin", "messages": [{"role": "user", "content": "hello"}], **members}
        return self.http.post(CHAT, json=body, headers=headers)

    def connection_of(self, answer: httpx.Response) -> str | None:
        """Who answered."""
        assert answer.status_code == 200, answer.text
        return self.gateway.journal.the(answer.headers["x-request-id"]).connection_id


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as upstream:
        there = {"kind": "openai-compatible", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        rows = [
            {"id": "a", "provider": "ones", "models": ["twin"], **there},
            {"id": "b", "provider": "others", "models": ["twin"], **there},
            {"id": "open", **there},
        ]
        settings = {
            "connections": rows,
            "cache": {"mode": "on"},
            "facts": [{"model": "*/twin", "prompt": 1, "completion": 100}],
        }
        with running_gateway(tmp_path_factory.mktemp("habits"), settings) as gateway:
            made = Place(gateway)
            with made.http:
                yield made


def test_no_log_leaves_the_figures_that_money_needs_and_nothing_else(place: Place) -> None:
    headers = {**place.key(noLog=True), "x-pointsman-explain": "1", "x-session-id": WORD, "user-agent": WORD}
    body = {"model": "b/twin", "messages": [{"role": "user", "content": WORD}], "temperature": 0, "user": WORD}
    answers = [place.http.post(CHAT, json=body, headers=headers) for _ in range(2)]
    answers.append(place.http.post(CHAT, json=body | {"stream": True}, headers={**headers, "idempotency-key": WORD}))
    kept = place.http.post("/v1/responses", json={"model": "b/twin", "input": WORD}, headers=headers)
    assert [answer.status_code for answer in (*answers, kept)] == [200] * 4
    assert "x-cache-status" not in answers[1].headers
    assert place.http.get(f"/v1/responses/{kept.json()['id']}", headers=headers).status_code == 404
    for answer in (*answers, kept):
        record = place.gateway.journal.the(answer.headers["x-request-id"])
        assert (record.connection_id, record.request_model, record.status) == ("b", "twin", 200)
        assert record.cost_nano_usd == record.input_tokens * 1_000 + record.output_tokens * 100_000 > 0
        told = (record.route, record.fidelity, record.attempts, record.guards, record.plan, record.finish_reason,
                record.combo, record.cache, record.duration_us, record.bytes_in)  # fmt: skip
        assert told == ("", None, None, None, None, None, None, None, 0, 0)
        assert answer.headers["x-request-id"] not in place.gateway.log_text()
    requests = place.gateway.installation.requests
    wait_until(lambda: place.gateway.call(requests.find(kept.headers["x-request-id"])), "row")
    files = [path.read_bytes() for path in place.gateway.data_dir.rglob("*") if path.is_file()]
    assert not any(WORD.encode() in data for data in files)


def test_a_key_without_it_is_logged(place: Place) -> None:
    answer = place.call(place.key(noLog=False))
    assert answer.headers["x-request-id"] in place.gateway.log_text()
    assert place.gateway.journal.the(answer.headers["x-request-id"]).route == CHAT


def test_throttle_delay_ms_has_each_call_wait(place: Place) -> None:
    headers = place.key(throttleDelayMs=150)
    began = time.monotonic()
    assert place.call(headers).status_code == 200
    assert time.monotonic() - began >= 0.15


def test_auto_resolve_takes_a_name_that_several_connections_have(place: Place) -> None:
    assert place.call(place.key(), model="twin").status_code == 404
    assert place.connection_of(place.call(place.key(autoResolve=True), model="twin")) in ("a", "b")
    assert place.call(place.key(autoResolve=True), model="nothing-like-it").status_code == 404


@pytest.mark.parametrize("name", ["a", "b"])
def test_preferred_connections_come_first(place: Place, name: str) -> None:
    headers = place.key(autoResolve=True, preferredConnections=[name])
    told = {place.connection_of(place.call(headers, model="twin", seed=number)) for number in range(4)}
    assert told == {name}


@pytest.mark.parametrize(
    ("mode", "members", "streams"),
    [("legacy", {}, True), ("legacy", {"stream": False}, False), ("json", {}, False), (None, {}, False)],
)
def test_stream_default_mode_decides_where_the_body_does_not(
    place: Place, mode: str | None, members: dict[str, Any], streams: bool
) -> None:
    headers = place.key(**({"streamDefaultMode": mode} if mode else {}))
    answer = place.call({**headers, "accept": "text/event-stream"}, **members)
    assert answer.headers["content-type"].startswith("text/event-stream") is streams
    assert place.call({**headers, "accept": "application/json"}).headers["content-type"] == "application/json"


def test_cache_default_mode_keeps_calls_out_that_do_not_ask_for_the_cache(place: Place) -> None:
    headers = place.key(cacheDefaultMode="bypass")
    told = [place.call(headers, seed=3) for _ in range(2)]
    assert all("x-pointsman-cache" not in answer.headers for answer in told)
    records = [place.gateway.journal.the(answer.headers["x-request-id"]) for answer in told]
    assert [record.cache for record in records] == ["bypass", "bypass"]
    asking = {**headers, "x-pointsman-cache": "on"}
    assert [place.call(asking, seed=3).headers["x-pointsman-cache"] for _ in range(2)] == ["miss", "hit"]
    usual = place.key(cacheDefaultMode="legacy")
    assert [place.call(usual, seed=4).headers["x-pointsman-cache"] for _ in range(2)] == ["miss", "hit"]


def test_disable_non_public_models_leaves_what_lists_show(place: Place) -> None:
    headers = place.key(disableNonPublicModels=True)
    assert place.call(headers).status_code == 200
    assert place.call(headers, model="open/unheard-of").status_code == 403
    assert place.call(place.key(disableNonPublicModels=False), model="open/unheard-of").status_code == 200


@pytest.mark.parametrize("field", ["compressionEnabled", "allowUsageCommand", "chaosModeEnabled"])
def test_what_is_not_here_can_t_be_turned_on(place: Place, field: str) -> None:
    made = place.http.post("/api/keys", json={"label": "one"}).json()
    refused = place.http.patch(f"/api/keys/{made['id']}", json={field: True})
    assert refused.status_code == 400
    assert [one["field"] for one in refused.json()["error"]["details"]] == [field]
    assert place.http.patch(f"/api/keys/{made['id']}", json={field: False}).status_code == 200


def test_max_sessions_bounds_conversations_and_not_calls(place: Place) -> None:
    headers = place.key(maxSessions=1)
    first, second = ({**headers, "x-session-id": name} for name in ("one", "two"))
    assert [place.call(one, seed=5).status_code for one in (first, first, second)] == [200, 200, 429]


def test_an_access_schedule_counts_in_its_own_time_zone(place: Place) -> None:
    hours = {"from": "00:00", "until": "23:59", "days": list(range(7))}
    assert place.call(place.key(accessSchedule={**hours, "tz": "Asia/Kathmandu"})).status_code in (200, 403)
    closed = {"from": "00:00", "until": "23:59", "days": [], "tz": "Asia/Kathmandu"}
    answer = place.call(place.key(accessSchedule=closed))
    assert answer.status_code == 403
    assert "Asia/Kathmandu" in answer.json()["error"]["message"]
    assert place.call(place.key(accessSchedule={**closed, "enabled": False})).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"allowedEndpoints": ["embeddings"]},
        {"allowedModels": ["b/*"]},
        {"allowedConnections": ["b"]},
        {"accessSchedule": {"from": "00:00", "until": "23:59", "days": []}},
    ],
)
def test_what_binds_a_chat_binds_its_counting_and_its_files(place: Place, fields: dict[str, Any]) -> None:
    headers = place.key(**fields)
    said = [{"role": "user", "content": "hi"}]
    counted = place.http.post("/v1/messages/count_tokens", json={"model": "a/twin", "messages": said}, headers=headers)
    assert counted.status_code == 403, counted.text
    if "allowedModels" not in fields:
        form = {"purpose": (None, "assistants"), "file": ("a.txt", b"text")}
        sent = place.http.post("/v1/files", files=form, headers={**headers, "x-pointsman-provider": "a"})
        assert sent.status_code == 403, sent.text


def test_every_field_of_a_patch_is_either_heeded_or_refused() -> None:
    """Whoever adds a field says here which test holds it to its word."""
    from pointsman.api.omniroute.key_fields import READERS

    here = {
        "noLog", "autoResolve", "throttleDelayMs", "preferredConnections", "streamDefaultMode", "cacheDefaultMode",
        "disableNonPublicModels", "maxSessions", "accessSchedule", "allowedEndpoints", "allowedModels",
        "allowedConnections", "compressionEnabled", "allowUsageCommand", "chaosModeEnabled",
    }  # fmt: skip
    views = {  # tests/api/test_omniroute_keys.py
        "name", "label", "isActive", "isBanned", "modelAccessMode", "allowedCombos", "expiresAt", "rateLimits",
        "maxRequestsPerMinute", "maxRequestsPerDay", "scopes", "usageLimitEnabled", "dailyUsageLimitUsd",
        "weeklyUsageLimitUsd",
    }  # fmt: skip
    assert set(READERS) == here | views
    assert not here & views
