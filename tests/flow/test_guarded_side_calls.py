"""No call that the gateway makes for a guarded request goes around its guards."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import AnthropicMessages, NotDiamond, OpenAIChat, RunningSimulator, running_simulator
from pointsman.testing.behaviour import Behaviour
from raw_client import CHAT, Answer, ask, request

MAIL = "jane.doe@example.org"
RULES = [
    {"name": "mail", "kind": "personal", "find": ["email"], "action": "redact"},
    {"name": "id", "kind": "regex", "patterns": ["T-[0-9]{4}"], "where": "answer", "action": "redact", "label": "T"},
    {"name": "word", "kind": "keywords", "words": ["bluebird"], "where": "answer"},
]
GUARD = {"name": "team", "everybody": True, "rules": RULES}
HELLO: Any = [{"role": "user", "content": f"I am {MAIL}"}]
GOES_ON: Any = [*HELLO, {"role": "assistant", "content": "echo"}, {"role": "user", "content": "again"}]


class Metered(OpenAIChat):
    """An account whose answers tell that ``left`` of 100 requests are left of its quota."""

    def __init__(self) -> None:
        super().__init__(api_key=UPSTREAM_KEY, strict=False)
        self.left = 100

    def headers(self, behaviour: Behaviour) -> Any:
        told = dict(super().headers(behaviour))
        told |= {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": str(self.left)}
        return tuple((told | {"x-ratelimit-reset-requests": "1h"}).items())


class Site:
    """A gateway before two accounts of one API and one of another."""

    def __init__(self, stack: ExitStack) -> None:
        self.accounts = [Metered(), Metered()]
        self.upstreams = [stack.enter_context(running_simulator(account)) for account in self.accounts]
        self.upstreams.append(stack.enter_context(running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY))))
        self.gateway: RunningGateway

    def open(
        self, directory: Path, combo: dict[str, Any], guards: Any = (GUARD,), models: Any = (), **rest: Any
    ) -> Any:
        """The gateway, with one combo. ``models`` are the first account's; none is any."""
        names, kinds = ("one", "two", "claude"), ("openai", "openai", "anthropic")
        rows = [
            {"id": name, "kind": kind, "base_url": one.base_url if kind == "openai" else one.origin}
            for name, kind, one in zip(names, kinds, self.upstreams, strict=True)
        ]
        rows = [row | {"api_key": UPSTREAM_KEY} for row in rows]
        rows[0] |= {"models": list(models)}
        settings = {"connections": rows, "combos": [{"name": "smart", **combo}], "guards": list(guards), **rest}
        return running_gateway(directory, settings)

    def ask(self, messages: Any = HELLO, *headers: str, **rest: Any) -> Answer:
        """One request of the combo."""
        body = msgspec.json.encode({"model": "smart", "messages": messages, **rest})
        return ask(self.gateway.port, request("POST", CHAT, body, "connection: close", *headers))

    def sent(self, place: int) -> list[str]:
        """The bodies that one account got."""
        return [one.body.decode() for one in self.upstreams[place].requests if one.method == "POST"]

    def assert_masked(self, *places: int) -> None:
        """These accounts were asked, and nobody has seen what is masked."""
        for place in places:
            assert self.sent(place)
        for upstream in self.upstreams:
            assert all(MAIL.encode() not in one.body for one in upstream.requests)


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


def behave(upstream: RunningSimulator, **how: Any) -> None:
    """Have an upstream answer otherwise from now on."""
    upstream.simulator.behaviour = msgspec.structs.replace(upstream.simulator.behaviour, **how)


