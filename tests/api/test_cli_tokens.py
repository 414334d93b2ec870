"""Tokens of the command line: made by the password or by an administrator, never with more rights than the maker's."""

from collections.abc import Iterator

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.keyring import Secret

PASSWORD = "four words are enough"
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("tokens"), {}) as started:
        started.call(started.installation.users.set_password("usr_admin", Secret(PASSWORD)))
        yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20) as opened:
        yield opened


def bearer(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


def test_the_password_gives_a_token_of_the_scope_that_is_asked_for(client: httpx.Client) -> None:
    reader = bearer(client.post("/api/cli/connect", json={"password": PASSWORD, "scope": "read", "expiresInDays": 3}))
    told = client.get("/api/cli/whoami", headers=reader).json()
    assert (told["authenticated"], told["kind"], told["scope"]) == (True, "access_token", "read")
    assert told["expiresAt"] is not None
    assert client.get("/api/providers", headers=reader).status_code == 200
    assert client.put("/api/settings/combo-defaults", json={}, headers=reader).status_code == 403
    assert client.get("/api/cli/tokens", headers=reader).status_code == 403
    assert bearer(client.post("/api/cli/connect", json={"password": PASSWORD}))


def test_a_token_with_the_scope_write_makes_none(client: httpx.Client) -> None:
    writer = bearer(client.post("/api/cli/connect", json={"password": PASSWORD, "scope": "write"}))
    assert client.post("/api/cli/tokens", json={"name": "a", "scope": "read"}, headers=writer).status_code == 403


def test_a_key_that_manages_gives_no_scope_admin(client: httpx.Client) -> None:
    made = client.post("/api/keys", json={"label": "a", "scopes": ["manage"]}, headers=ADMIN).json()
    manager = {"authorization": f"Bearer {made['key']}"}
    assert client.post("/api/cli/tokens", json={"name": "a", "scope": "admin"}, headers=manager).status_code == 403


def test_a_revoked_token_is_unknown_at_once_also_by_how_lists_show_it(client: httpx.Client) -> None:
    made = client.post("/api/cli/tokens", json={"name": "a"}, headers=ADMIN)
    token, prefix = bearer(made), made.json()["prefix"]
    assert made.json()["scope"] == "read"
    assert made.json()["token"] not in client.get("/api/cli/tokens", headers=ADMIN).text
    assert client.delete(f"/api/cli/tokens/{prefix}", headers=ADMIN).json() == {"success": True}
    assert client.get("/api/cli/whoami", headers=token).status_code == 401


def test_a_key_that_is_no_token_is_not_revoked_here(gateway: RunningGateway, client: httpx.Client) -> None:
    [row] = [row for row in gateway.call(gateway.installation.keys.list_newest(100)) if row.name == "bootstrap"]
    assert client.delete(f"/api/cli/tokens/{row.id}", headers=ADMIN).status_code == 404


def test_another_site_s_page_gets_no_token_by_the_password(client: httpx.Client) -> None:
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert client.post("/api/cli/connect", json={"password": PASSWORD}, headers=headers).status_code == 401


def test_after_wrong_passwords_the_right_one_has_to_wait_too(client: httpx.Client) -> None:
    statuses = [client.post("/api/cli/connect", json={"password": "wrong"}).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    locked = client.post("/api/cli/connect", json={"password": PASSWORD})
    assert (locked.status_code, int(locked.headers["retry-after"]) > 0) == (429, True)
