"""Requests of other APIs' clients for Gemini models: everything is sent, or told in the ledger."""

import json
from typing import Any

import pytest

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import Upstream
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
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
from pointsman.providers import gemini
from pointsman.testing.gemini_request import parse
from pointsman.testing.gemini_rules import check_values
from pointsman.testing.gemini_signature import check_signatures

NEW = Upstream(model="gemini-3-flash")
PRO = Upstream(model="gemini-3.1-pro-preview")
OLD_PRO = Upstream(model="gemini-2.5-pro")
OLD = Upstream(model="gemini-2.5-flash")
CLAUDE = Opaque(origin="anthropic", kind="signature", data="abc")
WEATHER = Tool(kind="function", name="weather", parameters={"type": "object", "properties": {}}, path="tools[0]")


def user(*parts: AnyPart) -> Message:
    return Message(role="user", parts=list(parts), path="messages[0]")


def assistant(*parts: AnyPart) -> Message:
    return Message(role="assistant", parts=list(parts), path="messages[1]")


def text(words: str = "hi", **more: Any) -> TextPart:
    return TextPart(text=words, path="messages[0].content[0]", **more)


def call(**more: Any) -> ToolCallPart:
    return ToolCallPart(id="c1", name="weather", path="messages[1].tool_calls[0]", **more)


def result(words: str = "blue", **more: Any) -> ToolResultPart:
    return ToolResultPart(call_id="c1", content=[TextPart(text=words)], path="messages[2]", **more)


def built(*messages: Message, upstream: Upstream = NEW, **options: Any) -> tuple[Any, Fidelity]:
    """The body, checked by the simulator's own rules, and the ledger."""
    fidelity = Fidelity()
    request = Request(wire="openai.chat", model="m", messages=list(messages) or [user(text())], **options)
    body = gemini.build_request(request, upstream, fidelity).body
    vertex = "project" in upstream.options
    read = parse(body, "GenerateContentRequest", vertex=vertex)
    check_values(read)
    check_signatures(read["contents"], required=upstream not in (OLD, OLD_PRO))
    return json.loads(body), fidelity


def noted(fidelity: Fidelity) -> dict[str, str]:
    return {note.path: note.action.value for note in fidelity.notes}


def test_leading_instructions_are_the_system_instruction_and_later_ones_are_marked_text() -> None:
    body, fidelity = built(
        Message(role="system", parts=[text("be brief")]),
        Message(role="developer", parts=[text("be kind")]),
        user(text("hi")),
        Message(role="system", parts=[text("be quick")], path="messages[3]"),
    )
    assert body["systemInstruction"] == {"parts": [{"text": "be brief"}, {"text": "be kind"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}, {"text": "<system>\nbe quick\n</system>"}]}]
    assert noted(fidelity) == {"messages[3]": "approximated"}


def test_a_call_that_no_gemini_made_gets_the_placeholder_in_the_current_turn_only() -> None:
    turn = [assistant(text("so"), call(arguments='{"city":"Oslo"}')), user(result())]
    body, fidelity = built(user(text()), *turn, tools=[WEATHER])
    calls = body["contents"][1]["parts"]
    assert calls[1]["functionCall"] == {"id": "c1", "name": "weather", "args": {"city": "Oslo"}}
    assert calls[1]["thoughtSignature"] == "skip_thought_signature_validator"
    assert noted(fidelity) == {"messages[1].tool_calls[0].thoughtSignature": "synthesised"}
    for messages, upstream in (([*turn, user(text("more"))], NEW), (turn, OLD)):
        body, fidelity = built(user(text()), *messages, tools=[WEATHER], upstream=upstream)
        assert "thoughtSignature" not in body["contents"][1]["parts"][1]
        assert not fidelity


