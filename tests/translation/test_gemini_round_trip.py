"""Gemini to Gemini through our own words: nothing is lost, or the ledger says so."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from gemini_requests import CACHED, EVERYTHING, VERTEX
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.dialects import gemini as dialect
from pointsman.errors import GatewayError
from pointsman.providers import gemini as provider
from pointsman.testing.gemini_request import parse
from pointsman.testing.gemini_rules import check_values
from pointsman.wire.gemini_schema import snake_case

KEYED = Upstream(model="gemini-3-pro")
PROJECT = Upstream(model="gemini-3-pro", options={"project": "p", "location": "l"})
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
CALL = ClientCall(model="gemini-3-pro", stream=False)


def translated(body: Any, upstream: Upstream = KEYED) -> tuple[Any, Fidelity]:
    fidelity = Fidelity()
    request = dialect.read_request(json.dumps(body).encode(), CALL)
    return json.loads(provider.build_request(request, upstream, fidelity).body), fidelity


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def sorted_leaves(value: Any) -> dict[str, Any]:
    return dict(leaves(value))


@pytest.mark.parametrize(
    ("body", "upstream"), [(EVERYTHING, KEYED), (VERTEX, PROJECT), (CACHED, KEYED)], ids=["gemini", "vertex", "cached"]
)
def test_every_leaf_of_a_gemini_request_comes_back_at_its_place(body: Any, upstream: Upstream) -> None:
    built, fidelity = translated(body, upstream)
    before, after = sorted_leaves(body), sorted_leaves(built)
    lost = {path: value for path, value in before.items() if after.get(path, ...) != value}
    assert lost == {}
    added = {path: value for path, value in after.items() if path not in before}
    assert added == {}
    assert not fidelity.counts[Action.DROPPED]


@pytest.mark.parametrize(("body", "upstream"), [(EVERYTHING, PROJECT), (VERTEX, KEYED)])
def test_what_only_the_other_api_has_is_named(body: Any, upstream: Upstream) -> None:
    built, fidelity = translated(body, upstream)
    before, after = sorted_leaves(body), sorted_leaves(built)
    noted = {note.path for note in fidelity.notes}
    for path, value in before.items():
        assert after.get(path) == value or any(path.startswith(one) for one in noted), path


@pytest.mark.parametrize("model", ["gemini-3-pro", "gemini-2.5-flash"])
@pytest.mark.parametrize(("body", "vertex"), [(EVERYTHING, False), (VERTEX, True)])
def test_what_is_built_is_what_google_takes(body: Any, vertex: bool, model: str) -> None:
    built, _ = translated(body, msgspec.structs.replace(PROJECT if vertex else KEYED, model=model))
    check_values(parse(json.dumps(built).encode(), "GenerateContentRequest", vertex=vertex))


def test_snake_case_means_the_same_as_camel_case() -> None:
    assert translated(in_snake_case(EVERYTHING))[0] == translated(EVERYTHING)[0]


def in_snake_case(value: Any) -> Any:
    """``value`` with Google's members in snake case; schemas, arguments and responses are not Google's."""
    free = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}
    if isinstance(value, dict):
        return {snake_case(key): one if key in free else in_snake_case(one) for key, one in value.items()}
    return [in_snake_case(one) for one in value] if isinstance(value, list) else value


def test_openapi_schemas_become_json_schemas_that_mean_the_same() -> None:
    openapi = {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "STRING", "nullable": True, "enum": ["x"]},
            "b": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int32"}, "minItems": "1"},
            "c": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "example": 1},
        },
        "propertyOrdering": ["b", "a"],
        "required": ["a"],
    }
    body = {
        "contents": [{"parts": [{"text": "a"}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": openapi}]}],
    }
    built, _ = translated(body)
    assert built["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None]},
            "b": {"type": "array", "items": {"type": "integer", "format": "int32"}, "minItems": 1},
            "c": {"anyOf": [{"type": "number"}, {"type": "boolean"}], "examples": [1]},
        },
        "propertyOrdering": ["b", "a"],
        "required": ["a"],
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@PATIENT
@given(st.dictionaries(st.sampled_from(["output", "error", "result", "x"]), JSON | st.just('{"a":1}'), max_size=2))
def test_any_function_response_comes_back_as_it_was(response: dict[str, Any]) -> None:
    body = {
        "contents": [
            {"role": "user", "parts": [{"text": "a"}]},
            {"role": "model", "parts": [{"functionCall": {"id": "1", "name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "1", "name": "f", "response": response}}]},
        ]
    }
    built, _ = translated(body)
    assert built["contents"][2]["parts"][0]["functionResponse"]["response"] == response


@PATIENT
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_any_arguments_come_back_as_they_were(arguments: dict[str, Any]) -> None:
    call = {"functionCall": {"id": "1", "name": "f", "args": arguments}}
    body = {"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [call]}]}
    built, _ = translated(body)
    assert built["contents"][1]["parts"][0]["functionCall"] == call["functionCall"]


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "text": JSON,
        "thought": JSON,
        "functionCall": st.fixed_dictionaries({}, optional={"name": JSON, "args": JSON, "id": JSON}) | JSON,
        "functionResponse": st.fixed_dictionaries({}, optional={"name": JSON, "response": JSON, "parts": JSON}) | JSON,
        "inlineData": st.fixed_dictionaries({}, optional={"data": JSON, "mimeType": JSON}) | JSON,
        "fileData": JSON,
        "executableCode": JSON,
        "thoughtSignature": JSON,
        "mediaResolution": JSON,
    },
)
CONTENT = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "model", "x"]) | JSON, "parts": st.lists(PARTS, max_size=3) | JSON}
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "contents": st.lists(CONTENT, max_size=3) | JSON,
        "systemInstruction": CONTENT | JSON,
        "tools": st.lists(st.dictionaries(st.sampled_from(["functionDeclarations", "googleSearch"]), JSON)) | JSON,
        "generationConfig": st.dictionaries(st.sampled_from(list(EVERYTHING["generationConfig"])), JSON) | JSON,
        "toolConfig": st.dictionaries(st.sampled_from(["functionCallingConfig"]), JSON) | JSON,
        "labels": JSON,
    },
)


@PATIENT
@given(REQUESTS)
@example({"contents": 5})
def test_a_strange_request_is_read_or_refused(body: Any) -> None:
    with suppress(GatewayError):
        translated(body)


@PATIENT
@given(st.binary(max_size=60))
def test_bytes_that_are_no_request_are_refused(body: bytes) -> None:
    with pytest.raises(GatewayError):
        dialect.read_request(body, CALL)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": [{"parts": []}]}, "contents[0].parts"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        ({"contents": [{"parts": [{"text": "a"}]}], "generation_config": {"top_p": "x"}}, "generationConfig.topP"),
    ],
)
def test_a_mistake_is_named_with_its_place(body: Any, param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        dialect.read_request(json.dumps(body).encode(), CALL)
    assert refused.value.param == param
    assert re.search(re.escape(param), refused.value.message)
