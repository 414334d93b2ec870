"""A slow target gets a rival: the first to answer wins, the other one is cancelled on the wire and counted once."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator
from raw_client import CHAT, Answer, Connection, ask, chat, request

SAMPLES = 3
SLOW_MS = 1000  # longer than an answer takes on a busy machine
NEVER = {"first_token_ms": 30_000, "headers_ms": 30_000}
HEDGING = {"enabled": True, "least_seconds": 0.03, "least_samples": SAMPLES, "max_share": 1, "max_cost_nano_usd": 0}
PATHS = {"raw": CHAT, "hub": "/v1/messages"}


class Site:
    """A gateway before two upstreams, of which the first may be slow. ``path``: how clients speak to it."""

    def __init__(self, gateway: RunningGateway, first: RunningSimulator, second: RunningSimulator, path: str) -> None:
        self.gateway = gateway
        self.first = first
        self.second = second
        self.path = path

    def message(self, *, stream: bool) -> bytes:
        """A request."""
        say = {"model": "pair", "stream": stream, "max_tokens": 50}
        return request(
            "POST", self.path, msgspec.json.encode({**say, "messages": [{"role": "user", "content": "hello there"}]})
        )

    def ask(self, *, stream: bool) -> tuple[Answer, RequestRecord]:
        """The answer and its record."""
        answer = ask(self.gateway.port, self.message(stream=stream))
        return answer, self.gateway.journal.the(answer.request_id)

    def learn(self, *, stream: bool) -> None:
        """Let the gateway see how fast the first one usually is."""
        for _ in range(SAMPLES):
            assert self.ask(stream=stream)[0].status == 200


def behave(upstream: RunningSimulator, **how: Any) -> None:
    """Have an upstream answer otherwise from now on."""
    simulator = upstream.simulator
    simulator.behaviour = msgspec.structs.replace(simulator.behaviour, **how)


def settings(first: RunningSimulator, second: RunningSimulator, **hedging: Any) -> dict[str, Any]:
    rows = [
        {"id": "one", "kind": "openai", "base_url": first.base_url, "api_key": UPSTREAM_KEY},
        {"id": "two", "kind": "openai", "base_url": second.base_url, "api_key": UPSTREAM_KEY},
    ]
    combos = [{"name": "pair", "targets": ["one/sim-model", "two/sim-model"]}]
    return {"connections": rows, "combos": combos, "attempts": {"hedging": {**HEDGING, **hedging}}}


@pytest.fixture(params=PATHS.values(), ids=PATHS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2))
        gateway = stack.enter_context(running_gateway(tmp_path, settings(first, second)))
        yield Site(gateway, first, second, request.param)


def said(answer: Answer) -> bool:
    """Whether the whole answer is there."""
    return all(word in answer.body for word in (b"echo", b"hello", b"there"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_rival_of_a_slow_target_answers_and_the_slow_one_is_cancelled(site: Site, stream: bool) -> None:
    site.learn(stream=stream)
    behave(site.first, **NEVER)
    answer, record = site.ask(stream=stream)
    assert (answer.status, said(answer)) == (200, True)
    assert (record.connection_id, record.target, record.outcome) == ("two", "two/sim-model", Outcome.SUCCESS)
    [[target, word, status, us, used]] = msgspec.json.decode(record.attempts or "")
    assert (target, word, status) == ("one/sim-model", "hedge_lost", 0)
    assert us > 25_000
    assert (used["estimated"], used["input_tokens"] > 0) == (True, True)
    site.first.wait_for_disconnect()
    alone = site.ask(stream=stream)[1]  # the first is slow still: its tokens are counted again
    assert alone.input_tokens == record.input_tokens
    plain = record.input_tokens - used["input_tokens"]
    assert plain == site.gateway.journal.records()[0].input_tokens, "the winner's and the loser's, each once"
    assert record.usage_estimated
    assert site.gateway.read(lambda: site.gateway.server.health.quiet), "to be slow is no failure"


@pytest.mark.parametrize("stream", [False, True])
def test_a_target_that_is_as_fast_as_ever_has_no_rival(site: Site, stream: bool) -> None:
    def wait_longer() -> None:
        gateway = site.gateway.server.gateway
        hedging = msgspec.structs.replace(gateway.attempts.hedging, least_seconds=5)
        gateway.attempts = msgspec.structs.replace(gateway.attempts, hedging=hedging)

    site.gateway.read(wait_longer)
    site.learn(stream=stream)
    answer, record = site.ask(stream=stream)
    assert (answer.status, record.connection_id) == (200, "one")
    assert not site.second.requests


def test_nobody_is_hedged_before_enough_is_known(site: Site) -> None:
    behave(site.first, first_token_ms=150)
    for _ in range(SAMPLES - 1):
        site.ask(stream=True)
    assert not site.second.requests


def test_the_first_may_still_win_and_the_rival_is_cancelled(site: Site) -> None:
    site.learn(stream=True)
    behave(site.first, first_token_ms=SLOW_MS)
    behave(site.second, first_token_ms=30_000)
    answer, record = site.ask(stream=True)
    assert (record.connection_id, said(answer)) == ("one", True)
    assert [row[:3] for row in msgspec.json.decode(record.attempts or "")] == [["two/sim-model", "hedge_lost", 0]]
    site.second.wait_for_disconnect()


def test_a_rival_that_fails_leaves_the_first_alone(site: Site) -> None:
    site.learn(stream=True)
    behave(site.first, first_token_ms=SLOW_MS)
    behave(site.second, fault="http_500")
    answer, record = site.ask(stream=True)
    assert (record.connection_id, said(answer)) == ("one", True)
    assert [row[:3] for row in msgspec.json.decode(record.attempts or "")] == [["two/sim-model", "upstream_error", 502]]


def test_what_a_rival_calls_the_callers_mistake_is_not_final_while_the_first_may_answer(site: Site) -> None:
    site.learn(stream=False)
    behave(site.first, first_token_ms=SLOW_MS)
    behave(site.second, fault="bad_request")
    answer, record = site.ask(stream=False)
    assert (record.connection_id, said(answer)) == ("one", True)
    assert [row[1] for row in msgspec.json.decode(record.attempts or "")] == ["invalid_request"]


def test_a_client_that_goes_away_ends_both_and_both_are_counted(site: Site) -> None:
    site.learn(stream=True)
    behave(site.first, **NEVER)
    behave(site.second, first_token_ms=30_000)
    with Connection(site.gateway.port) as connection:
        connection.socket.sendall(site.message(stream=True))
        site.second.wait_for_requests(1)
    site.first.wait_for_disconnect()
    site.second.wait_for_disconnect()
    record = wait_until(
        lambda: next((one for one in site.gateway.journal.records() if one.outcome is Outcome.CLIENT_CLOSED), None),
        "record",
    )
    assert record.input_tokens > 0
    assert record.usage_estimated
    assert len(site.gateway.journal.of(record.request_id)) == 1


def test_the_limits_of_a_rival_s_connection_are_told_to_nobody(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2))
        document = settings(first, second)
        document["connections"][1]["requests_per_minute"] = 1
        gateway = stack.enter_context(running_gateway(tmp_path, document))
        site = Site(gateway, first, second, CHAT)
        assert "x-ratelimit-limit-requests" in ask(gateway.port, chat(model="two/sim-model")).headers
        site.learn(stream=False)
        behave(first, first_token_ms=SLOW_MS)
        answer, record = site.ask(stream=False)
        assert [row[:2] for row in msgspec.json.decode(record.attempts or "")] == [["two/sim-model", "limited_here"]]
        assert (answer.status, record.connection_id) == (200, "one")
        assert not [name for name in answer.headers if "ratelimit" in name]


@pytest.mark.parametrize(
    ("limit", "count"), [({"max_share": 0}, "over_share"), ({"max_cost_nano_usd": 1}, "over_cost")]
)
def test_second_attempts_are_bounded_in_number_and_cost(tmp_path: Path, limit: dict[str, Any], count: str) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2))
        gateway = stack.enter_context(running_gateway(tmp_path, settings(first, second, **limit)))
        site = Site(gateway, first, second, CHAT)
        site.learn(stream=True)
        behave(first, first_token_ms=SLOW_MS)
        assert site.ask(stream=True)[1].connection_id == "one"
        assert not second.requests
        assert gateway.read(lambda: gateway.server.gateway.hedges.counts[count]) == 1


@pytest.mark.parametrize("tagged", [False, True])
def test_it_is_off_unless_a_connection_or_a_combo_asks_for_it(tmp_path: Path, tagged: bool) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        second = stack.enter_context(running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)))
        document = settings(first, first, enabled=False)
        document["connections"][0]["tags"] = ["hedge"] if tagged else []
        document["connections"][1] |= {"kind": "anthropic", "base_url": second.origin}
        gateway = stack.enter_context(running_gateway(tmp_path, document))
        site = Site(gateway, first, second, CHAT)
        site.learn(stream=True)
        behave(first, first_token_ms=SLOW_MS)
        answer, record = site.ask(stream=True)
        assert (record.connection_id, said(answer)) == ("two" if tagged else "one", True)
        assert ask(gateway.port, request("GET", "/health", key=KEY)).status == 200


def test_what_was_reserved_for_a_target_that_failed_alone_is_given_back_when_two_are_asked_at_once(
    tmp_path: Path,
) -> None:
    first, second = "one/m#fault=http_500,fail_first=1", "two/m#fault=rate_limit,retry_after=60,fail_first=9"
    with ExitStack() as stack:
        one, two = (stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2))
        document = settings(one, two)
        document["connections"][1]["tokens_per_minute"] = 100_000
        document["combos"] = [{"name": "pair", "targets": [first, second], "settings": {"maxSetRetries": 1}}]
        gateway = stack.enter_context(running_gateway(tmp_path, document))
        site = Site(gateway, one, two, CHAT)
        alone = {"model": second, "messages": [{"role": "user", "content": "hello there"}]}
        assert ask(gateway.port, request("POST", CHAT, msgspec.json.encode(alone))).status == 429
        record = site.ask(stream=False)[1]  # the second one rests: the first is asked alone, then it, then both at once
        assert record.connection_id == "one"
        assert [row[0] for row in msgspec.json.decode(record.attempts or "")] == [first, second]

        def left() -> int:
            here = gateway.server.gateway
            assert here.snapshot.limits is not None
            standing = here.limiter.standing(here.snapshot.limits.connection_rules("two"))
            assert standing.tokens is not None
            return standing.tokens.remaining

        assert gateway.read(left) == 100_000
