"""A connection's limits: whom they are told to, and what counts in them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway, limited_key, running_gateway
from pointsman.canonical.limits import Limits
from pointsman.testing import (
    AnthropicMessages,
    GeminiEmbeddings,
    OpenAIChat,
    OpenAIResponses,
    RunningSimulator,
    running_simulator,
)
from raw_client import Answer, ask, chat, request

EXPLAIN = "x-pointsman-explain: 1"
FORM = b"\r\n".join(
    (
        b"--xx", b'content-disposition: form-data; name="purpose"', b"", b"user_data",
        b"--xx", b'content-disposition: form-data; name="file"; filename="a.txt"', b"", b"hello", b"--xx--", b"",
    )
)  # fmt: skip


class Site:
    """Upstreams, and a gateway before them once it is opened."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self.gateway: RunningGateway

    def upstream(self, simulator: Any) -> RunningSimulator:
        """One that runs."""
        return self._stack.enter_context(running_simulator(simulator))

    def open(self, *rows: Any, **settings: Any) -> None:
        """Run the gateway with these connections."""
        connections = [{"kind": "openai", "api_key": UPSTREAM_KEY, **row} for row in rows]
        self.gateway = self._stack.enter_context(
            running_gateway(self._directory, {"connections": connections, **settings})
        )

    def ask(self, message: bytes) -> Answer:
        """One request."""
        return ask(self.gateway.port, message)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, tmp_path)


def told(answer: Answer) -> dict[str, str]:
    """What an answer tells of limits."""
    return {name.removeprefix("x-ratelimit-"): value for name, value in answer.headers.items() if "ratelimit" in name}


@pytest.fixture
def pair(site: Site) -> Site:
    """A combo of a connection that takes one request a minute, and one without limits."""
    upstream = site.upstream(OpenAIChat(api_key=UPSTREAM_KEY, strict=False))
    site.open(
        {"id": "one", "base_url": upstream.base_url, "requests_per_minute": 1},
        {"id": "two", "base_url": upstream.base_url},
        combos=[{"name": "pair", "targets": ["one/sim-model", "two/sim-model"]}],
    )
    return site


def test_a_key_with_limits_is_told_these_when_another_connection_answers(pair: Site) -> None:
    key = limited_key(pair.gateway, Limits(requests_per_minute=100))
    for left, connection in ((99, "one"), (98, "two")):
        answer = pair.ask(chat("", EXPLAIN, key=key, model="pair"))
        assert (answer.status, pair.gateway.journal.the(answer.request_id).connection_id) == (200, connection)
        found = told(answer)
        assert (found["limit-requests"], found["remaining-requests"]) == ("100", str(left))
        assert "one/sim-model" in answer.headers["x-pointsman-plan"]


def test_a_key_without_limits_is_told_those_of_the_connection_that_answers(pair: Site) -> None:
    first, second = (pair.ask(chat("", EXPLAIN, model="pair")) for _ in range(2))
    assert (told(first)["limit-requests"], told(first)["remaining-requests"]) == ("1", "0")
    assert (second.status, told(second)) == (200, {})
    refused = pair.ask(chat(model="one/sim-model"))
    assert (refused.status, told(refused)["limit-requests"]) == (429, "1")


def test_who_shares_a_call_is_told_its_plan_and_limits(pair: Site) -> None:
    answer = pair.ask(chat("", EXPLAIN, "x-pointsman-share: 1", model="pair"))
    assert "one/sim-model" in answer.headers["x-pointsman-plan"]
    assert told(answer)["limit-requests"] == "1"


