"""Guards and the response cache together: what is kept of a guarded answer, who gets it, and what they see of it."""

from array import array
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from guard_hook_server import HookServer, running_hook
from pointsman.identity.keys import NewKey
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, ask, chat_body, request

ON = "x-pointsman-cache: on"
JANE, JOHN = "jane.doe@example.org", "john.roe@example.net"
MAIL = {"name": "mail", "kind": "personal", "find": ["email"], "action": "redact"}
TICKET = {"name": "ticket", "kind": "regex", "patterns": ["T-[0-9]{4}"], "where": "answer", "action": "redact"}
ZEBRA = {"name": "word", "kind": "keywords", "words": ["zebra"], "where": "answer"}
LION = {"name": "word", "kind": "keywords", "words": ["lion"]}
GEMINI = "/v1beta/models/sim/sim-model:"
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses", "/api/chat", GEMINI)


def body_of(path: str, text: str) -> dict[str, Any]:
    """What an API asks with."""
    if path == GEMINI:
        return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    if path == "/v1/responses":
        return {"input": text}
    if path == "/v1/completions":
        return {"prompt": text}
    return {"max_tokens": 90, "messages": [{"role": "user", "content": text}]}


class Site:
    """A gateway whose calls are guarded, before an upstream."""

    def __init__(self, gateway: RunningGateway, simulator: RunningSimulator, hook: HookServer) -> None:
        self.gateway = gateway
        self.simulator = simulator
        self.hook = hook

    def say(self, text: str, path: str = PATHS[0], *, stream: bool = False, key: str = KEY) -> Answer:
        """An answer to the text in an API, which the cache may give."""
        body = body_of(path, text)
        if path == GEMINI:
            path += "streamGenerateContent?alt=sse" if stream else "generateContent"
        else:
            body |= {"model": "sim/sim-model", "stream": stream}
        return ask(self.gateway.port, request("POST", path, msgspec.json.encode(body), ON, key=key))

    def new_key(self, **more: Any) -> str:
        """The secret of a new key that is in effect."""
        installation = self.gateway.installation

        async def make() -> str:
            _, secret = await installation.keys.issue(NewKey(name="another", **more))
            assert await installation.await_revision(await installation.configuration.revision())
            return secret.reveal()

        return self.gateway.call(make())


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as simulator, running_hook() as hook:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        judge = {"name": "judge", "kind": "webhook", "url": hook.url, "where": "answer"}
        guards = [
            {"name": "all", "everybody": True, "rules": [MAIL, TICKET]},
            {"name": "zebra", "rules": [ZEBRA]},
            {"name": "lion", "rules": [LION]},
            {"name": "judged", "rules": [judge]},
        ]
        settings = {"connections": [row], "guards": guards, "cache": {"semantic": {"enabled": True}}}
        with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
            yield Site(gateway, simulator, hook)


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.simulator.log.clear()
    shared_site.hook.allow()
    return shared_site


def outcome(answer: Answer) -> str:
    """What the cache did for an answer."""
    return answer.headers["x-pointsman-cache"]


@pytest.mark.parametrize("then", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_everybody_gets_their_own_values_and_never_anothers(site: Site, path: str, first: bool, then: bool) -> None:
    said = f"{path} {first} {then} write to"
    one = site.say(f"{said} {JANE}", path, stream=first)
    two = site.say(f"{said} {JOHN}", path, stream=then)
    assert (one.status, two.status) == (200, 200)
    assert (outcome(one), outcome(two)) == ("miss", "hit")
    assert JANE.encode() in one.body
    assert JANE.encode() not in two.body
    assert JOHN.encode() in two.body
    assert len(site.simulator.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_redacted_in_an_answer_is_so_in_what_is_kept(site: Site, stream: bool) -> None:
    text = f"T-1234 redacted {stream}"
    answers = [site.say(text, stream=stream) for _ in range(2)]
    assert [outcome(answer) for answer in answers] == ["miss", "hit"]
    for answer in answers:
        assert b"T-1234" not in answer.body
        assert "[REDACTED]" in answer.text


def test_what_is_kept_holds_no_value_that_was_masked(site: Site) -> None:
    site.say(f"once {JANE}")
    cache: Any = site.gateway.server.gateway.cache
    held = site.gateway.read(lambda: [one.data for one in cache._held.values()])
    assert all(JANE.encode() not in data for data in held)
    assert any(b"once [EMAIL_1]" in data for data in held)


def test_who_is_under_other_guards_gets_no_answer_that_was_made_under_these(site: Site) -> None:
    plain, under = site.new_key(), site.new_key(settings={"guards": ["lion"]})
    text = "guards apart"
    answers = [site.say(text, key=key) for key in (plain, under, under)]
    assert [outcome(answer) for answer in answers] == ["miss", "miss", "hit"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_guards_block_is_not_kept(site: Site, stream: bool) -> None:
    key = site.new_key(settings={"guards": ["zebra"]})
    assert [site.say(f"a zebra {stream}", stream=stream, key=key).status for _ in range(2)] == [400, 400]
    assert len(site.simulator.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_is_judged_again_and_a_block_is_a_block(site: Site, stream: bool) -> None:
    key = site.new_key(settings={"guards": ["judged"]})
    text = f"judged {JANE} {stream}"
    first, again = (site.say(text, stream=stream, key=key) for _ in range(2))
    assert (outcome(first), outcome(again)) == ("miss", "hit")
    assert [row["texts"][0]["text"] for row in site.hook.asked] == [f"echo: judged [EMAIL_1] {stream}"] * 2
    site.hook.answer = {"action": "block"}
    refused = site.say(text, stream=stream, key=key)
    assert refused.status == 400
    assert b"the answer is blocked" in refused.body
    record = site.gateway.journal.the(refused.request_id)
    assert (record.cost_nano_usd, record.cache_source) == (0, first.request_id)
    assert len(site.simulator.requests) == 1


def test_what_a_webhook_wrote_is_kept_and_judged_again(site: Site) -> None:
    key = site.new_key(settings={"guards": ["judged"]})
    site.hook.answer = {"action": "redact", "texts": ["nothing to see"]}
    assert site.say("rewritten", key=key).text == "nothing to see"
    site.hook.allow()
    again = site.say("rewritten", key=key)
    assert (outcome(again), again.text) == ("hit", "nothing to see")
    assert site.hook.asked[-1]["texts"] == [{"role": "assistant", "text": "nothing to see"}]


def test_a_question_is_compared_as_the_guards_left_it(site: Site) -> None:
    seen: list[str] = []

    class Vectors:
        async def vector(self, text: str) -> "array[float]":
            seen.append(text)
            return array("f", [1.0, 0.0])

    gateway = site.gateway.server.gateway
    gateway.vectors = Vectors()
    key = site.new_key(settings={"cache": "semantic"})
    try:
        answers = [
            ask(site.gateway.port, request("POST", PATHS[0], chat_body(text=text), key=key))
            for text in (f"What is the meaning of {JANE} to me?", f"what is the meaning of  {JOHN} to me")
        ]
    finally:
        gateway.vectors = None
    assert seen == ["What is the meaning of [EMAIL_1] to me?", "what is the meaning of  [EMAIL_1] to me"]
    assert [outcome(answer) for answer in answers] == ["miss", "semantic"]
    assert answers[1].text == f"echo: What is the meaning of {JOHN} to me?"
