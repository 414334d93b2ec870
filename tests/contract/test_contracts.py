"""Every served operation answers as its contract's document says, refusals too; below its mount and without it."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
from contract_client import ContractClient, events
from contract_site import CHAT, MESSAGES, Site, running_site

from gateway import KEY, UPSTREAM_KEY, wait_until
from pointsman.contracts.documents import served_document
from pointsman.contracts.operations import Contract, operations_of

CHAT_BODY = {"model": CHAT, "messages": MESSAGES}
# Operations whose success other tests see: they upgrade, take a form, or are about another vendor's program.
ELSEWHERE = {
    ("GET", "/api/v1/ws"),
    ("POST", "/api/v1/credits/coinbase"),
    ("GET", "/api/v1/organization/members"),
    ("POST", "/api/v1/audio/transcriptions"),
    ("POST", "/api/agents/topup"),  # needs a chain: tests/api/test_top_ups.py
    ("POST", "/api/providers/agy-auth/import"),
    ("POST", "/api/providers/agy-auth/zip-extract"),
    ("POST", "/api/providers/agy-auth/apply-local"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("contracts")) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["mounted", "bare"])
def mounted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def client_of(site: Site, contract: Contract, mounted: bool = True, key: str | None = None) -> ContractClient:
    """A client of a contract: of this gateway's key below the mount, elsewhere of one that begins as the contract's."""
    usual = KEY if mounted else site.key_of(contract)
    return ContractClient(site.gateway, contract, key=key or usual, mounted=mounted)


def assert_all_asked(client: ContractClient) -> None:
    """Every operation that the document has gave a success, here or elsewhere."""
    served = {(row.method, row.path) for row in operations_of(client.contract) if row.plane is not None}
    assert served - client.asked - ELSEWHERE == set()


def test_openrouter(site: Site, mounted: bool) -> None:
    client, base = client_of(site, Contract.OPENROUTER, mounted), "/api/v1"
    assert client.ask("POST", f"{base}/chat/completions", CHAT_BODY)["choices"][0]["message"]["content"]
    chunks = events(client.ask("POST", f"{base}/chat/completions", {**CHAT_BODY, "stream": True}))
    assert chunks[0]["object"] == "chat.completion.chunk"
    client.ask("POST", f"{base}/responses", {"model": CHAT, "input": "hello there"})
    client.ask("POST", f"{base}/messages", {**CHAT_BODY, "max_tokens": 100})
    client.ask("POST", f"{base}/embeddings", {"model": "ops/text-embedding-3-small", "input": "x"})
    client.ask("POST", f"{base}/rerank", {"model": "ranks/rerank-v3.5", "query": "x", "documents": ["a", "b"]})
    for path in ("models", "models/count", "models/user", "embeddings/models", "rerank/models", "endpoints/zdr"):
        client.ask("GET", f"{base}/{path}")
    client.ask("GET", f"{base}/models", query={"output_modalities": "all", "sort": "pricing-low-to-high"})
    client.ask("GET", f"{base}/providers")
    client.ask("GET", f"{base}/models/{{author}}/{{slug}}/endpoints", author="openai", slug="gpt-4.1-mini")
    client.ask("GET", f"{base}/models/{{author}}/{{slug}}/endpoints", author="no", slug="one", status=404)
    client.ask("GET", f"{base}/models", query={"sort": "worst"}, status=400)
    for path in ("chat/completions", "responses", "messages", "embeddings", "rerank"):
        client.ask("POST", f"{base}/{path}", {}, status=400)
        client.ask("POST", f"{base}/{path}", content=b"{", status=400)
    manage_router_keys(client)
    manage_guardrails(site, client)
    watch_router(site, client)
    assert_all_asked(client)
    client.close()


def manage_router_keys(client: ContractClient) -> None:
    """Keys of an account, from their making to their end."""
    base = "/api/v1/keys"
    made = client.ask("POST", base, {"name": "laptop", "limit": 5, "limit_reset": "weekly"})
    named = {"hash": made["data"]["hash"]}
    assert named["hash"] in [key["hash"] for key in client.ask("GET", base, query={"include_disabled": "true"})["data"]]
    assert client.ask("GET", f"{base}/{{hash}}", **named)["data"] == made["data"]
    changed = client.ask("PATCH", f"{base}/{{hash}}", {"disabled": True, "limit": None}, **named)["data"]
    assert (changed["disabled"], changed["limit"], changed["limit_reset"]) == (True, None, "weekly")
    client.ask("PATCH", f"{base}/{{hash}}", {"limit": -1}, **named, status=400)
    client.ask("POST", base, {"limit": 5}, status=400)
    client.ask("GET", base, query={"offset": "-1"}, status=400)
    client.ask("GET", base, query={"include_disabled": "perhaps"}, status=400)
    client.ask("DELETE", f"{base}/{{hash}}", **named)
    for method in ("GET", "DELETE"):
        client.ask(method, f"{base}/{{hash}}", **named, status=404)
    client.ask("PATCH", f"{base}/{{hash}}", {}, **named, status=404)


def manage_guardrails(site: Site, client: ContractClient) -> None:
    """Guardrails, and whom they bind."""
    base = "/api/v1/guardrails"
    body = {"name": "usual", "limit_usd": 50, "reset_interval": "monthly", "allowed_providers": ["openai"]}
    made = client.ask("POST", base, body)["data"]
    named = {"id": made["id"]}
    assert made in client.ask("GET", base, query={"limit": 10, "offset": 0})["data"]
    assert client.ask("GET", f"{base}/{{id}}", **named)["data"] == made
    assert client.ask("PATCH", f"{base}/{{id}}", {"enforce_zdr": True}, **named)["data"]["enforce_zdr"] is True
    key = client.ask("POST", "/api/v1/keys", {"name": "bound"})["data"]["hash"]
    for kind, names in (("keys", {"key_hashes": [key]}), ("members", {"member_user_ids": ["usr_nobody"]})):
        path, count = f"{base}/{{id}}/assignments/{kind}", int(kind == "keys")
        assert client.ask("POST", path, names, **named)["assigned_count"] == count
        assert client.ask("GET", path, **named)["total_count"] == count
        assert client.ask("GET", f"{base}/assignments/{kind}")["total_count"] >= count
        assert client.ask("POST", f"{path}/remove", names, **named)["unassigned_count"] == count
        client.ask("POST", path, {}, **named, status=400)
        client.ask("POST", f"{path}/remove", {}, **named, status=400)
        client.ask("GET", path, id=str(uuid4()), status=404)
    client.ask("POST", base, {"name": ""}, status=400)
    client.ask("PATCH", f"{base}/{{id}}", {"limit_usd": -1}, **named, status=400)
    client.ask("DELETE", f"{base}/{{id}}", **named)
    client.ask("GET", f"{base}/{{id}}", **named, status=404)


def watch_router(site: Site, client: ContractClient) -> None:
    """What a key is told of itself, of its account, and of its requests."""
    base, work = "/api/v1", site.gateway.installation
    client.ask("GET", f"{base}/key")
    client.ask("GET", f"{base}/credits")
    verifier = "v" * 43
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    wish = {"callback_url": "https://app.example/back", "code_challenge": challenge, "code_challenge_method": "S256"}
    code = client.ask("POST", f"{base}/auth/keys/code", wish)["data"]["id"]
    client.ask("POST", f"{base}/auth/keys/code", {"callback_url": "ftp://x"}, status=400)
    client.ask("POST", f"{base}/auth/keys", {}, status=400)
    exchange = {"code": code, "code_verifier": verifier, "code_challenge_method": "S256"}
    assert client.ask("POST", f"{base}/auth/keys", exchange)["key"].startswith("sk-or-v1-")
    client.ask("POST", f"{base}/auth/keys", exchange, status=403)
    client.ask("POST", f"{base}/credits/coinbase", {}, status=410)
    client.ask("GET", f"{base}/organization/members", status=404)
    client.ask("GET", f"{base}/organization/members", query={"limit": 101}, status=400)
    client.ask("GET", f"{base}/activity")
    client.ask("GET", f"{base}/activity", query={"date": "someday"}, status=400)
    answered = client.ask("POST", f"{base}/chat/completions", CHAT_BODY)["id"]
    wait_until(lambda: site.gateway.call(work.requests.find(answered.removeprefix("gen-"))), "record")
    assert client.ask("GET", f"{base}/generation", query={"id": answered})["data"]["id"] == answered
    client.ask("GET", f"{base}/generation", query={"id": "gen-nothing"}, status=404)


def test_hardcarrx(site: Site, mounted: bool) -> None:
    client = client_of(site, Contract.HARDCARRX, mounted)
    body = {"provider": "sim", "model": "sim-model", "messages": MESSAGES}
    answer = client.ask("POST", "/v1/chat/completions", body)
    assert answer["provider"] == "OpenAI"
    headers = {"authorization": f"Bearer {KEY if mounted else site.key_of(Contract.HARDCARRX)}"}
    path = f"{'/hardcarrx' if mounted else ''}/v1/chat/completions"
    told = httpx.post(site.gateway.address + path, json=body, headers=headers, timeout=10).headers["x-hardcarrx"]
    assert told == "route=openai:sim-model; cache=skipped; mem=skipped"
    assert events(client.ask("POST", "/v1/chat/completions", {**body, "stream": True}))[-1]["choices"] is not None
    own = {**body, "provider_key": UPSTREAM_KEY}
    assert client.ask("POST", "/v1/chat/completions", own)["choices"]
    for wrong in ({"provider": "nobody"}, {"temperature": 2.01}, {"max_tokens": 0}, {"messages": []},
                  {"messages": [{"role": "developer", "content": "x"}]}, {"provider_key": "sk-x"}):  # fmt: skip
        client.ask("POST", "/v1/chat/completions", {**body, **wrong}, status=400)
    client.ask("GET", "/v1/models")
    assert client.ask("GET", "/v1/request-logs", query={"limit": 3, "offset": 1})["limit"] == 3
    client.ask("GET", "/v1/request-logs", query={"limit": 101}, status=400)
    assert_all_asked(client)
    client.close()


def test_crosscompute(site: Site, mounted: bool) -> None:
    client = client_of(site, Contract.CROSSCOMPUTE, mounted)
    client.ask("GET", "/health")
    assert client.ask("POST", "/v1/chat/completions", CHAT_BODY)["object"] == "chat.completion"
    listed = client.ask("GET", "/v1/models")["data"]
    assert CHAT in [row["id"] for row in listed]
    client.ask("GET", "/v1/models/{model_id}", model_id=CHAT)
    client.ask("GET", "/v1/models/{model_id}", model_id="no/such", status=404)
    client.ask("POST", "/v1/chat/completions", {}, status=400)
    own_keys(client, {"authorization": f"Bearer {site.token()}"})
    be_an_agent(client, f"agent-{mounted}")
    assert_all_asked(client)
    client.close()


def own_keys(client: ContractClient, person: dict[str, str]) -> None:
    """A person's account and keys."""
    client.ask("GET", "/api/config")
    client.ask("POST", "/api/bootstrap-account", headers=person)
    assert client.ask("GET", "/api/me", headers=person)["bootstrapped"]
    made = client.ask("POST", "/api/keys", {"label": "Production", "quotaCredits": 1000}, headers=person)
    assert made["apiKey"].startswith("cc_live_")
    assert made["key"]["remainingCredits"] == 1000
    client.ask("POST", "/api/keys", {"quotaCredits": -1}, headers=person, status=400)
    stopped = client.ask("POST", "/api/keys/{id}/deactivate", headers=person, id=made["key"]["id"])["key"]
    assert stopped in client.ask("GET", "/api/keys", headers=person)["keys"]
    client.ask("POST", "/api/keys/{id}/deactivate", headers=person, id="nobody", status=404)


