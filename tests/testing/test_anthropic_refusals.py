"""What the Anthropic simulator refuses, and that it says so in Anthropic's words."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_client import CLOCK, SAY, THINK, WEATHER, ask, buffered, user
from pointsman.testing import AnthropicMessages, Behaviour, RunningSimulator, running_simulator
from pointsman.testing.reply import Request

CALL: Any = {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {}}
RESULT: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"}
TEXT: Any = {"type": "text", "text": "x"}


@pytest.fixture(scope="module")
def claude() -> Iterator[RunningSimulator]:
    with running_simulator(AnthropicMessages()) as running:
        yield running


@pytest.fixture(scope="module")
def client(claude: RunningSimulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=claude.origin, api_key="any", max_retries=0, timeout=20) as sdk:
        yield sdk


def refusal(client: anthropic.Anthropic, headers: dict[str, str] | None = None, **members: Any) -> str:
    """The message of the 400 that a request with these members gets."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**SAY, messages=ask(), extra_body=members, extra_headers=headers)
    assert caught.value.type == "invalid_request_error"
    return caught.value.api_message or ""


def thought_turn(client: anthropic.Anthropic, text: str = "think in secret, then call the tool") -> tuple[Any, Any]:
    """A conversation up to a tool's result, and the blocks of the assistant's turn in it."""
    answer = buffered(client, messages=ask(text), tools=[CLOCK], thinking=THINK)
    blocks: Any = [block.to_dict() for block in answer.content]
    return lambda turn: [
        *ask(text),
        {"role": "assistant", "content": turn},
        user({**RESULT, "tool_use_id": blocks[-1]["id"]}),
    ], blocks


def test_thinking_that_comes_back_as_it_was_is_taken(client: anthropic.Anthropic) -> None:
    conversation, blocks = thought_turn(client)
    assert [block["type"] for block in blocks] == ["thinking", "redacted_thinking", "tool_use"]
    answer = buffered(client, messages=conversation(blocks), tools=[CLOCK], thinking=THINK)
    assert answer.stop_reason == "end_turn"


def test_thinking_is_checked_in_every_turn_of_a_tool_loop(client: anthropic.Anthropic) -> None:
    conversation, blocks = thought_turn(client)
    again = [
        *conversation(blocks),
        {"role": "assistant", "content": [{**CALL, "id": "toolu_2"}]},
        user({**RESULT, "tool_use_id": "toolu_2"}),
    ]
    assert buffered(client, messages=again, tools=[CLOCK], thinking=THINK).stop_reason == "end_turn"
    again[1] = {"role": "assistant", "content": blocks[1:]}
    assert "cannot be modified" in refusal(client, messages=again, tools=[CLOCK], thinking=THINK)


@pytest.mark.parametrize("key", ["thinking", "signature"])
def test_changed_thinking_or_signature_is_refused(client: anthropic.Anthropic, key: str) -> None:
    conversation, blocks = thought_turn(client)
    changed = [{**blocks[0], key: "B" + blocks[0][key][1:]}, *blocks[1:]]
    told = refusal(client, messages=conversation(changed), tools=[CLOCK], thinking=THINK)
    assert told == "messages.1.content.0: Invalid `signature` in `thinking` block"


def test_changed_redacted_thinking_is_refused(client: anthropic.Anthropic) -> None:
    conversation, blocks = thought_turn(client)
    changed = [blocks[0], {**blocks[1], "data": blocks[1]["data"][:-8] + "AAAAAAA="}, blocks[2]]
    told = refusal(client, messages=conversation(changed), tools=[CLOCK], thinking=THINK)
    assert told == "messages.1.content.1: Invalid `data` in `redacted_thinking` block"


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ((2,), "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."),
        ((0, 2), "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message"),
        ((1, 2), "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message"),
        ((1, 0, 2), "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message"),
        ((0, 0, 1, 2), "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant"),
        ((0, 2, 1), "messages.1.content.2: `thinking` or `redacted_thinking` blocks in the latest assistant message"),
    ],
)
def test_missing_or_moved_thinking_is_refused(client: anthropic.Anthropic, order: tuple[int, ...], told: str) -> None:
    conversation, blocks = thought_turn(client)
    turn = [blocks[at] for at in order]
    assert refusal(client, messages=conversation(turn), tools=[CLOCK], thinking=THINK).startswith(told)


def test_adaptive_thinking_may_be_missing(client: anthropic.Anthropic) -> None:
    conversation, blocks = thought_turn(client)
    answer = buffered(client, messages=conversation(blocks[2:]), tools=[CLOCK], thinking={"type": "adaptive"})
    assert answer.content[0].type == "thinking"


