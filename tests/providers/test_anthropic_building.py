"""What other APIs' clients ask, as Anthropic takes it: sent, or named in the ledger, and accepted by the simulator."""

import base64
import json
from typing import Any

import pytest

from anthropic_passage import UPSTREAM, ask, body_of
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import Upstream
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
    Citation,
    FilePart,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.canonical.request import (
    OPTIONS,
    Message,
    OutputFormat,
    ReasoningOptions,
    Request,
    Tool,
    ToolChoice,
)
from pointsman.errors import GatewayError, Kind
from pointsman.providers import anthropic as provider
from pointsman.providers.anthropic.generations import generation_of
from pointsman.testing import AnthropicMessages

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
LOOK = Tool(kind="function", name="look", parameters={"type": "object"}, path="tools[0]")


def message(role: Any, *parts: AnyPart | str, number: int = 0, **members: Any) -> Message:
    """A message whose parts have paths like an OpenAI client's."""
    path = f"messages[{number}]"
    made: list[AnyPart] = [TextPart(text=part) if isinstance(part, str) else part for part in parts]
    for at, part in enumerate(made):
        part.path = part.path or f"{path}.content[{at}]"
    return Message(role=role, parts=made, path=path, **members)


def request(*messages: Message, **options: Any) -> Request:
    return Request(wire="openai.chat", model="m", messages=list(messages) or [message("user", "Hi")], **options)


def build(asked: Request, model: str = "sim-model", **upstream: Any) -> tuple[dict[str, Any], Fidelity]:
    """The body and the ledger; the simulator, as strict as Anthropic, takes the body."""
    fidelity = Fidelity()
    built = provider.build_request(asked, Upstream(model=model, **upstream), fidelity)
    reply = ask(AnthropicMessages(), built)
    assert reply.status == 200, reply.body
    return body_of(built), fidelity


def notes(fidelity: Fidelity) -> dict[str, str]:
    return {note.path: note.action.value for note in fidelity.notes}


def test_system_text_stands_apart_and_later_ones_are_marked() -> None:
    body, fidelity = build(
        request(
            message("system", "One."),
            message("developer", "Two.", number=1),
            message("user", "Hi", number=2),
            message("system", TextPart(text="Three.", cache=CacheMark()), " ", number=3),
            message("user", "Go on", number=4, name="Ann"),
        )
    )
    assert [block["text"] for block in body["system"]] == ["One.", "Two."]
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "text", "text": "<system>\nThree.\n</system>", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Go on"},
            ],
        }
    ]
    assert notes(fidelity) == {
        "max_output_tokens": "synthesised",
        "messages[3]": "approximated",
        "messages[3].content[1]": "dropped",
        "messages[4].name": "dropped",
    }


def test_a_prompt_of_system_text_alone_becomes_the_users() -> None:
    body, fidelity = build(request(message("system", "Do it.")))
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": "Do it."}]
    assert notes(fidelity)["messages[0]"] == "approximated"


def test_parallel_calls_and_their_results_keep_their_order_and_ids() -> None:
    calls = [ToolCallPart(id=f"call:{n}", name="look", arguments=f'{{"n":{n}}}') for n in (1, 2)]
    results = [ToolResultPart(call_id=f"call:{n}", content=[TextPart(text=f"r{n}")]) for n in (2, 1)]
    body, fidelity = build(
        request(
            message("user", "Go"),
            message("assistant", "Well:", *calls, number=1),
            message("user", "And", number=2),
            message("user", *results, number=3),
            tools=[LOOK],
        )
    )
    _, asked, answered = body["messages"]
    ids = [block["id"] for block in asked["content"][1:]]
    assert len(set(ids)) == 2
    assert [block["input"] for block in asked["content"][1:]] == [{"n": 1}, {"n": 2}]
    assert [block["type"] for block in answered["content"]] == ["tool_result", "tool_result", "text"]
    assert [block["tool_use_id"] for block in answered["content"][:2]] == [ids[1], ids[0]]
    assert Action.DROPPED not in fidelity.counts