def be_an_agent(client: ContractClient, name: str) -> None:
    """An agent, from its registration to a payment that is not taken."""
    words = {"agentId": name, "name": "Ops", "skillMdUrl": "https://example.com/skill.md"}
    made = client.ask("POST", "/api/agents/register", words)
    agent = {"authorization": f"Bearer {made['apiKey']}"}
    client.ask("POST", "/api/agents/register", {"agentId": "a b"}, status=400)
    assert client.ask("GET", "/api/agents/me", headers=agent)["account"] == made["account"]
    assert client.ask("GET", "/api/agents/usage", headers=agent)["usage"]["remainingCredits"] == 0
    client.ask("POST", "/api/agents/topup", headers=agent, status=402)
    client.ask("GET", "/api/agents/me", status=401)


def test_hybrid_thinking(site: Site) -> None:
    client = client_of(site, Contract.HYBRID)
    assert CHAT in [row["id"] for row in client.ask("GET", "/v1/models")]
    assert client.ask("GET", "/v1/models/{modelId}/health", modelId=CHAT) == {"ready": True}
    client.ask("GET", "/v1/models/{modelId}/health", modelId="nobody", status=404)
    assert_all_asked(client)
    client.close()


def test_omniroute(site: Site, mounted: bool) -> None:
    client = client_of(site, Contract.OMNIROUTE, mounted)
    call_models(client)
    manage_connections(client, site.chat.base_url)
    manage_nodes(client, site.chat.base_url)
    manage_combos(client)
    watch_health(client)
    translate(client)
    listed = client.ask("GET", "/api/openapi/spec")["endpoints"]
    assert {"GET /api/openapi/spec"} <= {f"{one['method']} {one['path']}" for one in listed}
    manage_keys(client)
    client.ask("PUT", "/api/settings/ip-filter", {"addBlacklist": "192.0.2.1", "tempBan": {"ip": "192.0.2.2"}})
    assert client.ask("GET", "/api/settings/ip-filter")["tempBans"][0]["ip"] == "192.0.2.2"
    client.ask("PUT", "/api/settings/ip-filter", {"addBlacklist": "nowhere"}, status=400)
    sign_in(client)
    rows = client.ask("GET", "/api/compliance/audit-log")
    assert {"auth.login.success", "auth.login.failed", "ipfilter.updated"} <= {row["action"] for row in rows}
    assert_all_asked(client)
    client.close()


