"""What combos do beside their clients' requests: shadow calls, and the summary that goes to another account."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import RequestRecord
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from pointsman.testing.behaviour import Behaviour

HELLO: Any = [{"role": "user", "content": "hello there"}]
GOES_ON: Any = [*HELLO, {"role": "assistant", "content": "echo: hello there"}, {"role": "user", "content": "again"}]
SHADOWED: Any = {"shadowRouting": {"enabled": True, "targets": ["two/shade"]}}


class Metered(OpenAIChat):
    """An account whose answers tell that ``left`` of 100 requests are left of its quota."""

    def __init__(self) -> None:
        super().__init__(api_key=UPSTREAM_KEY)
        self.left = 100

    def headers(self, behaviour: Behaviour) -> Any:
        told = dict(super().headers(behaviour))
        told |= {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": str(self.left)}
        return tuple((told | {"x-ratelimit-reset-requests": "1h"}).items())


class Site:
    """A gateway before two accounts."""

    def __init__(self, accounts: list[Metered], upstreams: list[RunningSimulator]) -> None:
        self.accounts = accounts
        self.upstreams = upstreams
        self.gateway: RunningGateway

    def open(self, directory: Path, **combo: Any) -> Any:
        """The gateway, with one combo."""
        rows = [
            {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
            for name, upstream in zip(("one", "two"), self.upstreams, strict=True)
        ]
        return running_gateway(directory, {"connections": rows, "combos": [{"name": "smart", **combo}]})

    def ask(self, messages: Any = HELLO, **rest: Any) -> Any:
        """One request of the combo; of a stream its chunks."""
        with openai.OpenAI(base_url=f"{self.gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
            answer = client.chat.completions.create(model="smart", messages=messages, **rest)
            return list(answer) if rest.get("stream") else answer

    def sent(self, place: int) -> list[dict[str, Any]]:
        """The bodies that one account got."""
        return [msgspec.json.decode(one.body) for one in self.upstreams[place].requests if one.method == "POST"]

    def beside(self, label: str) -> list[RequestRecord]:
        """The records of side calls."""
        return [record for record in self.gateway.journal.records() if record.route == label]


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        accounts = [Metered(), Metered()]
        yield Site(accounts, [stack.enter_context(running_simulator(account)) for account in accounts])


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_gets_the_request_too_and_its_costs_are_nobodys(site: Site, tmp_path: Path, stream: bool) -> None:
    with site.open(tmp_path, targets=["one/sim-model"], settings=SHADOWED) as site.gateway:
        site.ask(stream=stream)
        [shadow] = wait_until(lambda: site.beside("shadow"), "record of the shadow")
        [body] = site.sent(1)
        assert (body["model"], body["messages"], body.get("stream")) == ("shade", HELLO, None)
        assert (shadow.target, shadow.key_id, shadow.combo) == ("two/shade", "shadow", None)
        assert (shadow.request_model, shadow.outcome, shadow.status) == ("smart", "success", 200)
        assert shadow.input_tokens > 0
        [own] = [record for record in site.gateway.journal.records() if record.combo == "smart"]
        assert (own.target, own.attempts) == ("one/sim-model", None)
        assert "two/shade" not in site.gateway.read(lambda: site.gateway.server.gateway.planner.measurements._targets)


def test_no_shadow_is_asked_for_a_share_of_none_or_of_a_request_that_failed(site: Site, tmp_path: Path) -> None:
    rules = {"shadowRouting": {**SHADOWED["shadowRouting"], "sampleRate": 0}}
    with site.open(tmp_path, targets=["one/sim-model"], settings=rules) as site.gateway:
        site.ask()
        assert site.gateway.read(lambda: site.gateway.server.combos.beside.counts["begun"]) == 0
    with site.open(tmp_path, targets=["one/m#fault=bad_request"], settings=SHADOWED) as site.gateway:
        with pytest.raises(openai.BadRequestError):
            site.ask()
        assert site.gateway.read(lambda: site.gateway.server.combos.beside.counts["begun"]) == 0


def test_a_failing_shadow_is_recorded_and_held_against_nobody(site: Site, tmp_path: Path) -> None:
    rules = {"shadowRouting": {"enabled": True, "targets": ["two/m#fault=http_500"]}}
    with site.open(tmp_path, targets=["one/sim-model"], settings=rules) as site.gateway:
        site.ask()
        [shadow] = wait_until(lambda: site.beside("shadow"), "record of the shadow")
        assert (shadow.outcome, shadow.error_kind) == ("error", "upstream_error")
        assert site.gateway.read(lambda: site.gateway.server.health.quiet)


def test_few_shadows_run_at_a_time_and_none_outlives_the_gateway(site: Site, tmp_path: Path) -> None:
    slow = "two/m#fault=slow_headers,headers_ms=60000"
    rules = {"shadowRouting": {"enabled": True, "targets": [slow], "timeoutMs": 120_000}}
    with site.open(tmp_path, targets=["one/sim-model"], settings=rules) as site.gateway:
        beside = site.gateway.server.combos.beside
        beside._most = 2
        for _ in range(3):
            site.ask()
        wait_until(lambda: beside.counts["left_out"] == 1, "shadow that was left out")
        assert (len(beside), beside.counts["begun"]) == (2, 2)
        wait_until(lambda: len(site.sent(1)) == 2, "shadow calls")
    assert [record.status for record in site.beside("shadow")] == [503, 503]


def test_a_late_shadow_is_given_up(site: Site, tmp_path: Path) -> None:
    slow = "two/m#fault=slow_headers,headers_ms=60000"
    rules = {"shadowRouting": {"enabled": True, "targets": [slow], "timeoutMs": 1000}}
    with site.open(tmp_path, targets=["one/sim-model"], settings=rules) as site.gateway:
        site.ask()
        [shadow] = wait_until(lambda: site.beside("shadow"), "record of the shadow")
        assert (shadow.status, shadow.error_kind) == (504, "upstream_timeout")


RELAY: Any = {"targets": ["one/m", "two/m"], "strategy": "context-relay"}


def near_its_end(site: Site) -> RequestRecord:
    """Have a conversation's account tell that little is left of it; gives the record of the summary."""
    site.accounts[0].left = 10
    site.ask(GOES_ON)
    [handoff] = wait_until(lambda: site.beside("handoff"), "record of the handoff")
    wait_until(lambda: len(site.gateway.server.combos.handoffs), "handoff")
    return handoff