def test_arguments_that_are_no_object_are_the_callers_mistake() -> None:
    call = ToolCallPart(id="c", name="look", arguments="[1", path="messages[1].tool_calls[0].function.arguments")
    with pytest.raises(GatewayError) as caught:
        provider.build_request(request(message("assistant", call)), UPSTREAM, Fidelity())
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, call.path)


def test_foreign_reasoning_is_named_and_not_sent() -> None:
    sealed = Opaque(origin="openai.responses", kind="encrypted", data="x")
    body, fidelity = build(
        request(
            message("user", "Hi"),
            message("assistant", ReasoningPart(text="Hm", opaque=sealed), "Hello", number=1),
            message("user", "Go", number=2),
        )
    )
    assert body["messages"][1] == {"role": "assistant", "content": "Hello"}
    assert notes(fidelity)["messages[1].content[0]"] == "dropped"


def test_pictures_and_documents_in_every_form() -> None:
    text = base64.b64encode("Grüße".encode()).decode()
    body, fidelity = build(
        request(
            message(
                "user",
                ImagePart(source=Source(data=PNG, media_type="image/png"), detail="high"),
                ImagePart(source=Source(url=f"data:image/png;base64,{PNG}")),
                ImagePart(source=Source(data=PNG)),
                ImagePart(source=Source(url="https://x/y.png"), cache=CacheMark(ttl="1h")),
                FilePart(source=Source(data="JVBERg==", media_type="application/pdf"), filename="a.pdf"),
                FilePart(source=Source(data=text, media_type="text/markdown"), title="T", filename="b.md"),
                FilePart(text="Plain", context="C", citations=True),
                "See",
            )
        )
    )
    blocks = body["messages"][0]["content"]
    assert [block["source"]["type"] for block in blocks[:-1]] == ["base64"] * 3 + ["url", "base64", "text", "text"]
    assert blocks[3]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert blocks[4]["title"] == "a.pdf"
    assert blocks[5]["source"]["data"] == "Grüße"
    assert (blocks[6]["context"], blocks[6]["citations"]) == ("C", {"enabled": True})
    assert notes(fidelity)["messages[0].content[0].detail"] == "dropped"


@pytest.mark.parametrize(
    "part",
    [
        AudioPart(source=Source(data="AAAA"), format="wav"),
        VideoPart(source=Source(url="https://x/y.mp4")),
        ImagePart(source=Source(data="AAAA", media_type="image/bmp")),
        FilePart(source=Source(data="AAAA", media_type="application/zip")),
        FilePart(source=Source(file_id="file-openai")),
    ],
)
def test_content_that_anthropic_cannot_have_is_refused_by_name(part: AnyPart) -> None:
    with pytest.raises(GatewayError) as caught:
        provider.build_request(request(message("user", part)), UPSTREAM, Fidelity())
    assert (caught.value.kind, caught.value.param) == (Kind.UNSUPPORTED, "messages[0].content[0]")


def test_what_the_assistant_said_otherwise_is_text_or_named() -> None:
    body, fidelity = build(
        request(
            message("user", "Hi"),
            message(
                "assistant",
                RefusalPart(text="No."),
                AudioPart(source=Source(), id="audio_1", transcript="Said"),
                NativePart(wire="gemini", type="executableCode", value={"code": "1"}),
                TextPart(text="x", citations=[Citation(url="https://x")]),
                "",
                " ",
                number=1,
            ),
            message("user", "Go", number=2),
        )
    )
    assert [block["text"] for block in body["messages"][1]["content"]] == ["No.", "Said", "x"]
    told = notes(fidelity)
    assert told["messages[1].content[0]"] == "mapped"
    assert told["messages[1].content[1]"] == "approximated"
    assert told["messages[1].content[2]"] == "dropped"
    assert told["messages[1].content[3].citations"] == "dropped"
    assert told["messages[1].content[4]"] == "mapped"  # nothing is lost with an empty text
    assert told["messages[1].content[5]"] == "dropped"