def call_models(client: ContractClient) -> None:
    """Inference, at OmniRoute's paths."""
    base = "/api/v1"
    for path in ("chat/completions", "responses", "messages", "api/chat"):
        asked = {**CHAT_BODY, "max_tokens": 50} if path != "responses" else {"model": CHAT, "input": "hello"}
        client.ask("POST", f"{base}/{path}", asked)
        client.ask("POST", f"{base}/{path}", {}, status=400)
    client.ask("POST", f"{base}/messages/count_tokens", CHAT_BODY)
    client.ask("POST", f"{base}/providers/{{provider}}/chat/completions", {**CHAT_BODY, "model": "x"}, provider="sim",
               status=404)  # fmt: skip
    client.ask("POST", f"{base}/providers/{{provider}}/chat/completions", {**CHAT_BODY, "model": "sim-model"},
               provider="sim")  # fmt: skip
    embed = {"model": "text-embedding-3-small", "input": ["x"]}
    client.ask("POST", f"{base}/embeddings", {**embed, "model": "ops/text-embedding-3-small"})
    client.ask("POST", f"{base}/providers/{{provider}}/embeddings", embed, provider="ops")
    picture = {"model": "gpt-image-1", "prompt": "a cat"}
    client.ask("POST", f"{base}/images/generations", {**picture, "model": "ops/gpt-image-1"})
    client.ask("POST", f"{base}/providers/{{provider}}/images/generations", picture, provider="ops")
    client.ask("POST", f"{base}/audio/speech", {"model": "ops/tts-1", "input": "hello", "voice": "alloy"})
    client.ask("POST", f"{base}/moderations", {"model": "ops/omni-moderation-latest", "input": "hello"})
    client.ask("POST", f"{base}/rerank", {"model": "ranks/rerank-v3.5", "query": "x", "documents": ["a"]})
    client.ask("GET", f"{base}/models", headers={"x-omniroute-no-cache": "1"})
    client.ask("GET", f"{base}/providers/{{provider}}/models", provider="sim")
    client.ask("GET", f"{base}/providers/{{provider}}/models", provider="nobody", status=400)
    client.ask("GET", "/api/v1beta/models")
    asked = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    client.ask("POST", "/api/v1beta/models/{path}", asked, path=f"{CHAT}:generateContent")
    client.ask("GET", "/api/tags")


