"""A gateway before simulated upstreams of several APIs, for tests of whole contracts."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.contracts.operations import Contract
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret
from pointsman.testing import CohereRetrieval, OpenAIChat, OpenAIOperations, RunningSimulator, running_simulator

# How keys of each contract begin; where that says nothing, a key of this gateway.
BEGINNINGS = {
    Contract.OPENROUTER: "sk-or-v1-",
    Contract.HARDCARRX: "hmpk_",
    Contract.CROSSCOMPUTE: "cc_live_",
    Contract.OMNIROUTE: "oma_",
}
CHAT = "sim/sim-model"
MESSAGES: Any = [{"role": "user", "content": "hello there"}]


class Site:
    """The gateway and its chat upstream."""

    def __init__(self, gateway: RunningGateway, chat: RunningSimulator) -> None:
        self.gateway = gateway
        self.chat = chat
        self.http = httpx.Client(base_url=gateway.address, timeout=20)
        self._keys: dict[Contract, str] = {}
        self._token = ""
        self.ids: dict[str, str] = {}  # of things that were made, by the path that they are below

    def furnish(self) -> None:
        """Make a connection, a node and a combo, for requests about them."""
        node = {"name": "Lab", "prefix": "made", "apiType": "chat", "baseUrl": self.chat.base_url,
                "type": "openai-compatible", "allowPrivate": True}  # fmt: skip
        row = {"provider": "openai", "name": "made", "url": self.chat.base_url, "apiKey": UPSTREAM_KEY,
               "allowPrivate": True}  # fmt: skip
        combo = {"name": "made", "models": [CHAT]}
        wanted = (("providers", row, "connection"), ("provider-nodes", node, "node"), ("combos", combo, ""))
        for name, body, member in wanted:
            headers = {"authorization": f"Bearer {KEY}"}
            answer = self.http.post(f"/api/{name}", json=body, headers=headers)
            made = answer.json()
            self.ids[f"/api/{name}/"] = (made[member] if member else made)["id"]
        made = self.http.post("/api/v1/keys", json={"name": "made"}, headers={"authorization": f"Bearer {KEY}"})
        self.ids["/api/v1/keys/"] = made.json()["data"]["hash"]
        made = self.http.post("/api/v1/guardrails", json={"name": "made"}, headers={"authorization": f"Bearer {KEY}"})
        self.ids["/api/v1/guardrails/"] = made.json()["data"]["id"]

    def token(self) -> str:
        """A person's token, as CrossCompute's clients present it."""
        if not self._token:
            work = self.gateway.installation

            async def make() -> str:
                user = await work.users.create(NewUser(email="ada@example.org"), Secret("four words are enough"))
                token, _ = work.tokens.issue(user, work.clock.now_us())
                assert await work.await_revision(await work.configuration.revision())
                return token.reveal()

            self._token = self.gateway.call(make())
        return self._token

    def key_of(self, contract: Contract) -> str:
        """An administrator's key that begins as the contract's keys do."""
        if contract not in BEGINNINGS:
            return KEY
        if contract not in self._keys:
            secret = Secret(BEGINNINGS[contract] + "0123456789abcdefghijklmnopqrstuvwxyz")
            self.gateway.call(self.gateway.installation.keys.create(str(contract), "admin", secret))
            revision = self.gateway.call(self.gateway.installation.configuration.revision())
            self.gateway.call(self.gateway.installation.await_revision(revision))
            self._keys[contract] = secret.reveal()
        return self._keys[contract]


@contextmanager
def running_site(data_dir: Path, more: dict[str, Any] | None = None) -> Iterator[Site]:
    """A gateway with ``more`` settings; connections: ``sim`` (chat), ``ops`` (OpenAI's other calls), ``ranks``."""
    with ExitStack() as stack:
        chat = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)))
        operations = stack.enter_context(running_simulator(OpenAIOperations(api_key=UPSTREAM_KEY)))
        ranks = stack.enter_context(running_simulator(CohereRetrieval(api_key=UPSTREAM_KEY)))
        models = ["sim-model", "gpt-4.1-mini"]
        settings = {
            "connections": [
                {"id": "sim", "kind": "openai", "base_url": chat.base_url, "api_key": UPSTREAM_KEY, "models": models},
                {"id": "ops", "kind": "openai-compatible", "base_url": operations.base_url, "api_key": UPSTREAM_KEY,
                 "models": ["text-embedding-3-small", "gpt-image-1", "tts-1", "omni-moderation-latest"]},
                {"id": "ranks", "kind": "cohere", "base_url": ranks.origin, "api_key": UPSTREAM_KEY},
            ],
            "models": [{"name": "usual", "target": CHAT}],
            **(more or {}),
        }  # fmt: skip
        gateway = stack.enter_context(running_gateway(data_dir, settings))
        site = Site(gateway, chat)
        with site.http:
            yield site


@contextmanager
def offline(gateway: RunningGateway) -> Iterator[None]:
    """The gateway finds no host but this one: made-up addresses are not looked for in the world."""
    loop: Any = gateway._loop
    usual = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **more: Any) -> Any:
        if host in ("127.0.0.1", "localhost", "::1"):
            return await usual(host, port, **more)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    gateway.read(lambda: setattr(loop, "getaddrinfo", getaddrinfo))
    try:
        yield
    finally:
        gateway.read(lambda: setattr(loop, "getaddrinfo", usual))
