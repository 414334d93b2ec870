"""Every change of the management plane leaves a row, done or refused, without any secret; the log can be read."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.api.access import RULES
from pointsman.api.audited import AuditedPlane
from pointsman.api.audited_operations import SIGN_INS, UNCHANGING, operation_of
from pointsman.identity.audit_check import check_log
from pointsman.keyring import Secret
from pointsman.policy.authorization import READING
from pointsman.storage.audit import EVERYTHING

PASSWORD = "four words are enough"
ADMIN = {"authorization": f"Bearer {KEY}"}
CANARY = "sk-canary-5b1f0c2d9e8a7b6c"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("audited"), {"identity": {"sign_in_failures": 3}}) as started:
        started.call(started.installation.users.set_password("usr_admin", Secret(PASSWORD)))
        yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20) as opened:
        yield opened


def newest(client: httpx.Client, **wanted: Any) -> dict[str, Any]:
    """The newest row that is wanted."""
    answer = client.get("/api/pointsman/audit", params={"limit": 1, **wanted}, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    [row] = answer.json()["data"]
    return dict(row)


def test_every_operation_that_changes_something_has_a_name_in_the_log() -> None:
    left_out = {(method, path) for method, path in RULES if operation_of(method, path) is None}
    assert left_out == {one for one in RULES if one[0] in READING and one not in SIGN_INS} | UNCHANGING
    names = {operation_of(*one).action for one in RULES if operation_of(*one) is not None}  # type: ignore[union-attr]
    assert {"apikey.created", "apikey.updated", "apikey.revoked", "provider.credentials.created"} <= names
    assert {
        "provider.credentials.test",
        "apikey.deactivate",
        "combo.reorder",
        "ledger.top-ups",
        "agent.register",
    } <= names
    assert all(name == name.lower() and "{" not in name for name in names)


def test_a_key_that_is_made_and_revoked_leaves_two_rows_that_name_it(client: httpx.Client) -> None:
    made = client.post("/api/v1/keys", json={"name": "mine"}, headers=ADMIN)
    assert made.status_code == 201
    row = newest(client, action="apikey.created")
    assert (row["outcome"], row["status"], row["credential_kind"], row["account_id"]) == (
        "success", 201, "plain", "default",
    )  # fmt: skip
    assert (row["source"], row["address"], row["fields"]) == ("api", "127.0.0.1", ["name"])
    assert row["request_id"] == made.headers["x-request-id"]
    name = made.json()["data"]["hash"]
    assert row["object_id"] == name
    assert client.delete(f"/api/v1/keys/{name}", headers=ADMIN).status_code == 200
    assert newest(client, action="apikey.revoked", object_id=name)["outcome"] == "success"


def test_what_is_refused_leaves_a_row_too(client: httpx.Client) -> None:
    key = client.post("/api/keys", json={"label": "weak"}, headers=ADMIN).json()
    weak = {"authorization": f"Bearer {key['key']}"}
    assert client.delete("/api/providers/main", headers=weak).status_code == 403
    row = newest(client, outcome="refused", action="provider.credentials.revoked")
    assert (row["status"], row["credential_id"]) == (403, key["id"])
    assert row["object_id"].startswith("~")
    assert newest(client, object_id="main")["sequence"] == row["sequence"]
    assert client.put("/api/combos/nothing", json={"name": 1}, headers=ADMIN).status_code in (400, 404)
    assert newest(client)["action"] == "combo.updated"


def test_a_call_without_a_credential_leaves_a_row_of_nobody(client: httpx.Client) -> None:
    assert client.post("/api/combos", json={}).status_code == 401
    row = newest(client, action="combo.created")
    assert (row["outcome"], row["status"], row["credential_id"], row["user_id"]) == ("refused", 401, None, None)


def test_reading_leaves_no_row(client: httpx.Client) -> None:
    before = newest(client)["sequence"]
    for path in ("/api/combos", "/api/keys", "/api/v1/keys", "/api/compliance/audit-log"):
        assert client.get(path, headers=ADMIN).status_code == 200
    assert client.post("/api/translator/detect", json={"body": {}}, headers=ADMIN).status_code < 500
    assert newest(client)["sequence"] == before


def test_sign_ins_that_succeed_fail_and_are_locked_out_are_told_apart(client: httpx.Client) -> None:
    assert client.post("/api/auth/login", json={"password": PASSWORD}).status_code == 200
    row = newest(client, action="auth.login.*")
    assert (row["action"], row["user_id"], row["credential_kind"]) == ("auth.login.success", "usr_admin", "session")
    client.post("/api/auth/logout")
    assert newest(client)["action"] == "auth.logout.success"
    client.cookies.clear()
    assert client.post("/api/auth/login", json={"email": "no@example.org", "password": CANARY}).status_code == 401
    assert newest(client)["object_id"] is None
    for _ in range(2):
        assert client.post("/api/auth/login", json={"password": CANARY}).status_code == 401
    row = newest(client)
    assert (row["action"], row["object_id"], row["credential_id"]) == ("auth.login.failed", "usr_admin", None)
    assert client.post("/api/auth/login", json={"password": PASSWORD}).status_code == 429
    assert newest(client)["action"] == "auth.login.locked"


def test_no_secret_that_is_sent_gets_into_a_row(gateway: RunningGateway, client: httpx.Client) -> None:
    sent = {"headers": {**ADMIN, "user-agent": CANARY}}
    client.post("/api/providers", json={"provider": "openai", "apiKey": CANARY, "name": CANARY}, **sent)  # type: ignore[arg-type]
    client.post("/api/keys", json={"label": CANARY, CANARY: CANARY, "expiresAt": CANARY}, **sent)  # type: ignore[arg-type]
    client.delete(f"/api/keys/{CANARY}", **sent)  # type: ignore[arg-type]
    client.delete(f"/api/models/alias?alias={CANARY}", **sent)  # type: ignore[arg-type]
    client.post("/api/auth/login", json={"email": CANARY, "password": CANARY})
    client.post("/api/v1/keys", json={"name": CANARY}, headers={"authorization": f"Bearer {CANARY}"})
    rows = gateway.call(gateway.installation.audit.repository.page(EVERYTHING, 500))
    assert len(rows) > 5
    assert [row.entry for row in rows if "canary" in repr(row)] == []
    assert KEY not in repr(rows)


def test_a_ban_says_whom_it_shuts_out(client: httpx.Client) -> None:
    ban = {"tempBan": {"ip": "203.0.113.7"}}
    assert client.put("/api/settings/ip-filter", json=ban, headers=ADMIN).status_code == 200
    row = newest(client)
    assert (row["action"], row["object_id"], row["fields"]) == ("ipfilter.updated", "203.0.113.7", ["tempBan"])


def test_a_program_that_exchanges_a_code_leaves_the_id_of_its_key(client: httpx.Client) -> None:
    wish = {"callback_url": "https://app.example/back"}
    code = client.post("/api/v1/auth/keys/code", json=wish, headers=ADMIN).json()["data"]["id"]
    made = client.post("/api/v1/auth/keys", json={"code": code})
    assert made.status_code == 200, made.text
    row = newest(client)
    assert (row["action"], row["outcome"], row["credential_id"]) == ("apikey.created", "success", None)
    assert row["object_id"].startswith("key_")


def test_a_client_that_leaves_before_the_answer_is_in_the_log(gateway: RunningGateway, client: httpx.Client) -> None:
    begun = asyncio.Event()

    async def never(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        begun.set()
        await asyncio.Event().wait()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"label": "a"}', "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    async def leave() -> None:
        installation = gateway.installation
        plane = AuditedPlane(never, installation.audit, gateway.server.gateway, installation.user_rows)
        scope = {"type": "http", "method": "DELETE", "path": "/api/keys/key_1", "path_template": "/api/keys/{key_id}"}
        call = asyncio.ensure_future(plane({**scope, "state": {}, "query_string": b""}, receive, send))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    gateway.call(leave())
    row = newest(client)
    assert (row["action"], row["outcome"], row["status"], row["fields"]) == ("apikey.revoked", "failed", 499, ["label"])


def test_the_log_is_whole_and_begins_with_the_first_key(gateway: RunningGateway) -> None:
    assert gateway.call(check_log(gateway.installation.audit)).is_right
    first = gateway.call(gateway.installation.audit.repository.page(EVERYTHING, 500))[-1].entry
    assert (first.source, first.action, first.object_kind) == ("server", "apikey.created", "apikey")
    assert (first.object_id or "").startswith("key_")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=a", "since=yesterday", "action=", "unknown=1", "before=-1"]
)
def test_a_wrong_question_is_refused_by_name(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/pointsman/audit?{query}", headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


def test_pages_follow_each_other(client: httpx.Client) -> None:
    for _ in range(5):
        client.post("/api/combos", json={}, headers=ADMIN)
    page = client.get("/api/pointsman/audit?limit=2", headers=ADMIN).json()
    following = client.get(f"/api/pointsman/audit?limit=2&before={page['next']}", headers=ADMIN).json()
    numbers = [row["sequence"] for row in (*page["data"], *following["data"])]
    assert numbers == list(range(numbers[0], numbers[0] - 4, -1))


def test_omniroute_s_log_is_a_bare_list_with_its_length_in_headers(client: httpx.Client) -> None:
    client.post("/api/combos", json={}, headers=ADMIN)
    answer = client.get("/api/compliance/audit-log?limit=2&action=combo.created&level=high", headers=ADMIN)
    rows = answer.json()
    assert (answer.headers["x-page-limit"], answer.headers["x-page-offset"]) == ("2", "0")
    assert int(answer.headers["x-total-count"]) >= len(rows) >= 1
    assert (rows[0]["action"], rows[0]["status"], rows[0]["ip_address"]) == ("combo.created", "refused", "127.0.0.1")
    assert rows[0]["resource_type"] == "combo"
    assert client.get("/api/compliance/audit-log?level=low", headers=ADMIN).status_code == 400
    assert client.get("/api/compliance/audit-log").status_code == 401
