"""CrossCompute's accounts: who sees what, and that nobody spends more than was paid in."""

import datetime
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.accounting.ledger_service import Movement
from pointsman.api.crosscompute.crawler_files import FILES
from pointsman.identity.key_numbers import key_id_of, uuid_of
from pointsman.identity.users import NewUser
from pointsman.testing import OpenAIChat, running_simulator

MESSAGES = [{"role": "user", "content": "hello there"}]
PRICE = {"model": "*/gpt-4.1-mini*", "prompt": 1, "completion": 1_000}  # USD per million tokens
CALL = {"model": "sim/gpt-4.1-mini", "messages": MESSAGES, "max_tokens": 20}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as upstream:
        row = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY,
               "models": ["gpt-4.1-mini"]}  # fmt: skip
        more = {key: value for key, value in row.items() if key != "models"}
        rows = [row, {**more, "id": "open", "kind": "openai-compatible"}]
        identity = {"agent_registrations": 12, "security_contact": "mailto:security@example.org"}
        settings = {"connections": rows, "facts": [PRICE], "identity": identity}
        with running_gateway(tmp_path_factory.mktemp("crosscompute"), settings) as started:
            yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20) as opened:
        yield opened


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def person(gateway: RunningGateway, name: str) -> dict[str, str]:
    """The headers of somebody new."""
    work = gateway.installation

    async def make() -> str:
        user = await work.users.create(NewUser(email=f"{name}@example.org"))
        token, _ = work.tokens.issue(user, work.clock.now_us())
        assert await work.await_revision(await work.configuration.revision())
        return token.reveal()

    return bearer(gateway.call(make()))


def register(client: httpx.Client, agent_id: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/api/agents/register", json={"agentId": agent_id, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_new_agent_calls_no_model_until_somebody_has_paid_for_it(
    gateway: RunningGateway, client: httpx.Client
) -> None:
    made = register(client, "payer-1")
    agent = bearer(made["apiKey"])
    refused = client.post("/v1/chat/completions", json=CALL, headers=agent)
    assert refused.status_code == 402, refused.text
    movement = Movement(account_id=made["account"]["id"], nano_usd=5_000_000_000, key="paid-1", source="test")
    gateway.call(gateway.installation.ledger.top_up(movement))
    assert client.get("/api/agents/me", headers=agent).json()["account"]["creditsPurchased"] == 50_000

    def called() -> httpx.Response | None:  # a refusal is believed for a tenth of a second
        found = client.post("/v1/chat/completions", json=CALL, headers=agent)
        return found if found.status_code == 200 else None

    answer = wait_until(called, "answer")
    spent = float(answer.headers["x-crosscompute-billed-credits"])

    def usage() -> dict[str, Any]:
        found: dict[str, Any] = client.get("/api/agents/usage", headers=agent).json()
        return found

    told = wait_until(lambda: (found := usage())["usedCredits"] and found, "used credits")
    assert told["usedCredits"] == spent
    assert told["remainingCredits"] == pytest.approx(50_000 - spent)
    assert (told["quotaCredits"], told["creditsPurchased"]) == (50_000, 50_000)
    assert told["usage"]["usedCredits"] == told["usedCredits"]
    [item] = client.get("/api/agents/usage-models", headers=agent).json()["items"]
    assert item["requestCount"] == 1
    assert item["totalTokens"] == item["inputTokens"] + item["outputTokens"] > 0


def test_a_stranger_neither_learns_of_an_agent_nor_changes_it(client: httpx.Client) -> None:
    made = register(client, "mine-1", name="Mine")
    again = register(client, "mine-1", name="Theirs")
    assert again == {"ok": True, "created": False, "account": {"agentId": "mine-1"}, "key": {}}
    other = register(client, "other-1")
    answer = client.post("/api/agents/register", json={"agentId": "mine-1", "name": "Theirs"},
                         headers=bearer(other["apiKey"]))  # fmt: skip
    assert "apiKey" not in answer.json()
    mine = client.get("/api/agents/me", headers=bearer(made["apiKey"])).json()
    assert mine["account"]["name"] == "Mine"


def test_an_agent_changes_its_own_name_with_its_key(client: httpx.Client) -> None:
    agent = bearer(register(client, "named-1", name="Old")["apiKey"])
    url = "https://example.org/skill.md"
    body = {"agentId": "named-1", "name": "New", "skillMdUrl": url}
    account = client.post("/api/agents/register", json=body, headers=agent).json()["account"]
    assert (account["name"], account["skillMdUrl"]) == ("New", url)
    skill = client.get("/api/agents/skill-md", headers=agent)
    assert skill.headers["content-type"].startswith("text/markdown")
    assert "/v1/chat/completions" in skill.text


