"""The official SDK is the judge of every shape the Anthropic simulator emits."""

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic.types import ModelInfo, ToolUseBlock
from raw_http import KEY

from anthropic_client import (
    BETA_EVENTS,
    CLOCK,
    EVENTS,
    SAY,
    THINK,
    WEATHER,
    ask,
    assert_known,
    assert_strict,
    buffered,
    events,
    frames,
    user,
)
from pointsman.testing import AnthropicMessages, RunningSimulator, running_simulator

SEARCH: Any = {"type": "web_search_20250305", "name": "web_search"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


@pytest.fixture(scope="module")
def claude() -> Iterator[RunningSimulator]:
    with running_simulator(AnthropicMessages(api_key=KEY, models=("sim-model", "sim-large"))) as running:
        yield running


@pytest.fixture(scope="module")
def client(claude: RunningSimulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=claude.origin, api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


def test_a_buffered_answer_has_every_member_of_anthropic(client: anthropic.Anthropic) -> None:
    answer = buffered(client, messages=ask())
    assert [block.to_dict() for block in answer.content] == [{"type": "text", "text": "echo: hello there"}]
    assert (answer.stop_reason, answer.stop_sequence, answer.role) == ("end_turn", None, "assistant")
    assert answer.id.startswith("msg_01")
    assert answer.usage.output_tokens == 3
    assert answer.usage.cache_creation is not None
    assert answer.usage.output_tokens_details is not None


def test_a_streamed_answer_has_anthropics_events_in_their_order(client: anthropic.Anthropic) -> None:
    names = [name for name, _ in frames(client, messages=ask())]
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    first, *_, delta, _ = events(client, messages=ask())
    assert first.message.content == []
    assert first.message.usage.output_tokens == 1
    assert (delta.delta.stop_reason, delta.usage.output_tokens) == ("end_turn", 3)


EVERYTHING: list[dict[str, Any]] = [
    {"messages": ask()},
    {"messages": ask("call the tool twice"), "tools": [WEATHER, CLOCK]},
    {"messages": ask("think, then call the tool"), "tools": [WEATHER], "thinking": THINK},
    {"messages": ask("think in secret"), "thinking": {"type": "adaptive", "display": "omitted"}},
    {
        "messages": ask("search the web and run the code"),
        "tools": [SEARCH, {**SEARCH, "type": "code_execution_20250825", "name": "code_execution"}],
    },
    {"messages": ask("fetch the page"), "tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
    {"messages": ask("please refuse")},
    {"messages": ask("a b c d e f g h"), "max_tokens": 3},
    {"messages": ask("a b c STOP d"), "stop_sequences": ["x", "STOP"]},
]


@pytest.mark.parametrize("arguments", EVERYTHING)
def test_the_sdks_accumulator_builds_the_buffered_answer_from_the_stream(
    client: anthropic.Anthropic, arguments: dict[str, Any]
) -> None:
    whole = buffered(client, **arguments)
    events(client, **arguments)
    with client.messages.stream(**{**SAY, **arguments}) as stream:
        built = stream.get_final_message()
    assert [bare(block) for block in built.content] == [bare(block) for block in whole.content]
    assert (built.stop_reason, built.stop_sequence) == (whole.stop_reason, whole.stop_sequence)
    assert built.usage.to_dict() == whole.usage.to_dict()


def bare(block: pydantic.BaseModel) -> dict[str, Any]:
    """A block without the ids that differ from answer to answer."""
    found = block.model_dump(exclude_none=True, exclude={"id", "tool_use_id", "parsed_output"})
    return found


def test_two_calls_are_two_blocks_with_their_own_ids(client: anthropic.Anthropic) -> None:
    answer = buffered(client, messages=ask("call the tool twice"), tools=[WEATHER, CLOCK])
    first, second = answer.content
    assert isinstance(first, ToolUseBlock)
    assert isinstance(second, ToolUseBlock)
    assert first.input == {"city": "example city", "days": 1, "unit": "c"}
    assert (second.name, second.input) == ("clock", {})
    assert first.id.startswith("toolu_01")
    assert first.id != second.id
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "auto"}, []),
        ({"type": "any"}, ["weather"]),
        ({"type": "tool", "name": "clock"}, ["clock"]),
        ({"type": "none"}, []),
    ],
)
def test_every_tool_choice_is_obeyed(client: anthropic.Anthropic, choice: Any, names: list[str]) -> None:
    answer = buffered(client, messages=ask(), tools=[WEATHER, CLOCK], tool_choice=choice)
    assert [block.name for block in answer.content if block.type == "tool_use"] == names


def test_parallel_calls_can_be_forbidden(client: anthropic.Anthropic) -> None:
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    answer = buffered(client, messages=ask("call the tool twice"), tools=[WEATHER, CLOCK], tool_choice=choice)
    assert len(answer.content) == 1