def test_tools_of_every_kind() -> None:
    tools = [
        Tool(kind="function", name="bare", path="tools[0]"),
        Tool(
            kind="function",
            name="strict",
            parameters={"type": "object", "properties": {}},
            strict=True,
            path="tools[1]",
        ),
        Tool(kind="custom", name="free", format={"type": "grammar"}, path="tools[2]", cache=CacheMark()),
        Tool(
            kind="native",
            name="web_search",
            wire="openai.responses",
            value={
                "type": "web_search",
                "user_location": {"type": "approximate", "city": "Ulm"},
                "search_context_size": "low",
            },
            path="tools[3]",
        ),
        Tool(
            kind="native", name="file_search", wire="openai.responses", value={"type": "file_search"}, path="tools[4]"
        ),
    ]
    body, fidelity = build(request(tools=tools, tool_choice=ToolChoice(mode="required"), parallel_tool_calls=False))
    bare, strict, free, search = body["tools"]
    assert bare["input_schema"] == {"type": "object", "properties": {}}
    assert strict["strict"] is True
    assert free["input_schema"]["required"] == ["input"]
    assert free["cache_control"] == {"type": "ephemeral"}
    assert search["user_location"] == {"type": "approximate", "city": "Ulm"}
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    told = notes(fidelity)
    assert told["tools[2].format"] == told["tools[3].search_context_size"] == told["tools[4]"] == "dropped"


@pytest.mark.parametrize(
    ("choice", "written", "names"),
    [
        (ToolChoice(mode="auto"), {"type": "auto"}, ["look", "see"]),
        (ToolChoice(mode="none"), {"type": "none"}, ["look", "see"]),
        (ToolChoice(mode="tool", name="see"), {"type": "tool", "name": "see"}, ["look", "see"]),
        (ToolChoice(mode="required", allowed=("see",)), {"type": "any"}, ["see"]),
    ],
)
def test_every_choice_of_tools(choice: ToolChoice, written: Any, names: list[str]) -> None:
    see = Tool(kind="function", name="see", parameters={"type": "object"})
    body, _ = build(request(tools=[LOOK, see], tool_choice=choice))
    assert body["tool_choice"] == written
    assert [tool["name"] for tool in body["tools"]] == names


CASES: list[Any] = [
    # model, options, limit -> thinking, effort, max_tokens
    ("sim-model", {"effort": "high"}, None, {"type": "enabled", "budget_tokens": 24_576}, None, 28_672),
    ("sim-model", {"effort": "low"}, 20_000, {"type": "enabled", "budget_tokens": 4000}, None, 20_000),
    ("claude-sonnet-4-5", {"effort": "minimal"}, 5000, {"type": "enabled", "budget_tokens": 1024}, None, 5000),
    ("claude-opus-4-8", {"effort": "high"}, 5000, {"type": "adaptive"}, "high", 5000),
    ("claude-fable-5-2", {"effort": "minimal"}, 5000, {"type": "adaptive"}, "low", 5000),
    ("claude-opus-5", {"max_tokens": 20_000, "enabled": True}, 30_000, {"type": "adaptive"}, "high", 30_000),
    ("claude-sonnet-4-6", {"max_tokens": 2000}, 30_000, {"type": "enabled", "budget_tokens": 2000}, None, 30_000),
    (
        "claude-haiku-4-5",
        {"adaptive": True, "enabled": True},
        9000,
        {"type": "enabled", "budget_tokens": 4500},
        None,
        9000,
    ),
    ("sim-model", {"max_tokens": 100}, 9000, {"type": "enabled", "budget_tokens": 1024}, None, 9000),
    ("sim-model", {"max_tokens": 8000}, 4000, {"type": "enabled", "budget_tokens": 2000}, None, 4000),
    ("sim-model", {"max_tokens": 2000}, 500, {"type": "enabled", "budget_tokens": 2000}, None, 2500),
    ("sim-model", {"effort": "none"}, 500, {"type": "disabled"}, None, 500),
    ("sim-model", {"enabled": False}, 500, {"type": "disabled"}, None, 500),
    ("claude-opus-5", {"enabled": True, "exclude": True}, 500, {"type": "adaptive", "display": "omitted"}, None, 500),
    (
        "claude-opus-5",
        {"effort": "max", "summary": "auto"},
        500,
        {"type": "adaptive", "display": "summarized"},
        "max",
        500,
    ),
]