def handed_over(site: Site) -> None:
    """Have a conversation's account near its end, so that a summary is made; then at its end."""
    site.accounts[0].left = 10
    site.ask(GOES_ON)
    wait_until(lambda: len(site.gateway.server.combos.handoffs), "handoff")
    site.accounts[0].left = 1
    site.ask(GOES_ON)


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_sees_placeholders(site: Site, tmp_path: Path, stream: bool) -> None:
    shadows = {"shadowRouting": {"enabled": True, "targets": ["two/shade"]}}
    with site.open(tmp_path, {"targets": ["one/sim-model"], "settings": shadows}) as site.gateway:
        assert site.ask(stream=stream).text == f"echo: I am {MAIL}"
        wait_until(lambda: site.sent(1), "shadow call")
        site.assert_masked(0, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_summary_is_asked_for_with_placeholders_and_handed_on_with_them(
    site: Site, tmp_path: Path, stream: bool
) -> None:
    combo = {"targets": ["one/m", "two/m"], "strategy": "context-relay"}
    with site.open(tmp_path, combo) as site.gateway:
        handed_over(site)
        site.ask(GOES_ON, stream=stream)
        assert "session_handoff" in site.sent(1)[-1]
        assert "[EMAIL_1]" in msgspec.json.decode(site.sent(1)[-1])["messages"][0]["content"]
        site.assert_masked(0, 1)


def test_a_summary_that_was_made_without_guards_is_looked_at_when_there_are_some(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, {"targets": ["one/m", "two/m"], "strategy": "context-relay"}, ()) as site.gateway:
        handed_over(site)
        made = ask(site.gateway.port, request("POST", "/api/pointsman/guards", msgspec.json.encode(GUARD)))
        assert made.status == 201
        for upstream in site.upstreams:
            upstream.log.clear()
        site.ask(GOES_ON)
        assert "session_handoff" in site.sent(1)[-1]
        site.assert_masked(1)


def test_conversations_that_are_the_same_once_masked_are_two(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, {"targets": ["one/m", "two/m"], "strategy": "context-relay"}) as site.gateway:
        handed_over(site)
        site.ask([{"role": "user", "content": "I am john.roe@example.net"}, *GOES_ON[1:]])
        assert "session_handoff" not in site.sent(1)[-1]
        site.ask(GOES_ON)
        assert "session_handoff" in site.sent(1)[-1]


def test_a_summary_with_words_that_no_answer_may_have_is_no_summary(site: Site, tmp_path: Path) -> None:
    said = [{"role": "user", "content": "my bluebird"}, *GOES_ON[1:]]
    with site.open(tmp_path, {"targets": ["one/m", "two/m"], "strategy": "context-relay"}) as site.gateway:
        site.accounts[0].left = 10
        site.ask(said)
        [record] = wait_until(
            lambda: [one for one in site.gateway.journal.records() if one.route == "handoff"], "record of the summary"
        )
        assert record.error_kind == "content_filtered"
        assert len(site.gateway.server.combos.handoffs) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_panel_sees_placeholders_and_its_answers_are_looked_at_before_the_judge_gets_them(
    site: Site, tmp_path: Path, stream: bool
) -> None:
    combo = {"targets": ["one/m", "two/m"], "strategy": "fusion"}
    said = [{"role": "user", "content": f"T-1234 of {MAIL}"}]
    with site.open(tmp_path, combo) as site.gateway:
        answer = site.ask(said, stream=stream)
        assert answer.status == 200
        judging = [body for place in (0, 1) for body in site.sent(place) if "[Source 1]" in body]
        assert len(judging) == 1
        assert judging[0].count("[T] of [EMAIL_1]") == 2
        assert b"T-1234" not in answer.body
        site.assert_masked(0, 1)


def test_what_has_come_into_the_judges_request_is_looked_at(site: Site, tmp_path: Path) -> None:
    rule = {"name": "sources", "kind": "regex", "patterns": [r"\[Source 2\]\necho: [a-z]+"]}
    guard = {"name": "judge", "everybody": True, "rules": [rule]}
    with site.open(tmp_path, {"targets": ["one/m", "two/m"], "strategy": "fusion"}, [guard]) as site.gateway:
        answer = site.ask([{"role": "user", "content": "hello"}])
        assert (answer.status, answer.error["message"]) == (400, "the request is blocked by a guardrail: judge.sources")
        assert [len(site.sent(place)) for place in (0, 1)] == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_rival_sees_placeholders(site: Site, tmp_path: Path, stream: bool) -> None:
    hedging = {"enabled": True, "least_seconds": 0.03, "least_samples": 1, "max_share": 1, "max_cost_nano_usd": 0}
    with site.open(
        tmp_path, {"targets": ["one/m", "two/m"]}, [GUARD | {"rules": RULES[:1]}], attempts={"hedging": hedging}
    ) as site.gateway:
        site.ask(stream=stream)
        behave(site.upstreams[0], first_token_ms=30_000, headers_ms=30_000)
        assert site.ask(stream=stream).text == f"echo: I am {MAIL}"
        site.assert_masked(0, 1)


def test_who_goes_on_with_a_broken_stream_sees_placeholders_and_the_client_its_values(
    site: Site, tmp_path: Path
) -> None:
    words = f"one two {MAIL} three four five six {MAIL} seven"
    combo = {"targets": ["one/m#fault=cut_mid_stream,after_events=6", "claude/claude-sonnet-4-5"]}
    with site.open(tmp_path, combo, [GUARD | {"rules": RULES[:1]}]) as site.gateway:
        answer = site.ask([{"role": "user", "content": words}], "x-pointsman-continue: 1", stream=True)
        assert answer.text == f"echo: {words}"
        assert "[EMAIL_1]" in site.sent(2)[0]
        site.assert_masked(0, 2)


def test_a_stream_that_guards_hold_is_given_whole_by_the_next_target(site: Site, tmp_path: Path) -> None:
    combo = {"targets": ["one/m#fault=http_500", "claude/claude-sonnet-4-5"]}
    with site.open(tmp_path, combo) as site.gateway:
        said = [{"role": "user", "content": f"T-1234 {MAIL}"}]
        assert site.ask(said, "x-pointsman-continue: 1", stream=True).text == f"echo: [T] {MAIL}"
        site.assert_masked(0, 2)


def test_a_service_that_chooses_a_model_sees_placeholders(site: Site, tmp_path: Path) -> None:
    facts = [{"model": f"one/{name}", "slug": f"sim/{name}", "prompt": 0.1, "completion": 0.1} for name in ("a", "b")]
    with running_simulator(NotDiamond(api_key="nd-key")) as service:
        engine = {"api_key": "nd-key", "base_url": service.base_url.removesuffix("/v1"), "timeout_ms": 5000}
        with site.open(
            tmp_path, {"targets": ["one/a"]}, models=("a", "b"), facts=facts, profiles={"notdiamond": engine}
        ) as site.gateway:
            body = msgspec.json.encode({"model": "cheap", "messages": HELLO})
            assert ask(site.gateway.port, request("POST", CHAT, body)).status == 200
            [asked] = [one.body.decode() for one in service.requests if one.method == "POST"]
            assert "[EMAIL_1]" in asked
            assert MAIL not in asked


def test_a_conversation_that_the_gateway_keeps_is_masked_again_in_every_turn(site: Site, tmp_path: Path) -> None:
    with site.open(tmp_path, {"targets": ["one/m"]}) as site.gateway:
        body = {"model": "one/m", "input": f"I am {MAIL}"}
        first = ask(site.gateway.port, request("POST", "/v1/responses", msgspec.json.encode(body))).json()
        assert MAIL in msgspec.json.encode(first["output"]).decode()
        body = {"model": "one/m", "input": "again", "previous_response_id": first["id"]}
        assert ask(site.gateway.port, request("POST", "/v1/responses", msgspec.json.encode(body))).status == 200
        assert site.sent(0)[-1].count("[EMAIL_1]") == 2
        site.assert_masked(0)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_made_of_several_is_looked_at_whole(site: Site, tmp_path: Path, stream: bool) -> None:
    with site.open(tmp_path, {"targets": ["claude/claude-sonnet-4-5"]}) as site.gateway:
        answer = site.ask([{"role": "user", "content": f"T-1234 of {MAIL}"}], n=2, stream=stream)
        assert len(site.sent(2)) == 2
        assert b"T-1234" not in answer.body
        assert answer.text == f"echo: [T] of {MAIL}" * (2 if stream else 1)  # all choices, or the first
        site.assert_masked(2)
        assert site.ask([{"role": "user", "content": "bluebird"}], n=2, stream=stream).status == 400
