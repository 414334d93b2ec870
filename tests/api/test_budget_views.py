"""``/api/pointsman/budgets``: who may, what is refused, what is shown."""

from typing import Any

import msgspec
import pytest

from gateway import RunningGateway
from raw_client import Answer, ask, request

PATH = "/api/pointsman/budgets"


def call(gateway: RunningGateway, method: str, path: str = "", body: Any = None, **key: Any) -> Answer:
    """One operation."""
    content = b"" if body is None else msgspec.json.encode(body)
    return ask(gateway.port, request(method, PATH + path, content, **key))


def test_a_budget_is_set_shown_listed_changed_and_removed(gateway: RunningGateway) -> None:
    body = {"scope": "tag", "subject": "api", "limit_usd": "0.1", "window": "week", "alerts": [90, 50]}
    made = call(gateway, "PUT", body=body).json()
    assert (made["limit_usd"], made["window"], made["alerts"]) == (0.1, "week", [50, 90])
    assert (made["spent_usd"], made["remaining_usd"], made["hard"]) == (0, 0.1, True)
    assert made["resets_at"].endswith("T00:00:00Z")
    changed = call(gateway, "PUT", body={**body, "limit_usd": 2, "hard": False}).json()
    assert (changed["id"], changed["limit_usd"], changed["hard"]) == (made["id"], 2, False)
    rolling = {"scope": "tag", "subject": "api", "limit_usd": 1, "window": "rolling", "window_seconds": 3600}
    other = call(gateway, "PUT", body=rolling).json()
    assert (other["window_seconds"], other["resets_at"] is None) == (3600, False)
    first = call(gateway, "GET", "?limit=1&scope=tag&subject=api").json()
    second = call(gateway, "GET", f"?limit=1&scope=tag&subject=api&after={first['next']}").json()
    assert [first["data"][0]["id"], second["data"][0]["id"]] == [made["id"], other["id"]]
    assert second["next"] is None
    assert call(gateway, "GET", f"/{made['id']}").json() == changed
    assert call(gateway, "DELETE", f"/{made['id']}").json() == {"deleted": True, "id": made["id"]}
    assert call(gateway, "DELETE", f"/{made['id']}").status == 404
    assert call(gateway, "GET", f"/{made['id']}").status == 404


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"scope": "planet"}, "scope"),
        ({"subject": ""}, "subject"),
        ({"limit_usd": -1}, "limit_usd"),
        ({"limit_usd": "0.0000000001"}, "limit_usd"),
        ({"limit_usd": "much"}, "limit_usd"),
        ({"limit_usd": 1e300}, "limit_usd"),
        ({"window": "year"}, "window"),
        ({"window": "rolling"}, "window_seconds"),
        ({"window": "rolling", "window_seconds": 1}, "window_seconds"),
        ({"alerts": [0]}, "alerts"),
        ({"colour": "red"}, "colour"),
        ({"hard": "yes"}, "hard"),
    ],
)
def test_what_is_wrong_with_a_budget_is_named(gateway: RunningGateway, wrong: dict[str, Any], field: str) -> None:
    body = {"scope": "key", "subject": "key_1", "limit_usd": 1, **wrong}
    answer = call(gateway, "PUT", body=body)
    assert answer.status == 400
    assert field in answer.error["message"]


@pytest.mark.parametrize(
    "query",
    ["?limit=0", "?limit=201", "?limit=0000000011000", "?limit=x", "?after=", "?after=%00", f"?scope={'x' * 300}"],
)
def test_a_list_is_bounded(gateway: RunningGateway, query: str) -> None:
    assert call(gateway, "GET", query).status == 400


def test_budgets_are_for_admins_only(gateway: RunningGateway) -> None:
    async def key() -> str:
        _, secret = await gateway.installation.keys.create("app")
        assert await gateway.installation.await_revision(await gateway.installation.configuration.revision())
        return secret.reveal()

    secret = gateway.call(key())
    for method, path in (("GET", ""), ("PUT", ""), ("GET", "/bud_1"), ("DELETE", "/bud_1")):
        body = {} if method == "PUT" else None
        assert call(gateway, method, path, body, key=None).status == 401
        assert call(gateway, method, path, body, key=secret).status == 403