def manage_connections(client: ContractClient, address: str) -> None:
    """Connections, from their making to their end."""
    new = {"provider": "openai", "name": "Work", "url": address, "apiKey": UPSTREAM_KEY, "allowPrivate": True}
    made = client.ask("POST", "/api/providers", new)["connection"]["id"]
    client.ask("GET", "/api/providers")
    client.ask("GET", "/api/providers/client")
    client.ask("GET", "/api/providers/{id}", id=made)
    client.ask("PATCH", "/api/providers/{id}", {"maxConcurrent": 3}, id=made)
    client.ask("POST", "/api/providers/{id}/test", id=made)
    client.ask("GET", "/api/providers/{id}/models", id=made)
    client.ask("POST", "/api/providers/test-batch", {"mode": "all"})
    client.ask("POST", "/api/providers/validate", {**new, "baseUrl": address})
    client.ask("GET", "/api/provider-models", query={"provider": "openai"})
    client.ask("POST", "/api/providers/agy-auth/import-bulk", {"entries": [{"json": {"access_token": "a"}}]})
    client.ask("POST", "/api/providers/agy-auth/apply-local", {}, status=404)
    client.ask("POST", "/api/providers", {"provider": 5}, status=400)
    client.ask("DELETE", "/api/providers/{id}", id=made)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/models")):
        client.ask(method, f"/api/providers/{{id}}{path}", id=made, status=404)


