"""One target fails, the next one answers: through a whole gateway, onto simulators that fail on demand."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.canonical.record import Outcome
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]
# Before any answer has begun.
EARLY = (
    "unauthorized", "rate_limit", "rate_limit_bare", "http_500", "http_503", "reset", "close", "html",
    "oversized_headers",
)  # fmt: skip


FAILS_ONCE = "sim-model#fault=http_500,fail_first=1"
EVERY_OTHER = "sim-model#fault=http_503,fine_requests=1,failing_requests=1"
LIMITED = "sim-model#fault=rate_limit,retry_after"


class Site:
    """A gateway before two OpenAI upstreams and one of Anthropic's."""

    def __init__(self, gateway: RunningGateway, first: RunningSimulator, second: RunningSimulator) -> None:
        self.gateway = gateway
        self.first = first
        self.second = second
        self.client = openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20)


def combo(name: str, *targets: str) -> dict[str, Any]:
    """A combo of the configuration."""
    return {"name": name, "targets": list(targets)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        first = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        second = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        claude = stack.enter_context(running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)))
        rows = [
            {"id": "one", "kind": "openai", "base_url": first.base_url, "api_key": UPSTREAM_KEY},
            {"id": "two", "kind": "openai", "base_url": second.base_url, "api_key": UPSTREAM_KEY},
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin, "api_key": UPSTREAM_KEY},
        ]
        rows += [
            {"id": f"cold{number}", "kind": "openai", "base_url": first.base_url, "api_key": UPSTREAM_KEY}
            for number in range(4)
        ]
        faults = [combo(fault, f"one/sim-model#fault={fault}", "two/sim-model") for fault in EARLY]
        combos = [
            *faults,
            combo("mixed", "one/sim-model#fault=http_500", "claude/sim-model"),
            combo("mistake", "one/sim-model#fault=bad_request", "two/sim-model"),
            combo("hopeless", "one/sim-model#fault=http_500", "two/sim-model#fault=rate_limit"),
            combo("recovering", f"one/{FAILS_ONCE}", f"two/{EVERY_OTHER}"),
            combo("cold", *(f"cold{number}/{LIMITED}={20 - number}" for number in range(4))),
            combo("limited", f"one/{LIMITED}=9", f"two/{LIMITED}=4"),
        ]  # fmt: skip
        settings = {"connections": rows, "combos": combos, "attempts": {"last_resorts": 2}}
        gateway = stack.enter_context(running_gateway(tmp_path, settings))
        found = Site(gateway, first, second)
        yield found
        found.client.close()


@pytest.mark.parametrize("fault", EARLY)
@pytest.mark.parametrize("stream", [False, True])
def test_the_second_target_answers_when_the_first_fails(site: Site, fault: str, stream: bool) -> None:
    raw = site.client.chat.completions.with_raw_response.create(model=fault, messages=HELLO, stream=stream)
    answer: Any = raw.parse()
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    else:
        text = answer.choices[0].message.content
    assert text == "echo: hello there"
    record = site.gateway.journal.the(raw.headers["x-request-id"])
    assert (record.connection_id, record.outcome, record.status) == ("two", Outcome.SUCCESS, 200)
    [attempt] = msgspec.json.decode(record.attempts or "")
    assert attempt[0] == f"one/sim-model#fault={fault}"
    assert [len(site.first.requests), len(site.second.requests)] == [1, 1]


def test_a_target_with_another_api_takes_over(site: Site) -> None:
    answer = site.client.chat.completions.create(model="mixed", messages=HELLO)
    assert answer.choices[0].message.content == "echo: hello there"


def test_the_callers_own_mistake_is_not_tried_elsewhere(site: Site) -> None:
    with pytest.raises(openai.BadRequestError):
        site.client.chat.completions.create(model="mistake", messages=HELLO)
    assert not site.second.requests


def test_total_failure_names_every_target_and_what_was_wrong(site: Site) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        site.client.chat.completions.create(model="hopeless", messages=HELLO)
    told = str(caught.value)
    for part in ("none of 2 targets", "one/sim-model", "HTTP 500", "two/sim-model", "HTTP 429"):
        assert part in told
    record = site.gateway.journal.the(caught.value.response.headers["x-request-id"])
    assert record.outcome is Outcome.ERROR
    rows = msgspec.json.decode(record.attempts or "")
    assert len({target for target, *_ in rows}) == 2  # each once more, as combos have it by default


def test_when_all_are_limited_the_earliest_end_is_told(site: Site) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        site.client.chat.completions.create(model="limited", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "4"


def test_a_target_that_has_just_failed_is_left_alone(site: Site) -> None:
    for _ in range(3):
        site.client.chat.completions.create(model="http_500", messages=HELLO)
    assert len(site.first.requests) == 1
    assert len(site.second.requests) == 3


def test_a_target_that_is_left_alone_is_asked_before_the_request_fails(site: Site) -> None:
    for _ in range(2):
        answer = site.client.chat.completions.create(model="recovering", messages=HELLO)
        assert answer.choices[0].message.content == "echo: hello there"
    assert [one.status for one in site.first.requests] == [500, 200]
    assert [one.status for one in site.second.requests] == [200, 503]


def test_when_all_are_left_alone_the_two_that_recover_first_are_asked_and_all_are_named(site: Site) -> None:
    for calls in (4, 6):
        with pytest.raises(openai.RateLimitError) as caught:
            site.client.chat.completions.create(model="cold", messages=HELLO)
        assert len(site.first.requests) == calls
    told = str(caught.value)
    assert "none of 4 targets could answer: cold3/" in told
    assert "cold0/sim-model#fault=rate_limit,retry_after=20: not asked, left alone for " in told
    assert caught.value.response.headers["retry-after"] == "17"
