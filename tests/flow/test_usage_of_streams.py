"""A stream's usage is asked for even where the client did not, and then not shown to it."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import FLAVOURS, OpenAIChat, RunningSimulator, running_simulator

FLAVOUR_OF = {
    "openai": "openai",
    "openai-compatible": "think_tags",
    "mistral": "mistral",
    "groq": "groq",
    "deepseek": "deepseek",
    "azure": "openai",
}
SILENT = [kind for kind in FLAVOUR_OF if kind != "azure"]
SAME = [kind for kind in SILENT if kind != "groq"]  # which adds usage to its last event with a choice: it stays
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
# What differs from one answer to the next.
VARYING = re.compile(rb'"id":"[^"]*"|"created":\d+|"model":"[^"]*"')


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
    rows = [
        {
            "id": kind,
            "kind": kind,
            "base_url": simulator.origin if kind == "azure" else simulator.base_url,
            "api_key": UPSTREAM_KEY,
        }
        for kind, simulator in upstreams.items()
    ]
    with running_gateway(tmp_path_factory.mktemp("usage"), {"connections": rows}) as running:
        yield running


@pytest.fixture(scope="module")
def gpt(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def streamed(port: int, key: str, body: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[bytes, str]:
    """The bytes of a streamed answer, and its request id."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        sent = json.dumps({"messages": HELLO, "stream": True, **body})
        connection.request("POST", path, sent, {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("x-pointsman-fidelity") is None
        return answer.read(), answer.getheader("x-request-id") or ""
    finally:
        connection.close()


@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
@pytest.mark.parametrize("kind", SAME)
def test_a_silent_client_gets_the_bytes_of_a_silent_call_and_the_record_has_exact_usage(
    gateway: RunningGateway, upstreams: dict[str, RunningSimulator], kind: str, options: dict[str, Any]
) -> None:
    if kind == "mistral" and options:
        return  # a host that refuses `stream_options` gets such a request written anew
    direct, _ = streamed(upstreams[kind].port, UPSTREAM_KEY, {"model": "sim-model"})
    answer, request_id = streamed(gateway.port, KEY, {"model": f"{kind}/sim-model", **options})
    assert VARYING.sub(b"", answer) == VARYING.sub(b"", direct)
    record = gateway.journal.the(request_id)
    assert (record.usage_estimated, record.fidelity) == (False, None)
    assert record.input_tokens > 0
    assert record.output_tokens > 0


def test_what_is_sent_asks_but_where_the_host_refuses_it(
    gateway: RunningGateway, upstreams: dict[str, RunningSimulator]
) -> None:
    for kind in SILENT:
        streamed(gateway.port, KEY, {"model": f"{kind}/sim-model"})
        sent = json.loads(upstreams[kind].requests[-1].body)
        assert sent.get("stream_options") == (None if kind == "mistral" else {"include_usage": True})
    own = {"stream_options": {"include_obfuscation": False}}
    answer, _ = streamed(gateway.port, KEY, {"model": "openai/sim-model", **own})
    sent = json.loads(upstreams["openai"].requests[-1].body)
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert b"usage" not in answer
    assert b"obfuscation" not in answer


def test_a_client_that_asks_gets_all_that_the_upstream_says(
    gateway: RunningGateway, upstreams: dict[str, RunningSimulator]
) -> None:
    own = {"stream_options": {"include_usage": True}}
    direct, _ = streamed(upstreams["openai"].port, UPSTREAM_KEY, {"model": "sim-model", **own})
    answer, _ = streamed(gateway.port, KEY, {"model": "openai/sim-model", **own})
    assert b'"usage":null' in answer
    assert VARYING.sub(b"", answer) == VARYING.sub(b"", direct)


def test_a_buffered_call_is_sent_as_it_came(gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator]) -> None:
    gpt.chat.completions.create(model="openai/sim-model", messages=HELLO)
    assert b"stream_options" not in upstreams["openai"].requests[-1].body


def test_azure_is_not_asked_beside_its_own_data(
    gateway: RunningGateway, upstreams: dict[str, RunningSimulator]
) -> None:
    streamed(gateway.port, KEY, {"model": "azure/sim-model"})
    assert b'"include_usage":true' in upstreams["azure"].requests[-1].body
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    body = {"model": "azure/sim-model", "messages": HELLO, "stream": True, "data_sources": [{"type": "azure_search"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {KEY}"})
    connection.getresponse().read()
    connection.close()
    assert b"stream_options" not in upstreams["azure"].requests[-1].body


@pytest.mark.parametrize("kind", ["openai", "deepseek"])
def test_a_legacy_client_is_counted_exactly_too(gateway: RunningGateway, kind: str) -> None:
    answer, request_id = streamed(
        gateway.port, KEY, {"model": f"{kind}/sim-model", "prompt": "hello there", "messages": None}, "/v1/completions"
    )
    assert b"usage" not in answer
    assert gateway.journal.the(request_id).usage_estimated is False
