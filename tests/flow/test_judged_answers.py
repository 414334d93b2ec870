"""Webhooks that judge answers: whole and streamed, of every outcome, and what happens when they give no judgement."""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from guard_hook_server import HookServer, running_hook
from pointsman.identity.keys import NewKey
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import CHAT, Answer, Connection, ask, chat_body, request

MAIL = "jane.doe@example.org"
PERSONAL = {"name": "mail", "kind": "personal", "find": ["email"], "action": "redact", "where": "both"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
KINDS = ("closed", "open", "hasty", "outer")


class Site:
    """A gateway before two upstreams; keys of each kind are bound to another webhook."""

    def __init__(self, gateway: RunningGateway, upstreams: list[RunningSimulator], hook: HookServer) -> None:
        self.gateway = gateway
        self.upstreams = upstreams
        self.hook = hook
        self._keys: dict[str, str] = {}

    def key(self, kind: str) -> str:
        """A key that names the guard ``kind``."""
        if kind not in self._keys:
            installation = self.gateway.installation

            async def make() -> str:
                _, secret = await installation.keys.issue(NewKey(name=kind, settings={"guards": [kind]}))
                assert await installation.await_revision(await installation.configuration.revision())
                return secret.reveal()

            self._keys[kind] = self.gateway.call(make())
        return self._keys[kind]

    def message(self, text: str, kind: str = "closed", **members: Any) -> bytes:
        """A request of such a key."""
        body = chat_body(text=text, **{"model": "one/sim-model", **members})
        return request("POST", CHAT, body, key=self.key(kind))

    def say(self, text: str, kind: str = "closed", **members: Any) -> Answer:
        """Its answer."""
        return ask(self.gateway.port, self.message(text, kind, **members))

    @property
    def sent(self) -> int:
        """How often an upstream was asked."""
        return sum(len(upstream.requests) for upstream in self.upstreams)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        upstreams = [stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2)]
        hook = stack.enter_context(running_hook())
        judge = {"name": "judge", "kind": "webhook", "url": hook.url, "where": "answer", "secret": "s3cret"}
        judge |= {"timeout_seconds": 30}  # a busy machine is slow
        kinds = {"closed": {}, "open": {"on_failure": "open"}, "hasty": {"timeout_seconds": 0.05}}
        guards = [{"name": kind, "rules": [PERSONAL, judge | more]} for kind, more in kinds.items()]
        guards.append({"name": "outer", "rules": [judge | {"allow_private": False}]})
        rows = [
            {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
            for name, upstream in zip(("one", "two"), upstreams, strict=True)
        ]
        combos = [{"name": "pair", "targets": ["one/sim-model", "two/sim-model"]}]
        settings = {"connections": rows, "guards": guards, "combos": combos}
        gateway = stack.enter_context(running_gateway(tmp_path_factory.mktemp("gateway"), settings))
        yield Site(gateway, upstreams, hook)


@pytest.fixture
def site(shared_site: Site) -> Site:
    for upstream in shared_site.upstreams:
        upstream.log.clear()
    shared_site.hook.allow()
    return shared_site


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_judged_as_the_rules_left_it_and_signed(site: Site, stream: bool) -> None:
    answer = site.say(f"I am {MAIL}", stream=stream)
    assert (answer.status, answer.text) == (200, f"echo: I am {MAIL}")
    [asked], [head] = site.hook.asked, site.hook.heads
    assert asked["texts"] == [{"role": "assistant", "text": "echo: I am [EMAIL_1]"}]
    assert (asked["type"], asked["rule"], asked["model"]) == ("guard.answer", "closed.judge", "one/sim-model")
    assert asked["request_id"] == answer.request_id
    stamp, _, signature = head["x-pointsman-signature"].partition(",v1=")
    body = msgspec.json.encode(asked)
    assert hmac.new(b"s3cret", stamp.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest() == signature


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_blocked_is_an_error_and_costs(site: Site, stream: bool) -> None:
    site.hook.answer = {"action": "block"}
    answer = site.say("bad", stream=stream)
    assert answer.status == 400
    assert answer.error["message"] == "the answer is blocked by a guardrail: closed.judge"
    record = site.gateway.journal.the(answer.request_id)
    assert (record.error_kind, record.guards) == ("content_filtered", '[["closed.judge","block",1]]')
    assert record.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_webhook_writes_other_words_and_values_still_come_back(site: Site, stream: bool) -> None:
    site.hook.answer = {"action": "redact", "texts": ["ask [EMAIL_1]"]}
    assert site.say(f"I am {MAIL}", stream=stream).text == f"ask {MAIL}"


def test_the_arguments_of_a_tools_call_are_judged_and_stay_json(site: Site) -> None:
    text = f'call look {{"where": "{MAIL}"}}'
    answer = site.say(text, tools=[TOOL], tool_choice="required")
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert MAIL not in msgspec.json.encode(site.hook.asked).decode()


def test_a_stream_is_held_until_it_is_judged(site: Site) -> None:
    site.hook.held.clear()
    with Connection(site.gateway.port) as connection:
        connection.send(site.message("wait for it", stream=True))
        wait_until(lambda: site.hook.asked, "question to the webhook")
        records = site.gateway.journal.records()
        site.hook.held.set()
        answer = connection.answer()
    assert answer.text == "echo: wait for it"
    assert answer.request_id not in [record.request_id for record in records]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "said"), [(500, {}), (200, b"no"), (200, {"action": "redact", "texts": []})])
def test_no_judgement_closes_the_way_and_is_nobodys_fault(site: Site, status: int, said: Any, stream: bool) -> None:
    site.hook.status, site.hook.answer = status, said
    answer = site.say("unjudged", model="pair", stream=stream)
    assert answer.status == 503
    assert "'closed.judge' could not be asked" in answer.error["message"]
    assert site.sent == 1  # another upstream's answer would not be judged either
    assert site.gateway.read(lambda: site.gateway.server.health.quiet)
    assert site.gateway.journal.the(answer.request_id).output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_no_judgement_lets_the_answer_through_where_that_is_wanted(site: Site, stream: bool) -> None:
    site.hook.status = 500
    answer = site.say("let it go", "open", stream=stream)
    assert (answer.status, answer.text) == (200, "echo: let it go")
    failed = site.gateway.read(lambda: dict(site.gateway.server.guards.counters()["pointsman_guard_failures"][2]()))
    assert failed["open.judge"] >= 1


def test_a_webhook_has_its_time_and_no_more(site: Site) -> None:
    site.hook.held.clear()
    answer = site.say("late", "hasty")
    assert answer.status == 503
    assert "no answer within 0.05 s" in answer.error["message"]


def test_a_webhook_at_a_private_address_is_called_only_where_that_is_allowed(site: Site) -> None:
    answer = site.say("inside", "outer")
    assert answer.status == 503
    assert site.hook.asked == []


def test_the_webhooks_of_both_sides_are_asked_in_turn(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream, running_hook() as hook:
        row = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        rule = {"name": "judge", "kind": "webhook", "url": hook.url, "where": "both"}
        settings = {"connections": [row], "guards": [{"name": "all", "everybody": True, "rules": [rule]}]}
        with running_gateway(tmp_path, settings) as gateway:
            answer = ask(gateway.port, request("POST", CHAT, chat_body(text="both"), key=KEY))
    assert answer.text == "echo: both"
    assert [(asked["type"], asked["texts"][0]["text"]) for asked in hook.asked] == [
        ("guard.request", "both"),
        ("guard.answer", "echo: both"),
    ]
