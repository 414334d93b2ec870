"""The developer role and cache marks reach hosts that know them, and cost no answer at those that don't."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import FLAVOURS, OpenAIChat, RunningSimulator, running_simulator

FLAVOUR_OF = {
    "azure": "openai",
    "openrouter": "openrouter",
    "groq": "groq",
    "deepseek": "deepseek",
    "openai-compatible": "openai",  # a host that nothing is known of, and that refuses what it doesn't know
}
MARK: Any = {"cache_control": {"type": "ephemeral"}}
TOLD: list[Any] = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hello there"}]
MARKED: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "hello there", **MARK}]}]


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, RunningSimulator]]:
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, flavour=FLAVOURS[flavour])))
            for kind, flavour in FLAVOUR_OF.items()
        }


@pytest.fixture(scope="module")
def gateway(
    upstreams: dict[str, RunningSimulator], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    rows: list[dict[str, Any]] = [
        {
            "id": kind,
            "kind": kind,
            "base_url": simulator.origin if kind == "azure" else simulator.base_url,
            "api_key": UPSTREAM_KEY,
        }
        for kind, simulator in upstreams.items()
    ]
    known = {"id": "proxy", "options": {"cache_marks": "true"}, "base_url": upstreams["openrouter"].base_url}
    rows.append({**rows[-1], **known})
    with running_gateway(tmp_path_factory.mktemp("marks"), {"connections": rows}) as running:
        yield running


@pytest.fixture(scope="module")
def gpt(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def claude(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("kind", FLAVOUR_OF)
@pytest.mark.parametrize("stream", [False, True])
def test_the_developer_role_is_no_reason_to_refuse(
    gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator], kind: str, stream: bool
) -> None:
    raw = gpt.chat.completions.with_raw_response.create(model=f"{kind}/sim-model", messages=TOLD, stream=stream)
    if stream:
        raw.parse().close()
    else:
        assert raw.parse().choices[0].message.content == "echo: hello there"
    role = json.loads(upstreams[kind].requests[-1].body)["messages"][0]["role"]
    assert role == ("developer" if kind == "azure" else "system")
    assert ("x-pointsman-fidelity" in raw.headers) == (kind != "azure")


def test_a_user_who_says_developer_passes_untouched(gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator]) -> None:
    messages: list[Any] = [{"role": "user", "content": 'the word "developer", and "cache_control"'}]
    raw = gpt.chat.completions.with_raw_response.create(model="groq/sim-model", messages=messages, temperature=1)
    assert "x-pointsman-fidelity" not in raw.headers


def test_marks_go_to_hosts_that_read_them_and_are_named_elsewhere(
    gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator]
) -> None:
    for kind in ("azure", "groq"):
        raw = gpt.chat.completions.with_raw_response.create(model=f"{kind}/sim-model", messages=MARKED)
        assert raw.status_code == 200
        assert "messages[0].content[0].cache_control" in raw.headers["x-pointsman-fidelity"]
    raw = gpt.chat.completions.with_raw_response.create(model="openrouter/sim-model", messages=MARKED)
    assert "x-pointsman-fidelity" not in raw.headers
    assert b'"cache_control"' in upstreams["openrouter"].requests[-1].body


def test_an_unknown_host_gets_marks_from_clients_of_its_own_api_alone(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, upstreams: dict[str, RunningSimulator]
) -> None:
    with pytest.raises(openai.BadRequestError, match="cache_control"):  # who writes it here means this very host
        gpt.chat.completions.create(model="openai-compatible/sim-model", messages=MARKED)
    raw = claude.messages.with_raw_response.create(
        model="openai-compatible/sim-model",
        messages=MARKED,
        max_tokens=50,
        system=[{"type": "text", "text": "x", **MARK}],
    )
    assert raw.parse().stop_reason == "end_turn"
    assert "cache_control" in raw.headers["x-pointsman-fidelity"]


def test_an_operator_may_know_better(claude: anthropic.Anthropic, upstreams: dict[str, RunningSimulator]) -> None:
    claude.messages.create(model="proxy/sim-model", messages=MARKED, max_tokens=50)
    assert b'"cache_control"' in upstreams["openrouter"].requests[-1].body
