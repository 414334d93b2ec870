"""An upstream dies in the middle of its stream, and another one goes on: in every API that clients speak."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import ollama
import openai
import pytest
from google import genai
from google.genai import types as genai_types

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.canonical.record import Outcome
from pointsman.settings import AttemptSettings
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator
from pointsman.upstream.terms import is_continued
from raw_client import CHAT, Answer, ask, request

WORDS = "one two three four five six seven eight"
WHOLE = f"echo: {WORDS}"
ON = "x-pointsman-continue: 1"
CUTS = ("cut_mid_stream", "reset_mid_stream", "malformed_chunk", "missing_terminator", "error_event", "stall")
MIDWAY = [*(f"{fault},after_events={count}" for fault in ("cut_mid_stream", "error_event") for count in (4, 6))]
EVERYWHERE = [(count, ("cut_mid_stream", "error_event")[count % 2]) for count in range(2, 11)]
GEMINI = "/v1beta/models/{model}:streamGenerateContent"
PATHS = {
    "openai.chat": CHAT,
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "openrouter": "/openrouter/api/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": GEMINI + "?alt=sse",
    "gemini array": GEMINI,
    "ollama.chat": "/api/chat",
    "ollama.generate": "/api/generate",
}


class Site:
    """A gateway before an OpenAI upstream that breaks and an Anthropic one that goes on."""

    def __init__(self, gateway: RunningGateway, broken: RunningSimulator, claude: RunningSimulator) -> None:
        self.gateway = gateway
        self.broken = broken
        self.claude = claude

    def ask(self, api: str, model: str, *headers: str, text: str = WORDS, **members: Any) -> Answer:
        """A streamed request in the words of an API."""
        body: dict[str, Any] = {"model": model, "stream": True, **members}
        if api == "openai.responses":
            body["input"] = text
        elif api in ("openai.completions", "ollama.generate"):
            body["prompt"] = text
        elif api.startswith("gemini"):
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}], **members}
        else:
            body["messages"] = [{"role": "user", "content": text}]
            body = {"max_tokens": 60, **body} if api == "anthropic" else body
        path = PATHS[api].format(model=model)
        return ask(self.gateway.port, request("POST", path, msgspec.json.encode(body), "connection: close", *headers))


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        broken = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)))
        claude = stack.enter_context(running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)))
        rows: list[dict[str, Any]] = []
        combos: list[dict[str, Any]] = []
        plain = {"api_key": UPSTREAM_KEY}
        for fault in (*CUTS, *MIDWAY):
            name = fault.replace(",", "-").replace("=", "")
            rows.append({"id": name, "kind": "openai", "base_url": broken.base_url, "provider": name, **plain})
            combos.append({"name": name, "targets": [f"{name}/sim-model#fault={fault}", "claude/claude-sonnet-4-5"]})
        rows += [
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin, **plain},
            {
                "id": "again",
                "kind": "anthropic",
                "base_url": claude.origin,
                "provider": "again",
                "options": {"prefill": "true"},
                **plain,
            },
            {"id": "never", "kind": "openai", "base_url": broken.base_url, "provider": "never", **plain},
            {"id": "never2", "kind": "openai", "base_url": broken.base_url, "provider": "never2", **plain},
        ]
        cut, later = (f"fault=cut_mid_stream,after_events={count}" for count in (4, 7))
        cut = f"sim-model#{cut}"
        thought = "fault=cut_mid_stream,after_events=12"
        combos += [
            {"name": "nobody", "targets": [f"never/{cut}", "never2/sim-model"]},
            {"name": "twice", "targets": [
                f"never/{cut}", f"again/claude-sonnet-4-5#{later}", "claude/claude-haiku-4-5",
            ]},
            {"name": "spaced", "targets": [f"never/{cut}", "claude/claude-sonnet-4-5"]},
            {"name": "filled", "targets": [
                "never/sim-model#fault=stall,after_events=4", "again/claude-sonnet-4-5#fault=context_length",
            ]},
            {"name": "thoughtful", "targets": [f"again/claude-sonnet-4-5#{thought}", "claude/claude-sonnet-4-5"]},
            *({"name": f"cut {count}", "targets": [
                f"never/sim-model#fault={fault},after_events={count}", "claude/claude-sonnet-4-5",
            ]} for count, fault in EVERYWHERE),
        ]  # fmt: skip
        settings = {
            "connections": rows,
            "combos": combos,
            "upstream": {"idle_timeout_seconds": 0.4},
        }
        gateway = stack.enter_context(running_gateway(tmp_path_factory.mktemp("gateway"), settings))
        yield Site(gateway, broken, claude)


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.gateway.read(lambda: shared_site.gateway.server.health.reset(0))
    shared_site.broken.log.clear()
    shared_site.claude.log.clear()
    return shared_site


def values(answer: Answer) -> list[Any]:
    """The JSON values of a stream, in whichever frame they come; comments and names of events are left out."""
    if answer.body.startswith(b"["):
        return list(json.loads(answer.body))
    lines = (line.removeprefix(b"data: ") for line in answer.body.splitlines())
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def said(api: str, answer: Answer) -> str:
    """The text of an answer."""
    parts = []
    for value in values(answer):
        match api:
            case "openai.chat" | "openrouter":
                parts += [choice["delta"].get("content") or "" for choice in value.get("choices", ())]
            case "openai.completions":
                parts += [choice["text"] for choice in value.get("choices", ())]
            case "openai.responses":
                parts += [value["delta"]] if value["type"] == "response.output_text.delta" else []
            case "anthropic":
                parts += [value["delta"].get("text", "")] if value["type"] == "content_block_delta" else []
            case "ollama.chat":
                parts.append(value["message"]["content"])
            case "ollama.generate":
                parts.append(value["response"])
            case _:
                content = [one.get("content", {}) for one in value.get("candidates", ())]
                parts += [part.get("text", "") for one in content for part in one.get("parts", ())]
    return "".join(parts)


def fails(answer: Answer) -> bool:
    """Whether a stream tells an error."""
    return b'"error":{' in answer.body


def seam(answer: Answer) -> Any:
    """What the stream says of its seam."""
    marks = [line for line in answer.body.replace(b",\r\n", b"\n").splitlines() if b'"continued_by"' in line]
    assert len(marks) == 1, answer.body
    return json.loads(marks[0].partition(b"{")[1] + marks[0].partition(b"{")[2])["pointsman"]


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("fault", ["cut_mid_stream-after_events4", "error_event-after_events6"])
def test_the_answer_goes_on_at_another_target(site: Site, api: str, fault: str) -> None:
    answer = site.ask(api, fault, ON)
    assert (answer.status, said(api, answer), answer.complete) == (200, WHOLE, True)
    assert not fails(answer)
    told = seam(answer)
    assert (told["continued_by"], told["reason"]) == ("claude/claude-sonnet-4-5", "upstream_error")
    assert 0 < told["after_characters"] < len(WHOLE)
    record = site.gateway.journal.the(answer.request_id)
    assert (record.outcome, record.status, record.connection_id) == (Outcome.SUCCESS, 200, "claude")
    [first] = msgspec.json.decode(record.attempts or "")
    assert (first[0].partition("/")[0], first[1]) == (fault, "interrupted: upstream_error")
    assert "claude/claude-sonnet-4-5 goes on after" in (record.fidelity or "")


@pytest.mark.parametrize("fault", CUTS)
def test_whatever_ends_the_first_part(site: Site, fault: str) -> None:
    answer = site.ask("openai.chat", fault, ON)
    # Every word was given when the terminator is missing: the simulator has a full stop to add.
    assert said("openai.chat", answer) == (f"{WHOLE}." if fault == "missing_terminator" else WHOLE)
    assert answer.events[-1] == "[DONE]"
    assert answer.events[-2]["choices"][0]["finish_reason"] == "stop"


def test_both_parts_are_counted_once_each_and_the_client_is_told_their_sum(site: Site) -> None:
    answer = site.ask(
        "openai.chat", MIDWAY[0].replace(",", "-").replace("=", ""), ON, stream_options={"include_usage": True}
    )
    record = site.gateway.journal.the(answer.request_id)
    [first, second] = [*site.broken.requests, *site.claude.requests]
    assert (first.status, second.status) == (200, 200)
    [usage] = [event["usage"] for event in answer.events if event != "[DONE]" and event.get("usage")]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (record.input_tokens, record.output_tokens)
    assert record.usage_estimated, "the first had not told its usage"


def test_what_was_given_is_sent_as_the_beginning_and_no_space_is_doubled_or_lost(site: Site) -> None:
    answer = site.ask("anthropic", "spaced", ON)
    assert said("anthropic", answer) == WHOLE
    [sent] = [json.loads(one.body)["messages"] for one in site.claude.requests]
    assert [message["role"] for message in sent] == ["user", "assistant"]
    begun, given = sent[-1]["content"], seam(answer)["after_characters"]
    assert begun == WHOLE[:given].rstrip()


@pytest.mark.parametrize("api", ["openai.chat", "anthropic"])
def test_wherever_it_is_cut_no_word_is_lost_or_doubled(site: Site, api: str) -> None:
    for count, _ in EVERYWHERE:
        site.gateway.read(lambda: site.gateway.server.health.reset(0))
        answer = site.ask(api, f"cut {count}", ON)
        # All words may be there before the end is cut off: the simulator has a full stop to add then.
        assert said(api, answer).removesuffix(".") == WHOLE, count
        assert not fails(answer)


def test_thoughts_stay_and_the_text_goes_on(site: Site) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    answer = site.ask("anthropic", "thoughtful", ON, thinking=thinking, max_tokens=4000, text=WORDS)
    assert said("anthropic", answer) == WHOLE, answer.body
    assert answer.body.count(b'"type":"thinking_delta"') > 1
    sent = json.loads(site.claude.requests[-1].body)
    assert sent["messages"][-1]["role"] == "assistant"
    assert sent.get("thinking", {"type": "disabled"}) == {"type": "disabled"}


def test_the_same_target_goes_on_itself_when_there_is_no_other(site: Site) -> None:
    answer = site.ask("openai.chat", "again/claude-sonnet-4-5#fault=cut_mid_stream,after_events=6,fail_first=1", ON)
    assert said("openai.chat", answer) == WHOLE
    record = site.gateway.journal.the(answer.request_id)
    assert (record.outcome, len(site.claude.requests)) == (Outcome.SUCCESS, 2)


def test_an_answer_may_break_twice(site: Site) -> None:
    answer = site.ask("openai.chat", "twice", ON)
    assert said("openai.chat", answer) == WHOLE
    record = site.gateway.journal.the(answer.request_id)
    assert record.target == "claude/claude-haiku-4-5"
    assert len(msgspec.json.decode(record.attempts or "")) == 2
    assert answer.body.count(b"continued_by") == 2


def test_where_nobody_can_go_on_the_stream_ends_with_an_error_that_names_all(site: Site) -> None:
    for api in ("openai.chat", "anthropic", "openai.responses"):
        answer = site.ask(api, "nobody", ON)
        assert b"can't go on with an answer" in answer.body
        assert b"never2/sim-model" in answer.body
        assert site.gateway.journal.the(answer.request_id).outcome is Outcome.ERROR
        site.gateway.read(lambda: site.gateway.server.health.reset(0))


def test_who_only_refuses_to_go_on_is_not_held_to_have_broken(site: Site) -> None:
    answer = site.ask("openai.chat", "filled", ON)
    assert fails(answer)
    health, now = site.gateway.server.health, site.gateway.server.gateway.clock.now_us
    views = site.gateway.read(lambda: health.views(now()))
    assert [view.name for view in views if view.scope == "connection"] == ["never"]


def test_a_setting_or_a_combo_may_ask_for_it_and_a_request_may_decline(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broken = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        claude = stack.enter_context(running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)))
        plain = {"api_key": UPSTREAM_KEY}
        rows = [
            {"id": "one", "kind": "openai", "base_url": broken.base_url, **plain},
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin, **plain},
        ]
        targets = ["one/sim-model#fault=cut_mid_stream,after_events=4", "claude/claude-sonnet-4-5"]
        document = {"connections": rows, "combos": [{"name": "pair", "targets": targets}]}
        gateway = stack.enter_context(running_gateway(tmp_path, {**document, "attempts": {"continuation": True}}))
        site = Site(gateway, broken, claude)
        assert said("openai.chat", site.ask("openai.chat", "pair")) == WHOLE
        gateway.read(lambda: gateway.server.health.reset(0))
        assert fails(site.ask("openai.chat", "pair", "x-pointsman-continue: 0"))
    assert is_continued(AttemptSettings(), {"continuation": True}, {})
    assert not is_continued(AttemptSettings(), {}, {})


def test_it_is_off_unless_it_is_asked_for(site: Site) -> None:
    for headers in ((), ("x-pointsman-continue: 0",)):
        answer = site.ask("openai.chat", "spaced", *headers)
        assert fails(answer)
        assert not site.claude.requests
        site.gateway.read(lambda: site.gateway.server.health.reset(0))


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def test_a_half_given_tool_call_is_never_gone_on_with(site: Site) -> None:
    say = 'call the tool look with {"where": "everywhere, and then some more of it"}'
    answer = site.ask("openai.chat", "spaced", ON, text=say, tools=[TOOL])
    assert b"tool_calls" in answer.body
    assert fails(answer)
    assert not site.claude.requests


def test_an_answer_that_is_bound_to_a_form_is_never_gone_on_with(site: Site) -> None:
    answer = site.ask("openai.chat", "spaced", ON, response_format={"type": "json_object"}, text="say JSON")
    assert fails(answer)
    assert not site.claude.requests


def test_an_answer_that_does_not_break_is_as_without(site: Site) -> None:
    answer = site.ask("openai.chat", "never2/sim-model", ON)
    assert said("openai.chat", answer) == WHOLE
    assert b"continued_by" not in answer.body


def test_official_clients_take_no_notice_of_the_seam(site: Site) -> None:
    place, model = site.gateway.address, "spaced"
    headers = {"x-pointsman-continue": "1"}

    def heal() -> None:
        site.gateway.read(lambda: site.gateway.server.health.reset(0))

    with openai.OpenAI(base_url=f"{place}/v1", api_key=KEY, default_headers=headers) as one:
        chunks = one.chat.completions.create(model=model, messages=[{"role": "user", "content": WORDS}], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == WHOLE
    heal()
    with anthropic.Anthropic(base_url=place, api_key=KEY, default_headers=headers) as two:
        stream = two.messages.create(
            model=model, max_tokens=60, messages=[{"role": "user", "content": WORDS}], stream=True
        )
        deltas = [event.delta for event in stream if event.type == "content_block_delta"]
        assert "".join(delta.text for delta in deltas if delta.type == "text_delta") == WHOLE
    heal()
    options = genai_types.HttpOptions(base_url=place, headers=headers)
    three = genai.Client(api_key=KEY, http_options=options)
    found = three.models.generate_content_stream(model=model, contents=WORDS)
    assert "".join(chunk.text or "" for chunk in found) == WHOLE
    three.close()
    heal()
    with ollama.Client(host=place, headers={**headers, "Authorization": f"Bearer {KEY}"}) as four:
        lines = four.chat(model, [{"role": "user", "content": WORDS}], stream=True)
        assert "".join(line.message.content or "" for line in lines) == WHOLE
