"""What belongs to one tenant is not there for another: not to be read, changed, removed, listed or guessed."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import RunningGateway
from pointsman.identity.keys import NewKey

SETTINGS = {"responses": {"keep": True}}
TENANTS = ("acc_one", "acc_two")


@pytest.fixture(scope="module")
def tenants(gateway: RunningGateway) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A client of each of two accounts."""
    work = gateway.installation

    async def make() -> list[str]:
        found = []
        for account in TENANTS:
            _, secret = await work.keys.issue(NewKey(name=account, account_id=account, workspace_id=account))
            found.append(secret.reveal())
        assert await work.await_revision(await work.configuration.revision())
        return found

    clients = [
        httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {key}"}, timeout=20)
        for key in gateway.call(make())
    ]
    yield clients[0], clients[1]
    for client in clients:
        client.close()


def test_a_kept_response_is_its_owners_alone(tenants: tuple[httpx.Client, httpx.Client]) -> None:
    owner, other = tenants
    body: dict[str, Any] = {"model": "sim/m", "input": "hello", "store": True}
    made = owner.post("/v1/responses", json=body)
    assert made.status_code == 200, made.text
    path = f"/v1/responses/{made.json()['id']}"
    unknown = other.get("/v1/responses/resp_" + "0" * 32)
    for method, tail in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
        assert other.request(method, path + tail).status_code == 404
    refused = other.get(path)
    assert refused.json()["error"]["type"] == unknown.json()["error"]["type"]
    body["previous_response_id"] = made.json()["id"]
    assert other.post("/v1/responses", json=body).status_code in (400, 404)
    assert owner.get(path).status_code == 200
    assert owner.delete(path).status_code == 200


def test_logs_show_ones_own_requests_alone(tenants: tuple[httpx.Client, httpx.Client]) -> None:
    owner, other = tenants
    body = {"model": "sim/m", "messages": [{"role": "user", "content": "hello"}]}
    made = owner.post("/v1/chat/completions", json=body)
    assert made.status_code == 200
    request_id = made.headers["x-request-id"]
    for path, member in (("/v1/request-logs", "logs"), ("/api/translator/history", "events")):
        assert request_id not in other.get(path).text
        assert all(request_id != str(row) for row in other.get(path).json()[member])


@pytest.mark.parametrize(
    "text",
    [
        "' OR '1'='1",
        "%",
        "_",
        "default",
        "acc_one",
        "sk-pm-%",
        "\\",
        "*",
        "x' UNION SELECT digest FROM keys --",
        "\x7f",
    ],
)
def test_nothing_that_is_written_into_a_credential_is_taken_for_more_than_a_credential(
    gateway: RunningGateway, text: str
) -> None:
    for headers in ({"authorization": f"Bearer {text}"}, {"x-api-key": text}, {"cookie": f"auth_token={text}"}):
        assert httpx.get(f"{gateway.address}/v1/request-logs", headers=headers).status_code == 401