def manage_nodes(client: ContractClient, address: str) -> None:
    """Provider nodes, from their making to their end."""
    new = {"name": "Lab", "prefix": "lab", "apiType": "chat", "baseUrl": address, "type": "openai-compatible"}
    asked = {**new, "allowPrivate": True}
    made = client.ask("POST", "/api/provider-nodes", asked)["node"]["id"]
    client.ask("POST", "/api/provider-nodes", asked, status=409)
    client.ask("GET", "/api/provider-nodes")
    client.ask("PATCH", "/api/provider-nodes/{id}", {"name": "Den"}, id=made)
    client.ask("POST", "/api/provider-nodes/validate", {**asked, "apiKey": UPSTREAM_KEY})
    client.ask("DELETE", "/api/provider-nodes/{id}", id=made)
    client.ask("DELETE", "/api/provider-nodes/{id}", id=made, status=404)


def manage_combos(client: ContractClient) -> None:
    """Combos, what holds for all of them, and fallback chains."""
    made = client.ask("POST", "/api/combos", {"name": "mine", "models": [CHAT]})["id"]
    client.ask("POST", "/api/combos", {"name": "mine", "models": [CHAT]}, status=400)
    client.ask("POST", "/api/combos", {"name": "bad!", "models": [7]}, status=400)
    client.ask("GET", "/api/combos")
    client.ask("PATCH", "/api/combos/{id}", {"strategy": "random"}, id=made)
    client.ask("POST", "/api/combos/test", {"comboName": "mine"})
    client.ask("GET", "/api/combos/metrics")
    client.ask("GET", "/api/settings/combo-defaults")
    client.ask("POST", "/api/models/alias", {"alias": "other", "model": CHAT})
    client.ask("POST", "/api/models/alias", {"alias": 5}, status=400)
    chain = {"model": "sim-model", "chain": [{"provider": "sim", "priority": 1, "enabled": True}]}
    client.ask("POST", "/api/fallback/chains", chain)
    client.ask("GET", "/api/fallback/chains")
    client.ask("DELETE", "/api/fallback/chains", {"model": "sim-model"})
    client.ask("DELETE", "/api/fallback/chains", {}, status=400)
    client.ask("DELETE", "/api/combos/{id}", id=made)
    client.ask("PATCH", "/api/combos/{id}", {"strategy": "random"}, id=made, status=404)


def manage_keys(client: ContractClient) -> None:
    """API keys, from their making to their end."""
    made = client.ask("POST", "/api/keys", {"label": "Laptop"})
    assert made["id"] in [row["id"] for row in client.ask("GET", "/api/keys")["keys"]]
    client.ask("POST", "/api/keys", {}, status=400)
    client.ask("GET", "/api/keys/{id}", id=made["id"])
    assert client.ask("PATCH", "/api/keys/{id}", {"isActive": False}, id=made["id"])["isActive"] is False
    client.ask("PATCH", "/api/keys/{id}", {"isActive": 5}, id=made["id"], status=400)
    client.ask("DELETE", "/api/keys/{id}", id=made["id"])
    for method in ("GET", "DELETE"):
        client.ask(method, "/api/keys/{id}", id=made["id"], status=404)