def test_a_tool_result_is_answered_in_text(client: anthropic.Anthropic) -> None:
    asked = ask("call the tool")
    call = buffered(client, messages=asked, tools=[CLOCK]).content
    result = {"type": "tool_result", "tool_use_id": call[0].id, "content": "12:00", "is_error": False}  # type: ignore[union-attr]
    turns = [*asked, {"role": "assistant", "content": call}, user(result)]
    answer = buffered(client, messages=turns, tools=[CLOCK])
    assert answer.content[0].text == "echo: call the tool"  # type: ignore[union-attr]


def test_a_json_schema_is_obeyed(client: anthropic.Anthropic) -> None:
    class Place(pydantic.BaseModel):
        name: str
        inhabitants: int

    answer = client.messages.parse(**SAY, messages=ask(), output_format=Place)
    assert answer.parsed_output == Place(name="example name", inhabitants=1)


def test_stop_reasons_are_told_with_the_sequence(client: anthropic.Anthropic) -> None:
    stopped = buffered(client, messages=ask("a b STOP c"), stop_sequences=["STOP"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "STOP")
    assert buffered(client, messages=ask("a b c"), max_tokens=2).stop_reason == "max_tokens"
    assert buffered(client, messages=ask(), max_tokens=0).content == []
    refused = buffered(client, messages=ask("please refuse"))
    assert refused.stop_reason == "refusal"
    assert refused.stop_details is not None
    paused = buffered(client, messages=ask("search the web, then pause the turn"), tools=[SEARCH])
    assert paused.stop_reason == "pause_turn"


def test_a_full_context_window_is_a_stop_reason_and_a_longer_prompt_an_error() -> None:
    with (
        running_simulator(AnthropicMessages(context_tokens=20)) as running,
        anthropic.Anthropic(base_url=running.origin, api_key="any", max_retries=0) as small,
    ):
        assert buffered(small, messages=ask("a b c " * 6)).stop_reason == "model_context_window_exceeded"
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 1004 tokens > 20 maximum"):
            buffered(small, messages=ask("word" * 1000))


def test_every_kind_of_source_is_cited(client: anthropic.Anthropic) -> None:
    cited = {"citations": {"enabled": True}}
    text = {"type": "text", "text": "Inner."}
    message = user(
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "One. Two."},
            "title": "T",
            **cited,
        },
        {"type": "document", "source": {"type": "content", "content": [text]}, **cited},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}, **cited},
        {"type": "search_result", "source": "https://s", "title": "S", "content": [text], **cited},
        {"type": "text", "text": "cite"},
    )
    answer = buffered(client, messages=[message])
    kinds = ["char_location", "content_block_location", "page_location", "search_result_location"]
    (block,) = answer.content
    assert block.type == "text"
    assert [one.type for one in block.citations or ()] == kinds
    deltas = [event.delta for event in events(client, messages=[message]) if event.type == "content_block_delta"]
    assert [delta.citation.type for delta in deltas if delta.type == "citations_delta"] == kinds


def test_the_beta_surface_is_read_strictly_too(client: anthropic.Anthropic) -> None:
    arguments: Any = {
        **SAY,
        "messages": ask("ask the server"),
        "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "helper"}],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "betas": ["mcp-client-2025-11-20", "context-management-2025-06-27"],
    }
    response = client.beta.messages.with_raw_response.create(**arguments)
    answer = response.parse()
    assert_strict(answer, response.text())
    assert [block.type for block in answer.content] == ["mcp_tool_use", "mcp_tool_result", "text"]
    with client.beta.messages.with_streaming_response.create(**arguments, stream=True) as streamed:
        lines = [line.removeprefix("data: ") for line in streamed.iter_lines() if line.startswith("data: {")]
    for line in lines:
        if "ping" not in line:
            assert_known(BETA_EVENTS.validate_json(line, strict=True))