@pytest.mark.parametrize(("model", "options", "limit", "thinking", "effort", "most"), CASES)
def test_effort_and_budgets_are_what_the_model_takes(
    model: str, options: Any, limit: int | None, thinking: Any, effort: str | None, most: int
) -> None:
    body, _ = build(request(reasoning=ReasoningOptions(**options), max_output_tokens=limit), model)
    assert (body["thinking"], body["max_tokens"]) == (thinking, most)
    assert body.get("output_config", {}).get("effort") == effort


def test_a_forced_tool_is_worth_more_than_thinking() -> None:
    asked = request(tools=[LOOK], tool_choice=ToolChoice(mode="required"), reasoning=ReasoningOptions(effort="high"))
    body, fidelity = build(asked)
    assert "thinking" not in body
    assert notes(fidelity)["reasoning"] == "dropped"


@pytest.mark.parametrize(
    ("model", "options", "kept", "lost"),
    [
        ("claude-sonnet-4-0", {"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature", "top_p", "top_k"}, set()),
        ("claude-haiku-4-5", {"temperature": 0.5, "top_p": 0.9}, {"temperature"}, {"top_p"}),
        ("claude-opus-4-8", {"temperature": 0.5, "top_p": 0.9, "top_k": 3}, set(), {"temperature", "top_p", "top_k"}),
        ("sim-model", {"temperature": 0.5, "reasoning": ReasoningOptions(effort="low")}, set(), {"temperature"}),
        ("sim-model", {"temperature": 1, "reasoning": ReasoningOptions(effort="low")}, {"temperature"}, set()),
    ],
)
def test_sampling_options_go_where_they_are_taken(model: str, options: Any, kept: set[str], lost: set[str]) -> None:
    body, fidelity = build(request(**options), model)
    assert {name for name in ("temperature", "top_p", "top_k") if name in body} == kept
    assert {note.path for note in fidelity.notes if note.action is Action.DROPPED} == lost


def test_a_temperature_above_anthropics_highest_is_lowered() -> None:
    body, fidelity = build(request(temperature=1.7))
    assert body["temperature"] == 1.0
    assert notes(fidelity)["temperature"] == "approximated"


def test_a_schema_is_closed_and_its_limits_are_said() -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "Count"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/x"}},
        },
        "$defs": {"x": {"anyOf": [{"type": "object", "properties": {}}, {"type": "null"}]}},
    }
    body, fidelity = build(
        request(output_format=OutputFormat(kind="json_schema", name="x", schema=schema, strict=True)), "claude-opus-4-8"
    )
    written = body["output_config"]["format"]["schema"]
    assert written["additionalProperties"] is False
    assert written["properties"]["n"] == {"type": "integer", "description": "Count (minimum: 1)"}
    assert written["$defs"]["x"]["anyOf"][0]["additionalProperties"] is False
    assert schema["properties"]["n"]["minimum"] == 1  # type: ignore[index]
    told = notes(fidelity)
    assert told["output_format.schema"] == "approximated"
    assert told["output_format.name"] == "dropped"