def test_thinking_of_another_provider_is_refused(client: anthropic.Anthropic) -> None:
    conversation, blocks = thought_turn(client)
    with (
        running_simulator(AnthropicMessages(signing_key=b"another")) as running,
        anthropic.Anthropic(base_url=running.origin, api_key="any", max_retries=0) as other,
    ):
        assert "Invalid `signature`" in refusal(other, messages=conversation(blocks), tools=[CLOCK], thinking=THINK)


def assistant(*blocks: Any) -> Any:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": "hi"}, "messages: Input should be a valid list"),
        ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"made_up": 1}, "made_up: Extra inputs are not permitted"),
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"mcp_servers": []}, "mcp_servers: Extra inputs are not permitted"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "messages.0.role: Input should be 'user', 'assistant' or 'system'",
        ),
        ({"messages": [{"role": "system", "content": "x"}]}, 'messages.0: a message with role "system" must follow'),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [user({"type": "nope"})]}, "messages.0.content.0: Input tag 'nope' found using 'type' does not"),
        ({"messages": [user({**TEXT, "x": 1})]}, "messages.0.content.0.text.x: Extra inputs are not permitted"),
        (
            {"messages": [user({"type": "text", "text": ""})]},
            "messages.0.content.0.text.text: String should have at least 1",
        ),
        (
            {"messages": [user({**TEXT, "cache_control": {"type": "ephemeral", "ttl": "2h"}})]},
            "messages.0.content.0.text.cache_control.ephemeral.ttl: Input should be '5m' or '1h'",
        ),
        (
            {"messages": [user(*[{**TEXT, "cache_control": {"type": "ephemeral"}}] * 5)]},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            {
                "messages": [
                    user(
                        {**TEXT, "cache_control": {"type": "ephemeral"}},
                        {**TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                    )
                ]
            },
            "messages.0.content.1.cache_control.ttl: a ttl='1h' cache_control block must not come after",
        ),
        (
            {"messages": [*ask(), assistant(CALL), user("and?")]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1.",
        ),
        (
            {"messages": [user(RESULT)]},
            "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1.",
        ),
        (
            {"messages": [*ask(), assistant(CALL), user(RESULT, RESULT)]},
            "messages.2.content.1: each tool_use must have a single result.",
        ),
        ({"messages": [user(CALL)]}, "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages"),
        (
            {"messages": [*ask(), {"role": "assistant", "content": "yes "}]},
            "messages: final assistant content cannot end with trailing whitespace",
        ),
        (
            {
                "messages": [
                    user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}})
                ]
            },
            "messages.0.content.0.image.source.base64.data: Could not process image",
        ),
        (
            {
                "messages": [
                    user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "/9j/4AAQ"}})
                ]
            },
            "messages.0.content.0.image.source.base64.data: The image was specified using the image/png media type",
        ),
        (
            {"messages": [*ask(), assistant({"type": "document", "source": {"type": "url", "url": "x"}}), user("x")]},
            "messages.1.content.0: `document` blocks are not permitted",
        ),
        ({"tools": [{"name": "x"}]}, "tools.0.custom.input_schema: Field required"),
        (
            {"tools": [{**CLOCK, "name": "a b"}]},
            "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        ({"tools": [CLOCK, CLOCK]}, "tools: Tool names must be unique."),
        (
            {"tools": [{"type": "web_search_20250305", "name": "search"}]},
            "tools.0.web_search_20250305.name: Input should be 'web_search'",
        ),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "tools.0: Input tag 'function' found using 'type' does not match",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice: Tool choice may only be specified while providing tools."),
        ({"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found in provided tools"),
        ({"tools": [CLOCK], "tool_choice": "auto"}, "tool_choice: Input should be an object"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 100}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 10_000}},
            "`max_tokens` must be greater than `thinking.budget_tokens`.",
        ),
        (
            {"thinking": THINK, "tools": [WEATHER], "tool_choice": {"type": "any"}},
            "Thinking may not be enabled when tool_choice forces tool use.",
        ),
        (
            {"output_config": {"effort": "huge"}},
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format: Input tag 'json_object' found"),
        ({"service_tier": "flex"}, "service_tier: Input should be 'auto' or 'standard_only'"),
        ({"metadata": {"user": "x"}}, "metadata.user: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_request_is_refused_with_the_place_named(
    client: anthropic.Anthropic, members: dict[str, Any], told: str
) -> None:
    assert refusal(client, **members).startswith(told)


def test_the_older_version_still_takes_temperature(client: anthropic.Anthropic) -> None:
    older = {"anthropic-version": "2023-06-01"}
    assert client.messages.create(**SAY, messages=ask(), extra_body={"temperature": 0.5}, extra_headers=older).content
    told = refusal(client, older, temperature=2)
    assert told == "temperature: Input should be less than or equal to 1"
    assert "`temperature` may only be set to 1" in refusal(client, older, temperature=0.5, thinking=THINK)


def test_a_version_is_demanded_and_betas_are_read(client: anthropic.Anthropic) -> None:
    assert (
        refusal(client, {"anthropic-version": "2020-01-01"}) == 'anthropic-version: "2020-01-01" is not a valid version'
    )
    assert refusal(client, {"anthropic-version": ""}) == "anthropic-version: header is required"
    assert refusal(client, {"anthropic-beta": "nonsense"}).startswith("Unexpected value(s) `nonsense` for the")


def test_an_unknown_path_method_or_model_is_refused() -> None:
    api = AnthropicMessages(models=("known",), only_listed=True)
    assert status(api, "GET", "/v1/messages", {}) == 405
    assert status(api, "POST", "/v1/complete", {}) == 404
    assert status(api, "POST", "/v1/messages", {"model": "other", "max_tokens": 9, "messages": ask()}) == 404
    assert status(api, "POST", "/v1/messages", {"model": "known#tokens=1", "max_tokens": 9, "messages": ask()}) == 200


def test_what_is_not_strict_takes_what_it_can_understand() -> None:
    api = AnthropicMessages(strict=False)
    body = {"model": "m", "messages": [user(RESULT)], "made_up": 1, "temperature": 0.1}
    assert status(api, "POST", "/v1/messages", body, version="") == 200


def status(api: AnthropicMessages, method: str, path: str, body: Any, version: str = "2026-10-21") -> int:
    asked = Request(
        method=method,
        path=path,
        headers=(("anthropic-version", version),),
        body=json.dumps(body).encode(),
        http_version="1.1",
        keep_alive=True,
    )
    reply = api.answer(asked, Behaviour())
    list(reply.events or ())
    return reply.status


ODD = st.sampled_from([None, True, 3, "x", [], [1], ["x"], [[]], [{}], {}, {"type": []}, {"type": "text"}])


def shape(**members: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these members, each as it should be or odd."""
    return st.fixed_dictionaries({}, optional={name: value | ODD for name, value in members.items()})


BLOCK = (
    shape(type=st.just("text"), text=st.just("call the tool twice"), cache_control=st.just({"type": "ephemeral"}))
    | shape(type=st.just("thinking"), thinking=st.text(max_size=3), signature=st.text(max_size=9))
    | shape(type=st.just("redacted_thinking"), data=st.text(max_size=9))
    | shape(type=st.just("tool_use"), id=st.just("a"), name=st.just("f"), input=st.just({}))
    | shape(type=st.just("tool_result"), tool_use_id=st.just("a"), content=st.just([TEXT]))
    | shape(
        type=st.just("document"),
        source=shape(type=st.just("text"), data=st.just("x"), media_type=st.just("text/plain")),
    )
    | shape(
        type=st.just("image"),
        source=shape(type=st.just("base64"), data=st.just("aGk="), media_type=st.just("image/png")),
    )
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]) | ODD,
        "content": st.just("call the tool") | st.lists(BLOCK, max_size=3),
    }
)
REQUEST = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(MESSAGE | ODD, min_size=1, max_size=3)},
    optional={
        "max_tokens": st.just(2000) | ODD,
        "stream": st.booleans(),
        "system": st.just("s") | st.lists(BLOCK, max_size=1) | ODD,
        "tools": st.lists(
            shape(name=st.just("f"), input_schema=shape(type=st.just("object"), properties=ODD)), max_size=2
        )
        | ODD,
        "tool_choice": shape(type=st.sampled_from(["any", "tool", "none"]), name=st.just("f")) | ODD,
        "thinking": shape(type=st.sampled_from(["enabled", "adaptive"]), budget_tokens=st.just(1024)) | ODD,
        "output_config": shape(format=shape(type=st.just("json_schema"), schema=ODD)) | ODD,
        "stop_sequences": ODD,
        "cache_control": ODD,
    },
)


@settings(max_examples=300, deadline=None)
@given(request=REQUEST, strict=st.booleans(), count=st.booleans())
def test_whatever_json_comes_is_answered_or_refused(request: dict[str, Any], strict: bool, count: bool) -> None:
    path = "/v1/messages/count_tokens" if count else "/v1/messages"
    assert status(AnthropicMessages(strict=strict), "POST", path, request) in (200, 400)
