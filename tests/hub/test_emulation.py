"""What an API lacks, brought about around it."""

import asyncio
import copy

import pytest

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.parts import TextPart, ToolCallPart
from pointsman.canonical.request import Message, OutputFormat, Request
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.hub.emulation import MAX_LOOPED, emulate, missing

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Model:
    """Answers with prepared texts, one a call, and remembers what it was asked."""

    def __init__(self, *texts: str, finish: FinishReason = FinishReason.STOP) -> None:
        self.texts = list(texts)
        self.finish = finish
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.asked.append(copy.deepcopy(request))
        text = self.texts[min(len(self.asked), len(self.texts)) - 1]
        return Response(
            wire="cohere",
            choices=[Choice(parts=[TextPart(text=text)], finish_reason=self.finish)],
            usage=TokenUsage(input_tokens=10, output_tokens=len(text)),
        )


def request_for(**options: object) -> Request:
    message = Message(role="user", parts=[TextPart(text="Where is it?")])
    return Request(wire="openai.chat", model="m", messages=[message], **options)  # type: ignore[arg-type]


def bound(schema: dict[str, object] | None = SCHEMA) -> Request:
    kind = "json_schema" if schema is not None else "json_object"
    form = OutputFormat(kind=kind, name="place", schema=schema)  # type: ignore[arg-type]
    return request_for(output_format=form, paths={"output_format": "response_format"})


def run(request: Request, model: Model) -> tuple[Response, Fidelity]:
    fidelity = Fidelity()
    wanted = missing(request, frozenset(("choices", "json_schema", "json_object")))
    return asyncio.run(emulate(request, wanted, model, fidelity)), fidelity


def text_of(response: Response) -> str:
    [part] = response.choices[0].parts
    assert isinstance(part, TextPart)
    return part.text


def test_only_what_is_wanted_and_lacking_is_emulated() -> None:
    assert missing(request_for(choices=2), frozenset(("choices", "json_schema"))) == {"choices"}
    assert missing(request_for(choices=1), frozenset(("choices",))) == frozenset()
    assert missing(bound(), frozenset(("choices",))) == frozenset()


def test_a_right_answer_is_taken_at_once_and_the_model_was_told_the_schema() -> None:
    model = Model('{"city":"Paris"}')
    response, fidelity = run(bound(), model)
    assert text_of(response) == '{"city":"Paris"}'
    assert len(model.asked) == 1
    told = model.asked[0].messages[0]
    assert told.role == "system"
    assert '"required":["city"]' in str(told.parts[0])
    assert model.asked[0].output_format is None
    assert [(note.path, note.action) for note in fidelity.notes] == [("response_format", Action.MAPPED)]


def test_a_code_fence_is_taken_off() -> None:
    response, _ = run(bound(), Model('```json\n{"city":"Paris"}\n```'))
    assert text_of(response) == '{"city":"Paris"}'


def test_a_wrong_answer_is_repaired_once_and_both_calls_are_counted() -> None:
    model = Model('{"town":"Paris"}', '{"city":"Paris"}')
    response, _ = run(bound(), model)
    assert text_of(response) == '{"city":"Paris"}'
    assert response.usage == TokenUsage(input_tokens=20, output_tokens=32)
    repaired = model.asked[1].messages
    assert [message.role for message in repaired[-2:]] == ["assistant", "user"]
    assert "city" in str(repaired[-1].parts[0])


def test_an_answer_that_stays_wrong_is_an_error_that_says_where() -> None:
    with pytest.raises(GatewayError) as caught:
        run(bound(), Model('{"city":5}'))
    assert caught.value.kind is Kind.UPSTREAM_ERROR
    assert "at $.city" in caught.value.message


def test_prose_instead_of_json_is_an_error() -> None:
    with pytest.raises(GatewayError, match="not valid JSON"):
        run(bound(None), Model("In Paris, of course."))


def test_an_answer_that_was_cut_off_is_left_as_it_is() -> None:
    model = Model('{"city":"Par', finish=FinishReason.LENGTH)
    response, _ = run(bound(), model)
    assert text_of(response) == '{"city":"Par'
    assert len(model.asked) == 1


def test_a_tool_call_is_left_as_it_is() -> None:
    async def call(request: Request) -> Response:
        part = ToolCallPart(id="call_1", name="look", arguments="{}")
        return Response(wire="cohere", choices=[Choice(parts=[part], finish_reason=FinishReason.TOOL_CALLS)])

    request = bound()
    response = asyncio.run(emulate(request, frozenset(("json_schema",)), call, Fidelity()))
    assert isinstance(response.choices[0].parts[0], ToolCallPart)


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/schema.json"}])
def test_what_is_no_schema_of_its_own_is_the_callers_mistake(schema: dict[str, object]) -> None:
    with pytest.raises(GatewayError) as caught:
        run(bound(schema), Model("{}"))
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert caught.value.param == "response_format"


def test_several_choices_are_several_calls_and_one_sum() -> None:
    model = Model("a", "b", "c")
    response, _ = run(request_for(choices=3), model)
    assert [choice.index for choice in response.choices] == [0, 1, 2]
    assert sorted(str(choice.parts[0].text) for choice in response.choices) == ["a", "b", "c"]  # type: ignore[union-attr]
    assert response.usage == TokenUsage(input_tokens=30, output_tokens=3)
    assert all(asked.choices is None for asked in model.asked)


def test_far_too_many_choices_are_refused_by_name() -> None:
    with pytest.raises(GatewayError) as caught:
        run(request_for(choices=MAX_LOOPED + 1, paths={"choices": "n"}), Model("a"))
    assert caught.value.param == "n"


@pytest.mark.parametrize(("schema", "bound_to"), [(SCHEMA, "json_object"), ({"type": "string"}, None)])
def test_an_upstream_with_a_mode_for_objects_is_bound_to_it_beside_the_instruction(
    schema: dict[str, object], bound_to: str | None
) -> None:
    model = Model('{"city":"Paris"}' if bound_to else '"Paris"')
    asyncio.run(emulate(bound(schema), frozenset(("json_schema",)), model, Fidelity(), object_mode=True))
    form = model.asked[0].output_format
    assert (form.kind if form is not None else None) == bound_to
    assert "JSON Schema" in model.asked[0].messages[0].parts[0].text  # type: ignore[union-attr]