def test_a_call_about_a_file_tells_the_key_s_limits(site: Site) -> None:
    upstream = site.upstream(OpenAIResponses(api_key=UPSTREAM_KEY))
    site.open({"id": "up", "kind": "openai-responses", "base_url": upstream.base_url, "requests_per_minute": 1})
    key = limited_key(site.gateway, Limits(requests_per_minute=3))
    upload = request("POST", "/v1/files", FORM, "content-type: multipart/form-data; boundary=xx", key=key)
    for status, left in ((200, "2"), (429, "1")):
        answer = site.ask(upload)
        assert (answer.status, told(answer)["limit-requests"], told(answer)["remaining-requests"]) == (
            status,
            "3",
            left,
        )


def test_choices_that_are_made_by_several_calls_count_as_so_many_or_are_all_refused(site: Site) -> None:
    upstream = site.upstream(AnthropicMessages(api_key=UPSTREAM_KEY, strict=False))
    site.open({"id": "claude", "kind": "anthropic", "base_url": upstream.origin, "requests_per_minute": 5})
    model = "claude/sim-model"
    answer = site.ask(chat(model=model, n=3))
    assert (answer.status, len(upstream.requests), told(answer)["remaining-requests"]) == (200, 3, "2")
    refused = site.ask(chat(model=model, n=3))
    assert (refused.status, told(refused)["remaining-requests"]) == (429, "1")  # with the first of its own
    assert int(refused.headers["retry-after"]) > 50
    assert "5 requests per minute of the connection" in refused.error["message"]
    assert len(upstream.requests) == 3
    hopeless = site.ask(chat(model=model, n=6))
    assert (hopeless.status, "retry-after" in hopeless.headers) == (429, False)
    assert "about 6 requests" in hopeless.error["message"]
    assert site.ask(chat(model=model, n=2)).status == 200  # who was refused has taken nothing
    assert len(upstream.requests) == 5


def test_an_answer_that_is_asked_for_again_counts_once_more(site: Site) -> None:
    upstream = site.upstream(AnthropicMessages(api_key=UPSTREAM_KEY, strict=False))
    place = {"kind": "anthropic", "base_url": upstream.origin}
    site.open({"id": "a", **place, "requests_per_minute": 1}, {"id": "b", **place, "requests_per_minute": 2})
    wish = {"response_format": {"type": "json_object"}}
    refused = site.ask(chat(model="a/sim-model", **wish))
    assert (refused.status, len(upstream.requests)) == (429, 1)  # what it says is no JSON
    record = site.gateway.journal.the(refused.request_id)
    assert record.input_tokens > 0, "the call that was made is counted"
    wrong = site.ask(chat(model="b/sim-model", **wish))
    assert (wrong.status, len(upstream.requests)) == (502, 3)
    assert site.ask(chat(model="b/sim-model")).status == 429


def test_embeddings_that_go_in_several_calls_count_as_so_many(site: Site) -> None:
    upstream = site.upstream(GeminiEmbeddings(api_key=UPSTREAM_KEY))
    site.open({"id": "google", "kind": "gemini", "base_url": upstream.origin, "requests_per_minute": 5})
    body = msgspec.json.encode({"model": "google/sim-embed", "input": [f"text {number}" for number in range(250)]})
    answers = [site.ask(request("POST", "/v1/embeddings", body)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert told(answers[0])["remaining-requests"] == "2"
    assert len(upstream.requests) == 3


def test_calls_of_an_answer_that_were_not_made_after_one_failed_are_given_back(site: Site) -> None:
    upstream = site.upstream(GeminiEmbeddings(api_key=UPSTREAM_KEY))
    site.open({"id": "google", "kind": "gemini", "base_url": upstream.origin, "requests_per_minute": 5})
    texts = [f"text {number}" for number in range(250)]
    failing = {"model": "google/sim-embed#fault=http_500", "input": texts}
    assert site.ask(request("POST", "/v1/embeddings", msgspec.json.encode(failing))).status == 502
    assert len(upstream.requests) == 1
    good = msgspec.json.encode({"model": "google/sim-embed", "input": texts})
    answer = site.ask(request("POST", "/v1/embeddings", good))
    assert (answer.status, told(answer)["remaining-requests"]) == (200, "1")
