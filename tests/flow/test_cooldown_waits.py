"""A request that only limits keep from its answer waits for it, as far as the operator and its own deadline allow."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]
WAITING: Any = {"wait_for_cooldown": {"enabled": True}, "combo_cooldown_wait": {"enabled": True}}
ONCE = "#fault=rate_limit,retry_after=1,fail_first=1"
LONG = "#fault=rate_limit,retry_after=60"


class Site:
    """A gateway before two accounts."""

    def __init__(self, upstreams: list[RunningSimulator]) -> None:
        self.upstreams = upstreams
        self.gateway: RunningGateway

    def open(self, directory: Path, *combos: Any, **resilience: Any) -> Any:
        """The gateway."""
        rows = [
            {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
            for name, upstream in zip(("one", "two"), self.upstreams, strict=True)
        ]
        settings = {"connections": rows, "combos": list(combos), "resilience": {**WAITING, **resilience}}
        return running_gateway(directory, settings)

    def ask(self, model: str, **rest: Any) -> Any:
        """One request; of a stream its chunks."""
        with openai.OpenAI(base_url=f"{self.gateway.address}/v1", api_key=KEY, max_retries=0, timeout=8) as client:
            answer = client.chat.completions.create(model=model, messages=HELLO, **rest)
            return list(answer) if rest.get("stream") else answer

    def counts(self) -> list[int]:
        """How many calls each account got."""
        return [len(upstream.requests) for upstream in self.upstreams]


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site([stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2)])


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_waits_for_a_short_cooldown_and_is_answered(site: Site, tmp_path: Path, stream: bool) -> None:
    with site.open(tmp_path) as site.gateway:
        began = time.monotonic()
        assert site.ask(f"one/m{ONCE}", stream=stream)
        assert time.monotonic() - began >= 1.0
        assert site.counts() == [2, 0]
        record = site.gateway.journal.records()[-1]
        [attempt] = msgspec.json.decode(record.attempts or "")
        assert (attempt[1], record.outcome) == ("rate_limited", "success")


def test_nobody_waits_longer_than_is_allowed_or_than_the_request_has_time(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path) as site.gateway:
        began = time.monotonic()
        with pytest.raises(openai.RateLimitError):
            site.ask(f"one/m{LONG}")
        with pytest.raises(openai.RateLimitError):
            site.ask(f"two/m{ONCE}", extra_headers={"x-pointsman-timeout": "0.9"})
        assert time.monotonic() - began < 0.9
        assert site.counts() == [1, 1]


def test_a_limit_that_comes_again_and_again_fails_after_so_many_waits(site: Site, tmp_path: Path) -> None:
    rules = {"enabled": True, "max_retries": 1, "max_retry_wait_sec": 30}
    with site.open(tmp_path, wait_for_cooldown=rules) as site.gateway:
        with pytest.raises(openai.RateLimitError, match="2 attempts"):
            site.ask("one/m#fault=rate_limit,retry_after=0")
        assert site.counts() == [2, 0]


def test_a_combo_waits_for_the_first_of_its_targets_to_be_back(site: Site, tmp_path: Path) -> None:
    both = {"name": "both", "targets": [f"one/m{LONG}", f"two/m{ONCE}"]}
    with site.open(tmp_path, both) as site.gateway:
        assert site.ask("both")
        assert site.counts() == [1, 2]


def test_a_request_that_finds_all_limited_asks_nobody_before_one_is_back(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path) as site.gateway:
        with pytest.raises(openai.RateLimitError):
            site.ask("one/n#fault=rate_limit,retry_after=1", extra_headers={"x-pointsman-timeout": "0.9"})
        began = time.monotonic()
        assert site.ask("one/m")
        assert time.monotonic() - began > 0.3
        assert site.counts() == [2, 0]


def test_other_failures_are_told_at_once(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path) as site.gateway:
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError):
            site.ask("one/m#fault=http_500")
        assert time.monotonic() - began < 0.9
        assert site.counts() == [1, 0]


def test_a_combo_may_have_all_of_its_targets_tried_again(site: Site, tmp_path: Path) -> None:
    twice = {"maxSetRetries": 1, "setRetryDelayMs": 20}
    failing = {"name": "failing", "targets": ["one/m#fault=http_500", "two/m#fault=http_500,fail_first=1"]}
    with site.open(tmp_path, {**failing, "settings": twice}) as site.gateway:
        assert site.ask("failing")
        assert site.counts() == [2, 2]


def test_a_mistake_of_the_callers_own_is_not_tried_again(site: Site, tmp_path: Path) -> None:
    wrong = {"name": "wrong", "targets": ["one/m#fault=bad_request"], "settings": {"maxSetRetries": 3}}
    with site.open(tmp_path, wrong) as site.gateway:
        with pytest.raises(openai.BadRequestError):
            site.ask("wrong")
        assert site.counts() == [1, 0]


def test_a_combo_may_pause_between_its_targets(site: Site, tmp_path: Path) -> None:
    slow = {"name": "slow", "targets": ["one/m#fault=http_500", "two/m"], "settings": {"fallbackDelayMs": 300}}
    with site.open(tmp_path, slow) as site.gateway:
        began = time.monotonic()
        assert site.ask("slow")
        assert time.monotonic() - began >= 0.3
