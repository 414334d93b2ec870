"""Two tenants with every kind of credential, and the first one's objects: for tests of who reaches what."""

from typing import Any, Final

import httpx

from gateway import RunningGateway, wait_until
from pointsman.identity.keys import NewKey
from pointsman.identity.users import NewUser
from pointsman.storage.accounts import AccountRow, WorkspaceRow

CHAT: Final[dict[str, Any]] = {"model": "sim/m", "messages": [{"role": "user", "content": "hello"}]}
# What a credential may have: its kind, its role and its scopes. Sessions and tokens are a person's.
KINDS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "openrouter": {"kind": "openrouter"},
    "openrouter_management": {"kind": "openrouter", "role": "management"},
    "hardcarrx": {"kind": "hardcarrx"},
    "crosscompute": {"kind": "crosscompute"},
    "omniroute": {"kind": "omniroute", "scopes": ("manage",)},
    "omniroute_cli": {"kind": "omniroute_cli", "role": "management", "scopes": ("admin",)},
}
PEOPLE: Final = ("session", "jwt")
CREDENTIALS: Final = (*KINDS, *PEOPLE, "crosscompute_agent")
NOTE: Final = ("owned-note.txt", b"a note of the first tenant", "text/plain")


class Tenant:
    """One account, one person and one agent, which have nothing in common with others; a client per credential."""

    def __init__(self, gateway: RunningGateway, name: str) -> None:
        self.name = name
        self.gateway = gateway
        self.account = f"acc_{name}"
        self.clients: dict[str, httpx.Client] = {}
        self.objects: dict[str, str] = {}  # ids of what it made, by what it is
        headers = gateway.call(self._make_keys()) | gateway.call(self._make_person())
        registered = httpx.post(f"{gateway.address}/api/agents/register", json={"agentId": f"agent-{name}"}, timeout=20)
        assert registered.status_code == 200, registered.text
        headers["crosscompute_agent"] = bearer(registered.json()["apiKey"])
        for kind, shown in headers.items():
            self.clients[kind] = httpx.Client(base_url=gateway.address, headers=shown, timeout=20)

    async def _make_keys(self) -> dict[str, dict[str, str]]:
        work, account = self.gateway.installation, self.account
        row = AccountRow(id=account, kind="organization", name=account, created_at=1, updated_at=1)
        place = WorkspaceRow(id=account, account_id=account, slug="default", name="D", created_at=1, updated_at=1)
        await work.accounts.add(row, place)
        found = {}
        for kind, fields in KINDS.items():
            new = NewKey(name=f"{kind} of {self.name}", account_id=account, workspace_id=account, **fields)
            _, secret = await work.keys.issue(new)
            found[kind] = bearer(secret.reveal())
        return found

    async def _make_person(self) -> dict[str, dict[str, str]]:
        work = self.gateway.installation
        person = await work.users.create(NewUser(email=f"{self.name}@example.org"))
        _, session = await work.users.open_session(person, 1)
        token, _ = work.tokens.issue(person, work.clock.now_us())
        assert await work.await_revision(await work.configuration.revision())
        return {"session": {"cookie": f"auth_token={session.reveal()}"}, "jwt": bearer(token.reveal())}

    def furnish(self) -> None:
        """Make one of everything, with the credential that makes it."""
        made, plain = self.objects, self.clients["plain"]
        made["response"] = _of(plain.post("/v1/responses", json={"model": "sim/m", "input": "hi", "store": True}))["id"]
        files = {"file": NOTE, "purpose": (None, "user_data")}
        made["file"] = _of(plain.post("/v1/files", files=files, params={"provider": "shelf"}))["id"]
        made["gemini file"] = _of(
            plain.post("/upload/v1beta/files", content=NOTE[1], headers={"x-goog-upload-protocol": "raw"})
        )["file"]["name"].removeprefix("files/")
        manager = self.clients["openrouter_management"]
        made["router key"] = _of(manager.post("/api/v1/keys", json={"name": f"owned by {self.name}"}))["data"]["hash"]
        rules = {"name": f"owned by {self.name}", "limit_usd": 5, "reset_interval": "daily"}
        made["guardrail"] = _of(manager.post("/api/v1/guardrails", json=rules))["data"]["id"]
        bound = {"key_hashes": [made["router key"]]}
        _of(manager.post(f"/api/v1/guardrails/{made['guardrail']}/assignments/keys", json=bound))
        own = self.clients["jwt"].post("/api/keys", json={"label": f"owned by {self.name}"})
        made["person's key"] = _of(own)["key"]["id"]
        made["generation"] = _of(self.clients["openrouter"].post("/api/v1/chat/completions", json=CHAT))["id"]
        made["request"] = plain.post("/v1/chat/completions", json=CHAT).headers["x-request-id"]
        for kind in PEOPLE:
            self.clients[kind].post("/v1/chat/completions", json=CHAT, headers={"sec-fetch-site": "same-origin"})
        wait_until(lambda: made["request"] in plain.get("/v1/request-logs").text, "the request in its owner's list")

    def close(self) -> None:
        """Close the clients."""
        for client in self.clients.values():
            client.close()


def bearer(secret: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {secret}"}


def _of(answer: httpx.Response) -> Any:
    assert answer.status_code in (200, 201), answer.text
    return answer.json()
