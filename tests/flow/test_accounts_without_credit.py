"""Accounts without credit, as each vendor says it: the next target answers, and the account is set aside."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import AnthropicMessages, Api, Bedrock, Cohere, Gemini, Ollama, OpenAIChat, running_simulator
from raw_client import ask, chat

VENDORS: dict[str, Api] = {
    "openai": OpenAIChat(api_key=UPSTREAM_KEY),
    "anthropic": AnthropicMessages(api_key=UPSTREAM_KEY),
    "gemini": Gemini(api_key=UPSTREAM_KEY),
    "bedrock": Bedrock(api_key=UPSTREAM_KEY),
    "cohere": Cohere(api_key=UPSTREAM_KEY),
    "ollama": Ollama(),
}
SPENT, CEILING = "no_credit", "quota"
SAID = [
    *((vendor, SPENT) for vendor in VENDORS), ("openai", CEILING), ("anthropic", CEILING), ("cohere", CEILING),
    ("ollama", CEILING),
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with ExitStack() as stack:
        rows: list[dict[str, Any]] = []
        for vendor, api in VENDORS.items():
            upstream = stack.enter_context(running_simulator(api))
            url = upstream.base_url if vendor == "openai" else upstream.origin
            for fault in (SPENT, CEILING):
                row = {"id": f"{vendor}-{fault}", "kind": vendor, "base_url": url, "provider": f"{vendor}-{fault}"}
                rows.append(row if vendor == "ollama" else {**row, "api_key": UPSTREAM_KEY})
        sound = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        rows.append({"id": "sound", "kind": "openai", "base_url": sound.base_url, "api_key": UPSTREAM_KEY})
        combos = [
            {"name": f"{vendor} {fault}", "targets": [f"{vendor}-{fault}/sim-model#fault={fault}", "sound/sim-model"]}
            for vendor, fault in SAID
        ]
        folder = tmp_path_factory.mktemp("accounts")
        yield stack.enter_context(running_gateway(folder, {"connections": rows, "combos": combos}))


@pytest.mark.parametrize(("vendor", "fault"), SAID)
def test_the_next_target_answers_and_the_account_is_set_aside(gateway: RunningGateway, vendor: str, fault: str) -> None:
    for tried in (["credits_exhausted"], []):  # the second time it isn't asked
        answer = ask(gateway.port, chat("", model=f"{vendor} {fault}", text="hi", stream=not tried))
        assert (answer.status, answer.text) == (200, "echo: hi")
        attempts = gateway.journal.the(answer.request_id).attempts
        assert [one[1] for one in msgspec.json.decode(attempts or "[]")] == tried
    views = gateway.read(lambda: gateway.server.health.views(0))
    [view] = [one for one in views if one.name == f"{vendor}-{fault}"]
    assert (view.scope, view.state) == ("connection", "credits_exhausted")
