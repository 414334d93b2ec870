"""A gateway with two organizations behind OpenRouter's API, and clients of it: for tests of its management."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openrouter

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.identity.keys import NewKey
from pointsman.identity.users import NewUser
from pointsman.storage.accounts import AccountRow, MemberRole, WorkspaceRow
from pointsman.testing import OpenAIChat, running_simulator

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
ACCOUNTS = ("acc_one", "acc_two")
CALL_USD = 0.01
MODEL = "sim-model"


@contextmanager
def router_gateway(data_dir: Path, **more: Any) -> Iterator[RunningGateway]:
    """A gateway whose calls cost a cent, and two organizations; ``mine`` is the caller's own provider account."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY, "models": [MODEL]}
        rows = [{**row, "id": "sim"}, {**row, "id": "quiet"}, {**row, "id": "mine", "options": {"byok": "true"}}]
        price = {"prompt": 0, "completion": 0, "request": CALL_USD}
        facts = [
            {"model": f"sim/{MODEL}", **price},
            {"model": f"mine/{MODEL}", **price},
            {"model": f"quiet/{MODEL}", **price, "zdr": True, "trains": False},
        ]
        with running_gateway(data_dir, {"connections": rows, "facts": facts, **more}) as running:
            for name in ACCOUNTS:
                account = AccountRow(id=name, kind="organization", name=name, created_at=1, updated_at=1)
                place = WorkspaceRow(id=name, account_id=name, slug="default", name="D", created_at=1, updated_at=1)
                running.call(running.installation.accounts.add(account, place))
            yield running


def secret_of(gateway: RunningGateway, account: str, **more: Any) -> str:
    """A new key of an account."""

    async def make() -> str:
        work = gateway.installation
        new = NewKey(name="made", kind="openrouter", account_id=account, **{"workspace_id": account, **more})
        row, secret = await work.keys.issue(new)
        assert await work.await_revision(row.revision)
        return secret.reveal()

    return gateway.call(make())


def member_of(
    gateway: RunningGateway, account: str = ACCOUNTS[0], role: MemberRole = "org:member", email: str | None = None
) -> str:
    """The id of a new person who belongs to an organization."""

    async def make() -> str:
        work = gateway.installation
        user = await work.users.create(NewUser(email=email or f"{uuid.uuid4()}@example.org"))
        await work.accounts.put_member(account, user.id, role, work.clock.now_us())
        return user.id

    return gateway.call(make())


def client_of(gateway: RunningGateway, secret: str) -> openrouter.OpenRouter:
    """The SDK, that tries nothing twice."""
    return openrouter.OpenRouter(
        api_key=secret, server_url=f"{gateway.address}/api/v1", retry_config=None, timeout_ms=20_000
    )


def chat(gateway: RunningGateway, secret: str, model: str = f"sim/{MODEL}", **more: Any) -> Any:
    """A call."""
    with client_of(gateway, secret) as client:
        return client.chat.send(model=model, messages=HELLO, **more)


def raw(gateway: RunningGateway, secret: str, method: str, path: str, body: Any = None) -> httpx.Response:
    """A request without the SDK."""
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.request(method, f"{gateway.address}/api/v1{path}", json=body, headers=headers, timeout=10)
