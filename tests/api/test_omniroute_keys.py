"""OmniRoute's keys: every field is stored and shown, and what limits a key binds its calls."""

import datetime
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.identity.keys import NewKey
from pointsman.testing import OpenAIChat, running_simulator

ADMIN = {"authorization": f"Bearer {KEY}"}
CALL = {"model": "sim/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
FIELDS: dict[str, Any] = {
    "name": "Den", "isActive": True, "isBanned": False, "modelAccessMode": "restricted",
    "allowedModels": ["sim/*"], "allowedCombos": ["fast"], "allowedConnections": ["sim", "b"],
    "preferredConnections": ["b"], "allowedEndpoints": ["chat"], "noLog": True, "autoResolve": True,
    "throttleDelayMs": 5, "expiresAt": "2999-01-01T00:00:00.000Z", "maxSessions": 3,
    "accessSchedule": {"enabled": False, "from": "22:00", "until": "06:00", "days": [0, 6], "tz": "Europe/Berlin"},
    "rateLimits": [{"limit": 5, "window": 60}], "maxRequestsPerMinute": 7, "maxRequestsPerDay": 100,
    "scopes": ["manage"], "streamDefaultMode": "json", "cacheDefaultMode": "bypass", "compressionEnabled": False,
    "disableNonPublicModels": False, "allowUsageCommand": False, "chaosModeEnabled": False,
    "usageLimitEnabled": True, "dailyUsageLimitUsd": 1.5, "weeklyUsageLimitUsd": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as upstream:
        row = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY,
               "models": ["gpt-4.1-mini"]}  # fmt: skip
        with running_gateway(tmp_path_factory.mktemp("keys"), {"connections": [row]}) as started:
            yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20, headers=ADMIN) as opened:
        yield opened


def make(client: httpx.Client, **fields: Any) -> tuple[str, str]:
    answer = client.post("/api/keys", json={"label": "one", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["key"]


def call(client: httpx.Client, secret: str) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    return client.post("/v1/chat/completions", json=CALL, headers=headers).status_code


def test_every_field_is_stored_and_shown(client: httpx.Client) -> None:
    key_id, secret = make(client)
    echoed = client.patch(f"/api/keys/{key_id}", json=FIELDS).json()
    shown = client.get(f"/api/keys/{key_id}").json()
    assert {name: shown[name] for name in FIELDS} == FIELDS
    assert {name: echoed[name] for name in FIELDS} == FIELDS
    assert secret not in client.get("/api/keys").text
    assert shown["keyPreview"] == secret[-4:]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"isActive": False}, 401),
        ({"isBanned": True}, 401),
        ({"expiresAt": "2001-01-01T00:00:00Z"}, 401),
        ({"allowedModels": ["other/*"]}, 403),
        ({"allowedModels": ["sim/*"]}, 200),
        ({"allowedConnections": ["other"]}, 403),
        ({"allowedEndpoints": ["embeddings"]}, 403),
        ({"allowedEndpoints": ["chat"], "allowedCombos": ["fast"]}, 200),
        ({"accessSchedule": {"from": "00:00", "until": "23:59", "days": []}}, 403),
        ({"usageLimitEnabled": True, "dailyUsageLimitUsd": 0}, 429),
        ({"usageLimitEnabled": False, "dailyUsageLimitUsd": 0}, 200),
    ],
)  # fmt: skip
def test_what_a_key_may_not_do_is_refused(client: httpx.Client, fields: dict[str, Any], status: int) -> None:
    assert call(client, make(client, **fields)[1]) == status


def test_rates_and_sessions_bind_and_a_change_holds_at_once(client: httpx.Client) -> None:
    key_id, secret = make(client, rateLimits=[{"limit": 1, "window": 86_400}])
    assert [call(client, secret), call(client, secret)] == [200, 429]
    client.patch(f"/api/keys/{key_id}", json={"rateLimits": None})
    assert call(client, secret) == 200
    assert client.delete(f"/api/keys/{key_id}").json() == {"message": "Key deleted successfully"}
    assert call(client, secret) == 401
    assert client.get(f"/api/keys/{key_id}").status_code == 404


def test_a_limit_that_is_lifted_leaves_no_budget(gateway: RunningGateway, client: httpx.Client) -> None:
    key_id, secret = make(client, usageLimitEnabled=True, weeklyUsageLimitUsd=0)
    assert call(client, secret) == 429
    client.patch(f"/api/keys/{key_id}", json={"usageLimitEnabled": False})
    assert gateway.call(gateway.installation.budgets.list_page(10, scope="key", subject=key_id)) == ()
    assert call(client, secret) == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("isActive", 1), ("allowedModels", ["x"] * 1001), ("throttleDelayMs", 300_001),
        ("expiresAt", "tomorrow"), ("maxSessions", -1), ("rateLimits", [{"limit": 5, "window": 61}]),
        ("accessSchedule", {"from": "25:00", "until": "06:00"}), ("accessSchedule", {"from": "01:00", "until": "02:00",
         "tz": "../etc"}), ("scopes", ["a"] * 33), ("streamDefaultMode", "other"), ("dailyUsageLimitUsd", -1),
        ("modelAccessMode", "restricted"), ("dailyUsageLimitUsd", "1"), ("isBanned", None),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused_by_name(client: httpx.Client, field: str, value: Any) -> None:
    key_id, _ = make(client)
    answer = client.patch(f"/api/keys/{key_id}", json={field: value})
    assert answer.status_code == 400
    assert [one["field"] for one in answer.json()["error"]["details"]] == [field]


def test_a_patch_without_a_known_field_is_refused(client: httpx.Client) -> None:
    answer = client.patch(f"/api/keys/{make(client)[0]}", json={"nothing": 1})
    assert (answer.status_code, answer.json()) == (400, {"error": "No valid fields to update"})


def test_a_key_of_another_account_is_not_found(gateway: RunningGateway, client: httpx.Client) -> None:
    row, _ = gateway.call(gateway.installation.keys.issue(NewKey(name="a", kind="omniroute", account_id="acc_x")))
    for method in ("GET", "PATCH", "DELETE"):
        assert client.request(method, f"/api/keys/{row.id}", json={"name": "b"}).status_code == 404
    assert row.id not in client.get("/api/keys").text


def test_a_managing_key_gives_no_scope_that_it_has_not(client: httpx.Client) -> None:
    _, manager = make(client, scopes=["manage"])
    headers = {"authorization": f"Bearer {manager}"}
    assert client.post("/api/keys", json={"label": "a", "scopes": ["admin"]}, headers=headers).status_code == 403
    assert client.post("/api/keys", json={"label": "a", "scopes": ["manage"]}, headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("moment", "open_"),
    [("2026-01-03T23:30", True), ("2026-01-04T05:59", True), ("2026-01-04T06:00", False), ("2026-01-05T05:00", False)],
)
def test_hours_over_midnight_belong_to_the_day_on_which_they_begin(moment: str, open_: bool) -> None:
    from pointsman.policy.key_conditions import is_open

    saturday = {"enabled": True, "from": "22:00", "until": "06:00", "days": [6], "tz": "Europe/Berlin"}
    at = datetime.datetime.fromisoformat(f"{moment}+01:00").timestamp()
    assert is_open(saturday, int(at * 1e6)) is open_