def test_tokens_are_counted_as_the_answer_reports_them(client: anthropic.Anthropic) -> None:
    content = [
        {"type": "text", "text": "one two three four"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ]
    arguments: Any = {"messages": [user(*content)], "system": "Be brief.", "tools": [WEATHER], "thinking": THINK}
    counted = client.messages.count_tokens(model="m", **arguments)
    assert counted.input_tokens == buffered(client, **arguments).usage.input_tokens > 100


def test_marked_prefixes_are_written_once_and_read_after(client: anthropic.Anthropic) -> None:
    long, short = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    system = [{"type": "text", "text": "A system prompt of its own. " * 40, "cache_control": long}]
    question = {"type": "text", "text": "A long question. " * 40, "cache_control": short}
    first = buffered(client, system=system, messages=[user(question)]).usage
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_1h_input_tokens == 280
    assert first.cache_creation.ephemeral_5m_input_tokens == 170
    assert first.cache_creation_input_tokens == 450
    again = buffered(client, system=system, messages=[user(question)]).usage
    assert (again.cache_read_input_tokens, again.cache_creation_input_tokens) == (450, 0)
    other = buffered(client, system=system, messages=[user({**question, "text": "Other. " * 40})]).usage
    assert other.cache_read_input_tokens == 280
    plain = client.messages.count_tokens(model="m", system=system, messages=[user(question)])  # type: ignore[arg-type]
    assert plain.input_tokens == first.input_tokens + 450 == again.input_tokens + 450


def test_one_mark_for_the_whole_request_stands_on_its_last_block(client: anthropic.Anthropic) -> None:
    asked = ask("marked automatically " * 30)
    assert buffered(client, messages=asked, cache_control={"type": "ephemeral"}).usage.cache_creation_input_tokens
    followed = [*asked, {"role": "assistant", "content": "yes"}, user("and now")]
    usage = buffered(client, messages=followed, cache_control={"type": "ephemeral"}).usage
    assert usage.cache_read_input_tokens == 158


def test_models_are_listed_in_pages_and_found(client: anthropic.Anthropic) -> None:
    assert [model.id for model in client.models.list(limit=1)] == ["sim-model", "sim-large"]
    response = client.models.with_raw_response.retrieve("sim-large")
    answer = response.parse()
    assert isinstance(answer, ModelInfo)
    assert_known(answer)
    with pytest.raises(anthropic.NotFoundError, match="model: sim-none"):
        client.models.retrieve("sim-none")


def test_limits_and_the_requests_id_stand_in_the_head(client: anthropic.Anthropic) -> None:
    response = client.messages.with_raw_response.create(**SAY, messages=ask())
    assert response.headers["request-id"].startswith("req_01")
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        assert int(response.headers[f"anthropic-ratelimit-{name}-remaining"]) > 0


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        ("rate_limit", anthropic.RateLimitError, "rate_limit_error"),
        ("rate_limit_bare", anthropic.RateLimitError, "rate_limit_error"),
        ("http_500", anthropic.InternalServerError, "api_error"),
        ("http_503", anthropic.InternalServerError, "overloaded_error"),
        ("unauthorized", anthropic.AuthenticationError, "authentication_error"),
        ("bad_request", anthropic.BadRequestError, "invalid_request_error"),
        ("context_length", anthropic.BadRequestError, "invalid_request_error"),
        ("reset", anthropic.APIConnectionError, None),
        ("close", anthropic.APIConnectionError, None),
    ],
)
def test_each_fault_is_the_sdks_own_error(
    client: anthropic.Anthropic, fault: str, error: type[Exception], kind: str | None
) -> None:
    with pytest.raises(error) as caught:
        client.messages.create(**{**SAY, "model": f"m#fault={fault}"}, messages=ask())
    if isinstance(caught.value, anthropic.APIStatusError):
        assert caught.value.type == kind
        body: Any = caught.value.body
        assert body["request_id"] == caught.value.request_id
        assert (caught.value.response.headers.get("retry-after") is not None) == (fault == "rate_limit")


def test_overloaded_is_529_and_named_so(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**{**SAY, "model": "m#fault=http_503"}, messages=ask())
    assert caught.value.status_code == 529


def test_an_error_event_is_raised_by_the_sdk_in_mid_stream(client: anthropic.Anthropic) -> None:
    asked: Any = {**SAY, "model": "m#fault=error_event,after_events=4", "messages": ask()}
    stream = client.messages.create(**asked, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(stream)


@pytest.mark.parametrize(
    ("fault", "last"), [("missing_terminator", "content_block_stop"), ("missing_done", "message_delta")]
)
def test_terminators_can_be_missing(client: anthropic.Anthropic, fault: str, last: str) -> None:
    assert frames(client, messages=ask(), model=f"m#fault={fault}")[-1][0] == last


def test_usage_can_be_missing_or_wrong(client: anthropic.Anthropic) -> None:
    bare = client.messages.with_raw_response.create(**{**SAY, "model": "m#fault=no_usage"}, messages=ask())
    assert "usage" not in bare.json()
    wrong = buffered(client, messages=ask(), model="m#fault=wrong_usage").usage
    assert wrong.input_tokens > 1_000_000


def test_keys_are_demanded_in_either_header(claude: RunningSimulator, client: anthropic.Anthropic) -> None:
    assert buffered(client, messages=ask(), extra_headers={"authorization": "", "x-api-key": KEY}).content
    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        client.models.list(extra_headers={"x-api-key": "wrong"})
    with (
        anthropic.Anthropic(base_url=claude.origin, auth_token="wrong", max_retries=0) as other,
        pytest.raises(anthropic.AuthenticationError, match="Invalid bearer token"),
    ):
        other.models.list()


def test_every_event_is_known(client: anthropic.Anthropic) -> None:
    kinds = {event.type for event in events(client, EVENTS, messages=ask("call the tool"), tools=[CLOCK])}
    assert kinds == {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