def test_an_unpaid_top_up_is_402_and_says_what_of_a_payment_arrived(client: httpx.Client) -> None:
    agent = bearer(register(client, "unpaid-1")["apiKey"])
    plain = client.post("/api/agents/topup", headers=agent)
    paid = client.post("/api/agents/topup", headers={**agent, "payment-signature": "x"})
    assert (plain.status_code, paid.status_code) == (402, 402)
    assert plain.headers["x-crosscompute-payment-header-kind"] == "none"
    assert paid.headers["x-crosscompute-payment-header-kind"] == "v2"
    assert paid.headers["x-crosscompute-payment-header-present"] == "true"
    assert client.post("/api/agents/topup", headers={"payment-signature": "x"}).status_code == 401


@pytest.mark.parametrize(
    ("field", "value"),
    [("agentId", "ab"), ("agentId", 5), ("agentId", "a" * 129), ("name", "x" * 121), ("name", 1),
     ("skillMdUrl", "file:///etc/passwd"), ("skillMdUrl", "https://a/" + "x" * 1000)],
)  # fmt: skip
def test_words_that_no_agent_can_have_are_refused_by_name(client: httpx.Client, field: str, value: Any) -> None:
    answer = client.post("/api/agents/register", json={"agentId": "good-1", field: value})
    assert answer.status_code == 400
    assert answer.json()["ok"] is False
    assert answer.json()["error"]["param"] == field


def test_after_some_registrations_an_address_has_to_wait(tmp_path: Path) -> None:
    settings = {"identity": {"agent_registrations": 1, "agent_registration_secret": "open sesame"}}
    with running_gateway(tmp_path, settings) as gateway, httpx.Client(base_url=gateway.address) as client:

        def ask(name: str, secret: str) -> httpx.Response:
            headers = {"x-agent-registration-secret": secret}
            return client.post("/api/agents/register", json={"agentId": name}, headers=headers)

        assert ask("first", "wrong").status_code == 401
        assert ask("first", "open sesame").status_code == 200
        late = ask("second", "open sesame")
        assert late.status_code == 429
        assert int(late.headers.get("retry-after", "1")) > 0
        assert ask("first", "").status_code == 200  # no new one


def test_the_secret_of_registrations_cannot_be_guessed_for_long(tmp_path: Path) -> None:
    settings = {"identity": {"sign_in_failures": 3, "agent_registration_secret": "open sesame"}}
    with running_gateway(tmp_path, settings) as gateway, httpx.Client(base_url=gateway.address) as client:

        def ask(secret: str) -> int:
            headers = {"x-agent-registration-secret": secret}
            return client.post("/api/agents/register", json={"agentId": "guesser"}, headers=headers).status_code

        assert [ask(f"wrong {number}") for number in range(4)] == [401, 401, 401, 429]
        assert ask("open sesame") == 429


def test_a_key_with_a_quota_stops_at_it_and_a_stopped_key_is_unknown(
    gateway: RunningGateway, client: httpx.Client
) -> None:
    headers = person(gateway, "quota")
    made = client.post("/api/keys", json={"label": "Small", "quotaCredits": 0}, headers=headers).json()
    assert client.post("/v1/chat/completions", json=CALL, headers=bearer(made["apiKey"])).status_code == 402
    free = client.post("/api/keys", json={}, headers=headers).json()
    assert free["key"]["quotaCredits"] is None
    assert client.post("/v1/chat/completions", json=CALL, headers=bearer(free["apiKey"])).status_code == 200

    def used() -> bool:
        rows = client.get("/api/keys", headers=headers).json()["keys"]
        return any(row["usedCredits"] > 0 for row in rows if row["id"] == free["key"]["id"])

    wait_until(used, "used credits of the key")
    path = f"/api/keys/{free['key']['id']}/deactivate"
    assert client.post(path, headers=headers).json()["key"]["active"] is False
    assert client.post(path, headers=headers).status_code == 200
    assert client.post("/v1/chat/completions", json=CALL, headers=bearer(free["apiKey"])).status_code == 401


def test_somebody_else_s_key_is_not_found(gateway: RunningGateway, client: httpx.Client) -> None:
    mine, other = person(gateway, "mine"), person(gateway, "other")
    made = client.post("/api/keys", json={}, headers=mine).json()["key"]["id"]
    assert client.post(f"/api/keys/{made}/deactivate", headers=other).status_code == 404
    assert client.get("/api/keys", headers=other).json()["keys"] == []
    assert client.get("/api/me", headers=other).json()["account"]["keys"] == 0


def test_a_second_bootstrap_makes_nothing_and_tells_no_secret(gateway: RunningGateway, client: httpx.Client) -> None:
    headers = person(gateway, "twice")
    assert client.get("/api/me", headers=headers).json()["bootstrapped"] is False
    first = client.post("/api/bootstrap-account", headers=headers).json()
    second = client.post("/api/bootstrap-account", headers=headers).json()
    assert first["apiKey"].startswith("cc_live_")
    assert second["apiKey"] is None
    assert len(client.get("/api/keys", headers=headers).json()["keys"]) == 1


def test_bootstraps_at_the_same_time_make_one_key(gateway: RunningGateway, client: httpx.Client) -> None:
    headers = person(gateway, "atonce")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: client.post("/api/bootstrap-account", headers=headers), range(4)))
    assert [one.status_code for one in found] == [200] * 4
    assert len([one for one in found if one.json()["apiKey"] is not None]) == 1
    assert client.get("/api/keys", headers=headers).json()["total"] == 1


