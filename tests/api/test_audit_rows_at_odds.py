"""The audit log where not all keys are in memory, and where the database fails for a moment."""

from collections.abc import Iterator

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.identity.keys import NewKey
from pointsman.keyring import Secret
from pointsman.storage.keys import insert_key

PASSWORD = "four words are enough"
ADMIN = {"authorization": f"Bearer {KEY}"}
HELD = 100


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that has more keys than it holds."""
    settings = {"identity": {"keys_in_memory": HELD}}
    with running_gateway(tmp_path_factory.mktemp("odd"), settings) as started:
        started.call(started.installation.users.set_password("usr_admin", Secret(PASSWORD)))
        started.call(crowd(started))
        assert not started.read(lambda: started.server.late_keys.table.whole)
        yield started


async def crowd(gateway: RunningGateway) -> None:
    installation = gateway.installation
    async with installation.database.write() as connection:
        for _ in range(HELD + 10):
            row, _ = installation.keys.draw(NewKey(name="one of many"))
            revision = await insert_key(connection, row)
    assert await installation.await_revision(revision)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20) as opened:
        yield opened


def newest(client: httpx.Client) -> dict[str, object]:
    answer = client.get("/api/pointsman/audit", params={"limit": 1}, headers=ADMIN)
    return dict(answer.json()["data"][0])


def test_a_sign_in_names_its_session_where_not_all_keys_are_in_memory(client: httpx.Client) -> None:
    answer = client.post("/api/auth/login", json={"password": PASSWORD})
    assert answer.status_code == 200
    row = newest(client)
    assert (row["action"], row["user_id"], row["credential_kind"]) == ("auth.login.success", "usr_admin", "session")
    assert row["credential_id"] is not None


def test_a_key_that_is_got_for_a_code_is_named_where_not_all_keys_are_in_memory(client: httpx.Client) -> None:
    wish = {"callback_url": "https://app.example/back"}
    code = client.post("/api/v1/auth/keys/code", json=wish, headers=ADMIN).json()["data"]["id"]
    assert client.post("/api/v1/auth/keys", json={"code": code}).status_code == 200
    assert str(newest(client)["object_id"]).startswith("key_")


def test_a_sign_in_while_people_can_not_be_read_is_told_to_come_again(
    gateway: RunningGateway, client: httpx.Client
) -> None:
    person = {"email": "somebody@example.org", "password": PASSWORD}
    gateway.call(rename(gateway, "users", "people"))
    try:
        answer = client.post("/api/auth/login", json=person)
    finally:
        gateway.call(rename(gateway, "people", "users"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
    row = newest(client)
    assert (row["action"], row["outcome"], row["object_id"]) == ("auth.login.error", "failed", None)


async def rename(gateway: RunningGateway, name: str, other: str) -> None:
    """Give a table another name, and nothing else of the database."""
    async with gateway.installation.database.write() as connection:
        await connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
        await connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {other}")
        await connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