def use_up(site: Site) -> None:
    """Have the account tell that it is used up: it is left alone then."""
    site.accounts[0].left = 1
    site.ask(GOES_ON)


def test_a_conversation_takes_a_summary_along_when_its_account_is_used_up(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, **RELAY) as site.gateway:
        handoff = near_its_end(site)
        assert (handoff.target, handoff.outcome, handoff.combo) == ("one/m", "success", None)
        assert handoff.key_id is not None
        asked = site.sent(0)[-1]
        assert asked["max_tokens"] == 800
        assert "user: hello there\n\nassistant: echo: hello there" in asked["messages"][-1]["content"]
        use_up(site)
        assert len(site.beside("handoff")) == 1
        site.ask(GOES_ON)
        note, *rest = site.sent(1)[-1]["messages"]
        assert note["content"].startswith("<session_handoff>")
        assert "assistant: echo: hello there" in note["content"]
        assert rest == GOES_ON
        site.ask(GOES_ON)
        assert site.sent(1)[-1]["messages"] == GOES_ON  # it was used, once


def test_a_handoff_is_for_its_own_conversation_only(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, **RELAY) as site.gateway:
        near_its_end(site)
        use_up(site)
        others = [{"role": "user", "content": "hello"}, *GOES_ON[1:]]
        site.ask(others)
        assert site.sent(1)[-1]["messages"] == others


def test_a_handoff_outlives_a_restart_and_is_sealed_where_it_lies(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, **RELAY) as site.gateway:
        near_its_end(site)
        use_up(site)
    assert not any(b"session_handoff" in one.read_bytes() or b"assistant: echo" in one.read_bytes()
                   for one in tmp_path.rglob("*.db*"))  # fmt: skip
    with site.open(tmp_path, **RELAY) as site.gateway:
        site.ask(GOES_ON, stream=True)
        assert site.sent(1)[-1]["messages"][0]["content"].startswith("<session_handoff>")


def test_a_combo_says_who_sums_up_and_which_providers_hand_over(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, **RELAY, settings={"handoffModel": "two/writer"}) as site.gateway:
        assert near_its_end(site).target == "two/writer"
    site.accounts[0].left = 10
    with site.open(tmp_path / "other", **RELAY, settings={"handoffProviders": ["codex"]}) as site.gateway:
        site.ask(GOES_ON)
        assert site.gateway.read(lambda: site.gateway.server.combos.beside.counts["begun"]) == 0


def test_no_summary_is_made_while_enough_is_left(site: Site, tmp_path: Path) -> None:
    site.accounts[0].left = 16
    with site.open(tmp_path, **RELAY) as site.gateway:
        site.ask(GOES_ON)
        assert site.gateway.read(lambda: site.gateway.server.combos.beside.counts["begun"]) == 0