def watch_health(client: ContractClient) -> None:
    """Resilience, monitoring, the cache, rate limits and sessions."""
    client.ask("GET", "/api/resilience")
    client.ask("PATCH", "/api/resilience", {"waitForCooldown": {"enabled": True}})
    client.ask("PATCH", "/api/resilience", {"nothing": 1}, status=400)
    client.ask("POST", "/api/resilience/reset")
    client.ask("GET", "/api/monitoring/health")
    for path in ("/api/cache", "/api/cache/stats"):
        client.ask("GET", path)
        client.ask("DELETE", path)
    for path in ("/api/rate-limits", "/api/rate-limit", "/api/sessions"):
        client.ask("GET", path)
        client.ask("GET", path, query={"limit": "none"}, status=400)
    client.ask("POST", "/api/rate-limit", {"connectionId": "sim", "enabled": True})
    client.ask("POST", "/api/rate-limit", {"connectionId": "nobody"}, status=400)


def translate(client: ContractClient) -> None:
    """The translator's operations."""
    client.ask("POST", "/api/translator/detect", {"body": CHAT_BODY})
    asked: dict[str, Any] = {"sourceFormat": "openai", "targetFormat": "claude", "body": CHAT_BODY}
    client.ask("POST", "/api/translator/translate", asked)
    client.ask("POST", "/api/translator/send", {"provider": "sim", "body": CHAT_BODY})
    client.ask("GET", "/api/translator/history")
    client.ask("POST", "/api/translator/detect", {}, status=400)


def sign_in(client: ContractClient) -> None:
    """The dashboard's sign-in."""
    client.ask("GET", "/api/init")
    client.ask("POST", "/api/settings/require-login", {"requireLogin": True, "password": "four words are enough"})
    client.ask("POST", "/api/auth/login", {"password": "four words are enough"})
    client.ask("POST", "/api/auth/login", {"password": ""}, status=400)
    client.ask("POST", "/api/auth/login", {"password": "wrong"}, status=401)
    token = client.ask("POST", "/api/cli/connect", {"password": "four words are enough", "scope": "write"})["token"]
    client.ask("POST", "/api/cli/connect", {"password": "wrong"}, status=401)
    client.ask("POST", "/api/cli/connect", {"password": 5}, status=400)
    written = {"authorization": f"Bearer {token}"}
    assert client.ask("GET", "/api/cli/whoami", headers=written)["scope"] == "write"
    client.ask("GET", "/api/cli/tokens", headers=written, status=403)
    made = client.ask("POST", "/api/cli/tokens", {"name": "Laptop", "expiresInDays": 1})
    client.ask("POST", "/api/cli/tokens", {}, status=400)
    assert made["id"] in [row["id"] for row in client.ask("GET", "/api/cli/tokens")["tokens"]]
    client.ask("DELETE", "/api/cli/tokens/{id}", id=made["id"])
    client.ask("DELETE", "/api/cli/tokens/{id}", id=made["id"], status=404)
    client.ask("POST", "/api/auth/logout")


@pytest.mark.parametrize("contract", Contract)
def test_who_shows_a_wrong_key_is_refused_in_the_contract_s_words(site: Site, contract: Contract) -> None:
    client = client_of(site, contract, key="sk-pm-" + "w" * 40)
    for row in operations_of(contract):
        if row.plane is not None and row.credentials and row.path != "/api/v1/ws":
            names = {"path": "x:generateContent"}
            parameters = {name: names.get(name, "x") for name in client.parameters(row.path)}
            body = None if row.method == "GET" else {}
            client.ask(row.method, row.path, body, status=401, **parameters)
    client.close()


@pytest.mark.parametrize("contract", Contract)
def test_the_document_of_a_contract_is_to_be_had(site: Site, contract: Contract) -> None:
    answer = httpx.get(f"{site.gateway.address}/openapi/{contract}.json", timeout=10)
    assert answer.json() == served_document(contract)
    assert httpx.get(f"{site.gateway.address}/openapi/other.json", timeout=10).status_code == 404