def test_an_account_has_so_many_keys_and_no_more(
    gateway: RunningGateway, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["pointsman.api.crosscompute.keys"], "MAX_KEYS", 2)
    headers = person(gateway, "many")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: client.post("/api/keys", json={"quotaCredits": 1}, headers=headers), range(5)))
    assert sorted(one.status_code for one in found) == [200, 200, 400, 400, 400]
    assert client.get("/api/keys", headers=headers).json()["total"] == 2


def test_a_key_of_another_kind_is_answered_401_and_never_403(client: httpx.Client) -> None:
    for path in ("/api/agents/me", "/api/agents/usage"):
        answer = client.get(path, headers=bearer(KEY))
        assert (answer.status_code, answer.json()["ok"]) == (401, False)


def test_a_key_s_id_is_a_uuid_and_back() -> None:
    key_id = "key_0123456789abcdef0123456789ab"
    assert uuid_of(key_id) == "01234567-89ab-8cde-8f01-23456789ab00"
    assert key_id_of(uuid_of(key_id)) == key_id
    assert key_id_of("nobody") == "nobody"


def test_a_person_s_token_manages_nothing_where_the_mount_says_another_contract(
    gateway: RunningGateway, client: httpx.Client
) -> None:
    headers = person(gateway, "strayed")
    assert client.get("/omniroute/api/keys", headers=headers).status_code == 403
    assert client.post("/omniroute/api/keys", json={"label": "a"}, headers=headers).status_code == 403
    assert client.get("/crosscompute/api/keys", headers=headers).status_code == 200


def test_an_agent_calls_nothing_whose_price_nobody_knows(gateway: RunningGateway, client: httpx.Client) -> None:
    made = register(client, "unpriced-1")
    agent = bearer(made["apiKey"])
    movement = Movement(account_id=made["account"]["id"], nano_usd=5_000_000_000, key="paid-unpriced", source="test")
    gateway.call(gateway.installation.ledger.top_up(movement))
    for stream in (False, True):
        refused = client.post(
            "/v1/chat/completions", json={**CALL, "model": "open/unheard-of", "stream": stream}, headers=agent
        )
        assert refused.status_code == 402, refused.text
        assert refused.json()["error"]["type"] == "insufficient_quota"
        assert "what was paid in" in refused.json()["error"]["message"]
    assert client.post("/v1/chat/completions", json=CALL, headers=agent).status_code == 200
    rest = client.post("/v1/chat/completions", json={**CALL, "model": "open/unheard-of"}, headers=bearer(KEY))
    assert rest.status_code == 200, rest.text  # for others it is allowed, and counted as unpriced


@pytest.mark.parametrize("mount", ["", "/crosscompute"])
def test_the_files_that_crawlers_look_for_are_there_for_everybody(
    gateway: RunningGateway, client: httpx.Client, mount: str
) -> None:
    texts = {path: client.get(mount + path) for path in FILES}
    assert {path: answer.status_code for path, answer in texts.items()} == dict.fromkeys(FILES, 200)
    assert "Disallow: /" in texts["/robots.txt"].text
    assert texts["/llms.txt"].text.startswith("# Pointsman\n\n> ")
    for path in re.findall(r"\]\((/[^)]+)\)", texts["/llms.txt"].text):
        assert client.get(mount + path).status_code == 200, path
    assert texts["/openapi.json"].json()["openapi"].startswith("3.")
    table = texts["/api-parameters.md"].text
    assert "## POST /v1/chat/completions" in table
    assert "| `messages` | body | array | yes |" in table
    skill = client.get("/api/agents/skill-md", headers=bearer(register(client, f"reader-{len(mount)}")["apiKey"]))
    assert skill.content == texts["/agent-skill.md"].content
    policy = texts["/.well-known/agent-trust-policy.json"].json()
    assert [one["path"] for one in policy["payment_points"]] == ["/api/agents/topup"]
    plugin = texts["/.well-known/ai-plugin.json"].json()
    assert plugin["api"]["url"] == f"{gateway.address}/openapi.json"
    assert plugin["contact_email"] == "security@example.org"
    told = dict(line.split(": ", 1) for line in texts["/.well-known/security.txt"].text.splitlines())
    assert told["Contact"] == "mailto:security@example.org"
    ends = datetime.datetime.fromisoformat(told["Expires"])
    assert datetime.timedelta(days=30) < ends - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=365)
    assert client.post(mount + "/llms.txt").status_code in (401, 405)


def test_usage_by_model_and_the_skill_are_served_below_the_mount_too(client: httpx.Client) -> None:
    agent = bearer(register(client, "mounted-1")["apiKey"])
    assert client.get("/crosscompute/api/agents/usage-models", headers=agent).json() == {"ok": True, "items": []}
    assert (
        client.get("/crosscompute/api/agents/skill-md", headers=agent).headers["content-type"].startswith("text/mark")
    )