def test_what_models_lack_follows_from_their_names() -> None:
    def lacking(model: str) -> frozenset[str]:
        return provider.lacks(Upstream(model=model))

    assert lacking("claude-opus-5") == {"choices", "json_object"}
    for model in ("claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "glm-5"):
        assert lacking(model) == {"choices", "json_object", "json_schema"}


@pytest.mark.parametrize(
    ("model", "budgets", "adaptive"),
    [
        ("claude-3-5-haiku-20241022", True, False),
        ("claude-sonnet-4-20250514", True, False),
        ("anthropic/claude-haiku-4.5", True, False),
        ("claude-opus-4-1-20250805", True, False),
        ("claude-opus-4-6", True, True),
        ("claude-opus-4-7", False, True),
        ("claude-mythos-preview", True, True),
        ("claude-sonnet-5-5", False, True),
        ("MiniMax-M3", True, True),
    ],
)
def test_generations_are_read_from_names(model: str, budgets: bool, adaptive: bool) -> None:
    found = generation_of(model)
    assert (found.budgets, found.adaptive) == (budgets, adaptive)


# Every option as some client may set it, and the members of the body that carry it when it is not noted.
EVERY_OPTION: dict[str, Any] = {
    "tool_choice": ToolChoice(mode="required"),
    "parallel_tool_calls": False,
    "max_tool_calls": 3,
    "output_format": OutputFormat(kind="json_schema", schema={"type": "object", "additionalProperties": False}),
    "reasoning": ReasoningOptions(effort="low"),
    "max_output_tokens": 9000,
    "choices": 2,
    "stop": ["END"],
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "min_p": 0.1,
    "top_a": 0.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "repetition_penalty": 0.1,
    "seed": 1,
    "logit_bias": {"1": 1.0},
    "logprobs": True,
    "top_logprobs": 2,
    "service_tier": "default",
    "verbosity": "low",
    "user": "u",
    "safety_identifier": "s",
    "metadata": {"a": "b"},
    "store": False,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "cache": CacheMark(),
    "modalities": ["text", "audio"],
    "audio": {"voice": "x"},
    "prediction": {"type": "content"},
    "web_search": {"search_context_size": "low"},
    "betas": ("x-2025-01-01",),
}
CARRIED: dict[str, str] = {
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "tool_choice",
    "output_format": "output_config",
    "reasoning": "thinking",
    "max_output_tokens": "max_tokens",
    "stop": "stop_sequences",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "service_tier": "service_tier",
    "user": "metadata",
    "cache": "cache_control",
    "web_search": "tools",
}


def test_the_leaf_test_knows_every_option() -> None:
    assert set(EVERY_OPTION) == set(OPTIONS)


@pytest.mark.parametrize("name", EVERY_OPTION)
def test_every_option_is_sent_or_named(name: str) -> None:
    options = {name: EVERY_OPTION[name]}
    if name in ("tool_choice", "parallel_tool_calls"):
        options["tools"] = [LOOK]
    asked = request(**options)
    fidelity = Fidelity()
    built = provider.build_request(asked, UPSTREAM, fidelity)
    told = notes(fidelity)
    if name == "betas":
        assert ("anthropic-beta", "x-2025-01-01") in built.headers
    elif name in CARRIED:
        assert CARRIED[name] in body_of(built)
        assert told.get(name) != "dropped"
    else:
        assert told[name] == "dropped" if name != "safety_identifier" else told[name] == "mapped"


def test_what_has_no_word_of_ours_is_named_leaf_by_leaf() -> None:
    asked = request(
        message("user", TextPart(text="x", extra={"odd": 1}), number=0, extra={"odder": 2}),
        tools=[Tool(kind="function", name="look", parameters={"type": "object"}, path="tools[0]", extra={"more": 3})],
        extra={"a.b": 4, "plain": 5},
    )
    _, fidelity = build(asked)
    told = notes(fidelity)
    for path in ("messages[0].content[0].odd", "messages[0].odder", "tools[0].more", "a.b", "plain"):
        assert told[path] == "dropped"


def test_the_answers_limit_is_what_the_model_can_give() -> None:
    body, fidelity = build(request(max_output_tokens=100_000), max_output_tokens=64_000)
    assert body["max_tokens"] == 64_000
    assert notes(fidelity) == {"max_output_tokens": "approximated"}
    body, _ = build(request(), max_output_tokens=64_000)
    assert body["max_tokens"] == 64_000


def test_a_begun_answer_ends_without_white_space() -> None:
    body, fidelity = build(request(message("user", "Hi"), message("assistant", "So ", number=1)))
    assert body["messages"][-1] == {"role": "assistant", "content": "So"}
    assert notes(fidelity)["messages[1]"] == "approximated"


def test_the_key_goes_where_the_host_wants_it() -> None:
    assert provider.auth_headers("k", UPSTREAM) == (("x-api-key", "k"),)
    bearer = Upstream(model="m", quirks={"auth": "bearer"})
    assert provider.auth_headers("k", bearer) == (("authorization", "Bearer k"),)
    built = provider.build_request(request(), UPSTREAM, Fidelity())
    assert (built.path, built.headers) == ("/v1/messages", (("anthropic-version", "2023-06-01"),))
    assert json.loads(built.body)["model"] == "sim-model"