def test_results_stand_alone_after_their_calls_and_know_their_functions_name() -> None:
    body, _ = built(user(text()), assistant(call()), user(result(), text("and?")), tools=[WEATHER])
    assert body["contents"][2:] == [
        {
            "role": "user",
            "parts": [{"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "blue"}}}],
        },
        {"role": "user", "parts": [{"text": "and?"}]},
    ]


@pytest.mark.parametrize(
    ("words", "is_error", "response"),
    [
        ('{"sky": 1}', None, {"sky": 1}),
        ("[1]", None, {"output": "[1]"}),
        ("no", True, {"error": "no"}),
        ('{"a": 1}', True, {"error": {"a": 1}}),
    ],
)
def test_results_are_outputs_errors_or_objects(words: str, is_error: bool | None, response: Any) -> None:
    body, _ = built(user(text()), assistant(call()), user(result(words, is_error=is_error)), tools=[WEATHER])
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_pictures_in_results_go_inside_or_for_older_models_after_them() -> None:
    shown = result()
    shown.content.append(ImagePart(source=Source(data="UE5H", media_type="image/png")))
    body, _ = built(user(text()), assistant(call()), user(shown), tools=[WEATHER])
    assert body["contents"][2]["parts"][0]["functionResponse"]["parts"][0]["inlineData"]["data"] == "UE5H"
    body, fidelity = built(user(text()), assistant(call()), user(shown), tools=[WEATHER], upstream=OLD)
    assert len(body["contents"][2]["parts"]) == 1
    assert body["contents"][3]["parts"][0]["inlineData"]["data"] == "UE5H"
    assert noted(fidelity) == {"messages[2].content": "approximated"}


def test_another_makers_reasoning_goes_as_text_and_its_signature_is_dropped() -> None:
    thought = ReasoningPart(text="hm", opaque=CLAUDE, path="messages[1].content[0]")
    body, fidelity = built(user(text()), assistant(thought, text("a")), user(text("b")))
    assert body["contents"][1]["parts"][0] == {"text": "hm", "thought": True}
    assert noted(fidelity) == {"messages[1].content[0].signature": "dropped"}


def test_arguments_that_are_no_object_are_the_clients_mistake() -> None:
    with pytest.raises(GatewayError) as refused:
        built(user(text()), assistant(call(arguments='{"a":')), user(result()))
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_REQUEST, "messages[1].tool_calls[0]")


def test_arguments_stay_as_they_were_written() -> None:
    request = Request(
        wire="openai.chat",
        model="m",
        messages=[user(text()), assistant(call(arguments='{"n":1.50,"z":12345678901234567890}'))],
    )
    body = gemini.build_request(request, NEW, Fidelity()).body
    assert b'"args":{"n":1.50,"z":12345678901234567890}' in body


def test_media_become_bytes_or_addresses() -> None:
    body, fidelity = built(
        user(
            ImagePart(source=Source(data="UE5H", media_type="image/png"), detail="high", path="i"),
            ImagePart(source=Source(url="https://example.com/a.png"), path="u"),
            FilePart(source=Source(data="UERG", media_type="application/pdf"), filename="a.pdf", path="f"),
            FilePart(text="plain", path="t"),
            AudioPart(source=Source(data="V0FW"), format="wav", path="a"),
        )
    )
    assert body["contents"][0]["parts"] == [
        {
            "inlineData": {"mimeType": "image/png", "data": "UE5H"},
            "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"},
        },
        {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a.png"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "UERG"}},
        {"text": "plain"},
        {"inlineData": {"mimeType": "audio/wav", "data": "V0FW"}},
    ]
    assert noted(fidelity) == {"f.filename": "dropped"}


def test_a_file_of_another_api_is_refused_by_name() -> None:
    with pytest.raises(GatewayError) as refused:
        built(user(FilePart(source=Source(file_id="file-1"), path="messages[0].content[0]")))
    assert (refused.value.kind, refused.value.param) == (Kind.UNSUPPORTED, "messages[0].content[0]")


def test_what_no_content_can_hold_is_told() -> None:
    message = user(text("a", cache=CacheMark(), extra={"odd": 1}))
    message.name = "bob"
    native = NativePart(wire="anthropic", type="server_tool_use", value={}, path="messages[1].content[0]")
    refusal = RefusalPart(text="no", path="messages[1].content[1]")
    _, fidelity = built(message, assistant(native, refusal), user(text("b")))
    assert noted(fidelity) == {
        "messages[0].name": "dropped",
        "messages[0].content[0].cache_control": "dropped",
        "messages[0].content[0].odd": "dropped",
        "messages[1].content[0]": "dropped",
        "messages[1].content[1]": "approximated",
    }


def test_schemas_go_out_whole_and_what_gemini_does_not_enforce_is_said() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "x"}, "b": {"oneOf": [{"const": 1}, {"type": "null"}]}},
        "additionalProperties": False,
    }
    tool = Tool(kind="function", name="f", description="d", parameters=schema, strict=True, path="tools[0]")
    body, fidelity = built(tools=[tool])
    assert body["tools"] == [
        {"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": schema}]}
    ]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert fidelity.notes[0].detail.endswith("const, pattern")
    assert noted(fidelity) == {"tools[0].parameters": "approximated", "tools[0].strict": "mapped"}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (ToolChoice(mode="tool", name="weather"), {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
        (ToolChoice(mode="required", allowed=("weather",)), {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
        (ToolChoice(mode="auto", allowed=("weather",)), {"mode": "VALIDATED", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_every_choice_of_tools_has_a_mode(choice: ToolChoice, config: Any) -> None:
    body, _ = built(tools=[WEATHER], tool_choice=choice)
    assert body["toolConfig"]["functionCallingConfig"] == config


def test_other_apis_own_tools_become_googles_where_there_is_one_alike() -> None:
    search = Tool(
        kind="native", name="web_search", wire="anthropic", value={"type": "web_search_20250305"}, path="tools[0]"
    )
    bash = Tool(kind="native", name="bash", wire="anthropic", value={"type": "bash_20250124"}, path="tools[1]")
    custom = Tool(kind="custom", name="grep", path="tools[2]")
    body, fidelity = built(tools=[search, bash, custom])
    assert body["tools"][1] == {"googleSearch": {}}
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]["required"] == ["input"]
    assert noted(fidelity) == {"tools[0]": "approximated", "tools[1]": "dropped", "tools[2]": "approximated"}


@pytest.mark.parametrize(
    ("options", "limit", "new", "old"),
    [
        (ReasoningOptions(effort="low"), None, {"thinkingLevel": "LOW"}, {"thinkingBudget": 4096}),
        (ReasoningOptions(effort="high"), 1000, {"thinkingLevel": "HIGH"}, {"thinkingBudget": 1024}),
        (ReasoningOptions(effort="xhigh"), None, {"thinkingLevel": "HIGH"}, {"thinkingBudget": 24576}),
        (ReasoningOptions(max_tokens=2000), None, {"thinkingBudget": 2000}, {"thinkingBudget": 2000}),
        (ReasoningOptions(adaptive=True), None, {"thinkingBudget": -1}, {"thinkingBudget": -1}),
        (ReasoningOptions(enabled=True), None, {}, {"thinkingBudget": -1}),
    ],
)
def test_effort_is_a_level_or_for_older_models_a_budget(
    options: ReasoningOptions, limit: int | None, new: Any, old: Any
) -> None:
    for upstream, wanted in ((NEW, new), (OLD, old)):
        body, fidelity = built(upstream=upstream, reasoning=options, max_output_tokens=limit)
        assert body["generationConfig"]["thinkingConfig"] == {**wanted, "includeThoughts": True}
        assert not fidelity.counts[Action.DROPPED]


def test_thinking_can_be_hidden_and_switched_off_as_far_as_the_model_allows() -> None:
    body, _ = built(reasoning=ReasoningOptions(effort="low", exclude=True))
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW", "includeThoughts": False}
    for off in (ReasoningOptions(enabled=False), ReasoningOptions(effort="none")):
        body, _ = built(upstream=OLD, reasoning=off)
        assert body["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}
        for upstream, least in (
            (NEW, {"thinkingLevel": "MINIMAL"}),
            (PRO, {"thinkingLevel": "LOW"}),
            (OLD_PRO, {"thinkingBudget": 128}),
        ):
            body, fidelity = built(upstream=upstream, reasoning=off)
            assert body["generationConfig"]["thinkingConfig"] == least
            assert fidelity.counts[Action.APPROXIMATED] == 1


def test_a_pro_models_least_effort_is_low() -> None:
    body, fidelity = built(upstream=PRO, reasoning=ReasoningOptions(effort="minimal"))
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW", "includeThoughts": True}
    assert noted(fidelity) == {"reasoning.effort": "approximated"}


def test_structured_output_is_native() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = OutputFormat(kind="json_schema", name="answer", schema=schema, strict=True, description="d")
    body, fidelity = built(output_format=wanted)
    config = body["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == {**schema, "description": "d"}
    assert noted(fidelity) == {"output_format.name": "approximated", "output_format.strict": "mapped"}


SAMPLES: dict[str, Any] = {
    "tool_choice": ToolChoice(mode="native", wire="anthropic", value={}),
    "parallel_tool_calls": False,
    "max_tool_calls": 3,
    "output_format": OutputFormat(kind="grammar", value={}),
    "reasoning": ReasoningOptions(summary="detailed", encrypted=True, effort="low"),
    "max_output_tokens": 12345,
    "choices": 3,
    "stop": ["1", "2", "3", "4", "5", "6"],
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 7,
    "min_p": 0.1,
    "top_a": 0.1,
    "frequency_penalty": 0.125,
    "presence_penalty": 0.375,
    "repetition_penalty": 1.1,
    "seed": 99,
    "logit_bias": {"1": 2.0},
    "logprobs": True,
    "top_logprobs": 4,
    "service_tier": "scale",
    "verbosity": "low",
    "user": "u",
    "safety_identifier": "s",
    "metadata": {"k": "v"},
    "store": True,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "cache": CacheMark(),
    "modalities": ["text"],
    "audio": {"voice": "Kore", "format": "wav"},
    "prediction": {"type": "content"},
    "web_search": {"search_context_size": "low"},
    "betas": ("b",),
}
SENT = {
    "max_output_tokens", "choices", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed",
    "logprobs", "top_logprobs", "modalities",
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_sent_or_told(option: str) -> None:
    more = {"logprobs": True} if option == "top_logprobs" else {}
    body, fidelity = built(**{**more, option: SAMPLES[option]})
    paths = " ".join(noted(fidelity))
    assert (option in SENT) == (option not in paths)
    assert (option in SENT) == ("generationConfig" in body) or option in ("reasoning", "stop", "audio")


def test_labels_are_for_vertex_and_only_such_as_google_takes() -> None:
    vertex = Upstream(model="gemini-3-pro", options={"project": "p"})
    body, fidelity = built(upstream=vertex, metadata={"team": "a", "Owner": "Bob"})
    assert body["labels"] == {"team": "a"}
    assert noted(fidelity) == {"metadata.Owner": "dropped"}


def test_a_limit_beyond_the_models_own_is_lowered() -> None:
    small = Upstream(model="gemini-3-pro", max_output_tokens=10)
    body, fidelity = built(upstream=small, max_output_tokens=99)
    assert body["generationConfig"]["maxOutputTokens"] == 10
    assert noted(fidelity) == {"max_output_tokens": "approximated"}
