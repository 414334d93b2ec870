"""What requests of stored combos do: turns, conversations, altered calls, answers that are looked at, places."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]
PRICED = "one/priced"
GOES_ON: Any = [*HELLO, {"role": "assistant", "content": "echo: hello there"}, {"role": "user", "content": "again"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("read_file", "write_file")
]


class Site:
    """A gateway before two upstreams, whose combos are made over its API."""

    def __init__(self, upstreams: list[RunningSimulator]) -> None:
        self.upstreams = upstreams
        self.settings: dict[str, Any] = {
            "facts": [{"model": PRICED, "prompt": 1, "completion": 2}],  # USD per million tokens
            "connections": [
                {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
                for name, upstream in zip(("one", "two"), upstreams, strict=True)
            ],
        }
        self.gateway: RunningGateway

    def make(self, name: str, *models: str, **rest: Any) -> None:
        """Create a combo."""
        body = {"name": name, "models": list(models or ("one/sim-model", "two/sim-model")), **rest}
        headers = {"authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{self.gateway.address}/api/combos", json=body, headers=headers)
        assert answer.status_code == 201, answer.text

    def ask(self, model: str, messages: Any = HELLO, **rest: Any) -> Any:
        """One request; of a stream its chunks."""
        with openai.OpenAI(base_url=f"{self.gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
            answer = client.chat.completions.create(model=model, messages=messages, **rest)
            return list(answer) if rest.get("stream") else answer

    def where(self, model: str, messages: Any = HELLO, **rest: Any) -> int:
        """Which upstream answered a request."""
        before = [len(upstream.requests) for upstream in self.upstreams]
        self.ask(model, messages, **rest)
        after = [len(upstream.requests) for upstream in self.upstreams]
        [place] = [place for place, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
        return place


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site([stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2)])


@pytest.fixture
def running(site: Site, tmp_path: Path) -> Iterator[Site]:
    with running_gateway(tmp_path, site.settings) as gateway:
        site.gateway = gateway
        yield site


def test_turns_go_on_and_conversations_stay_where_they_were_after_a_restart(site: Site, tmp_path: Path) -> None:
    with running_gateway(tmp_path, site.settings) as site.gateway:
        site.make("turns", strategy="round-robin")
        found = [site.where("turns") for _ in range(3)]
        assert found == [0, 1, 0]
        assert [site.where("turns", GOES_ON) for _ in range(3)] == [0, 0, 0]
    with running_gateway(tmp_path, site.settings) as site.gateway:
        assert site.where("turns", GOES_ON) == 0
        turn = site.gateway.read(lambda: site.gateway.server.combo_memory._memories["turns"].turn)
        assert turn == 7


def test_new_conversations_that_begin_alike_are_not_bound_to_each_other(running: Site) -> None:
    running.make("turns", strategy="round-robin")
    assert [running.where("turns") for _ in range(4)] == [0, 1, 0, 1]


def test_a_session_that_the_client_names_stays_at_its_target(running: Site) -> None:
    running.make("turns", strategy="round-robin")
    named = {"x-session-id": "mine"}
    first = running.where("turns", extra_headers=named)
    assert [running.where("turns", extra_headers=named) for _ in range(3)] == [first] * 3
    running.make("free", strategy="round-robin", config={"disableSessionStickiness": True})
    assert [running.where("free", extra_headers=named) for _ in range(4)] == [0, 1, 0, 1]


def test_a_combo_has_its_own_system_message_and_leaves_tools_out(running: Site) -> None:
    running.make("strict", system_message="Be brief.", tool_filter_regex="^read_")
    messages = [{"role": "system", "content": "Be long."}, *HELLO]
    choice: Any = {"type": "function", "function": {"name": "write_file"}}
    running.ask("strict", messages, tools=TOOLS, tool_choice=choice)
    sent = msgspec.json.decode(running.upstreams[0].requests[0].body)
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *HELLO]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["read_file"]
    assert sent.get("tool_choice", "auto") == "auto"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_fails_validation_counts_as_a_failed_target(running: Site, stream: bool) -> None:
    rules = {"jsonPathPredicates": [{"path": "$.model", "condition": "equals", "value": "good"}], "streams": True}
    running.make("checked", "one/sim-model", "two/good", config={"responseValidation": rules})
    answer = running.ask("checked", stream=stream)
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    else:
        text = answer.choices[0].message.content
    assert text == "echo: hello there"
    assert [len(upstream.requests) for upstream in running.upstreams] == [1, 1]
    record = running.gateway.journal.records()[-1]
    [attempt] = msgspec.json.decode(record.attempts or "")
    assert attempt[:2] == ["one/sim-model", "response_validation"]
    assert (record.combo, record.target) == ("checked", "two/good")
    assert record.input_tokens > 0


def test_what_a_rejected_answer_cost_is_told_though_the_next_target_fails(running: Site) -> None:
    rules = {"responseValidation": {"requiredSubstrings": ["never said"]}}
    running.make("dear", PRICED, "two/sim-model#fault=http_500", config=rules)
    with pytest.raises(openai.InternalServerError):
        running.ask("dear")
    record = running.gateway.journal.records()[-1]
    assert running.upstreams[1].requests
    assert record.cost_nano_usd == record.input_tokens * 1_000 + record.output_tokens * 2_000 > 0


def test_a_call_that_was_never_sent_is_not_counted_against_its_connection(site: Site, tmp_path: Path) -> None:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as third:
        place = {"base_url": third.origin, "api_key": UPSTREAM_KEY}
        site.settings["connections"].append({"id": "narrow", "kind": "anthropic", **place, "requests_per_minute": 1})
        with running_gateway(tmp_path, site.settings) as site.gateway:
            rules = {"responseValidation": {"requiredSubstrings": ["never said"]}}
            site.make("picky", "one/sim-model", "narrow/sim-model", config=rules)
            strict = {"x-pointsman-strict": "1"}
            with pytest.raises(openai.APIStatusError):
                site.ask("picky", logit_bias={"1": 1}, extra_headers=strict)
            assert (len(site.upstreams[0].requests), len(third.requests)) == (1, 0)
            site.ask("narrow/sim-model")
            with pytest.raises(openai.RateLimitError):
                site.ask("narrow/sim-model")


def test_nothing_is_held_against_a_connection_whose_answer_failed_validation(running: Site) -> None:
    running.make("picky", "one/sim-model", config={"responseValidation": {"requiredSubstrings": ["never said"]}})
    for _ in range(2):
        with pytest.raises(openai.InternalServerError, match="requiredSubstrings"):
            running.ask("picky")
    assert len(running.upstreams[0].requests) == 2


def test_a_full_target_is_passed_over(running: Site) -> None:
    slow = "one/sim-model#pace_ms=200,tokens=5"
    running.make("narrow", slow, "two/sim-model", config={"concurrencyPerModel": 1, "queueDepth": 0})
    with openai.OpenAI(base_url=f"{running.gateway.address}/v1", api_key=KEY, timeout=20) as client:
        stream = client.chat.completions.create(model="narrow", messages=HELLO, stream=True)
        next(iter(stream))
        answer = running.ask("narrow")
        assert answer.choices[0].message.content == "echo: hello there"
        assert len(running.upstreams[1].requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_judge_makes_one_answer_of_a_panels_and_all_is_counted_once(running: Site, stream: bool) -> None:
    running.make("panel", "one/first", "two/second", strategy="fusion", config={"judgeModel": "two/judge"})
    answer = running.ask("panel", stream=stream)
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    else:
        text = answer.choices[0].message.content
    assert "[Source 1]" in text  # the simulator repeats the last turn
    assert "[Source 2]" in text
    bodies = [msgspec.json.decode(one.body) for upstream in running.upstreams for one in upstream.requests]
    assert sorted(body["model"] for body in bodies) == ["first", "judge", "second"]
    [record] = [one for one in running.gateway.journal.records() if one.combo == "panel"]
    assert record.target == "two/judge"
    asked = [body for body in bodies if body["model"] != "judge"]
    assert not any(body.get("stream") for body in asked)
    alone = running.gateway.journal.records()[-1]
    assert record.input_tokens > 3
    assert alone.request_id == record.request_id


def test_one_answer_of_a_panel_is_enough_and_none_is_an_error_that_names_all(running: Site) -> None:
    running.make("none", "one/a#fault=bad_request", "two/b#fault=bad_request", strategy="fusion")
    with pytest.raises(openai.InternalServerError, match=r"one/a.*=status_400, two/b.*=status_400") as caught:
        running.ask("none")
    assert caught.value.status_code == 503
    running.make("half", "one/m#fault=http_500", "two/m", strategy="fusion")
    assert running.ask("half").choices[0].message.content == "echo: hello there"
