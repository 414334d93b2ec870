"""What Google refuses in a generateContent request whose form is right: values, schemas and the order of turns."""

import re
from typing import Any, Final

from .gemini_request import PART_DATA, InvalidRequest, Json, config_of, declarations, objects_in

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_NAME_RULE: Final = (
    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), "
    "underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128."
)
_CALL_PLACE: Final = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
)
_RESULT_PLACE: Final = "Please ensure that function response turn comes immediately after a function call turn."
_RESULT_COUNT: Final = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
_WITH_CACHE: Final = (
    "CachedContent can not be used with GenerateContent request setting system_instruction, tools or tool_config.\n\n"
    "Proposed fix: move those values to CachedContent from GenerateContent request."
)
_TWO_SCHEMAS: Final = "response_schema and response_json_schema must not both be set."
_BOTH_THINKING: Final = "You can only set only one of thinking budget and thinking level."
_SCHEMA_WITHOUT_JSON: Final = (
    "Schema in GenerationConfig is only supported with response mime type: 'application/json' and 'text/x.enum'."
)
_MIME_TYPES: Final = frozenset({"text/plain", "application/json", "text/x.enum", "application/xml", "application/yaml"})
# name: (lowest, highest); the names as Google's errors have them.
_RANGES: Final[dict[str, tuple[str, float, float]]] = {
    "temperature": ("temperature", 0.0, 2.0),
    "topP": ("top_p", 0.0, 1.0),
    "topK": ("top_k", 1, 1000),
    "candidateCount": ("candidate_count", 1, 8),
    "maxOutputTokens": ("max_output_tokens", 1, 2**31 - 1),
    "logprobs": ("logprobs", 0, 20),
    "presencePenalty": ("presence_penalty", -2.0, 2.0),
    "frequencyPenalty": ("frequency_penalty", -2.0, 2.0),
}
_MOST_STOPS: Final = 5
_BUDGETS: Final = (-1, 32768)
_FORMATS: Final = frozenset({"enum", "date-time"})


def check_values(request: Json) -> None:
    """Raise InvalidRequest for the first thing in a well-formed ``request`` that Google would refuse."""
    _check_contents(request)
    _check_config(config_of(request))
    _check_tools(request)
    if request.get("cachedContent") and any(request.get(name) for name in ("systemInstruction", "tools", "toolConfig")):
        raise InvalidRequest(_WITH_CACHE)
    _check_turns(objects_in(request, "contents"))


def _field(place: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"* GenerateContentRequest.{place}: {problem}\n")


def _check_contents(request: Json) -> None:
    contents = objects_in(request, "contents")
    if not contents:
        raise _field("contents", "contents is not specified")
    for position, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model", "function"):
            raise InvalidRequest("Please use a valid role: user, model.")
        parts = objects_in(content, "parts")
        if not parts:
            raise _field(f"contents[{position}].parts", "contents.parts must not be empty.")
        for number, part in enumerate(parts):
            if not any(name in part for name in PART_DATA) and not part.get("thoughtSignature"):
                place = f"contents[{position}].parts[{number}].data"
                raise _field(place, "required oneof field 'data' must have one initialized field")
            _check_part(part, f"contents[{position}].parts[{number}]")


def _check_part(part: Json, place: str) -> None:
    for name, place_name in (("functionCall", "function_call"), ("functionResponse", "function_response")):
        if name in part and not part[name].get("name"):
            raise _field(f"{place}.{place_name}.name", "Name cannot be empty.")
    if "inlineData" in part and not part["inlineData"].get("mimeType"):
        raise InvalidRequest("Unsupported MIME type: ")
    if "fileData" in part and not part["fileData"].get("fileUri"):
        raise _field(f"{place}.file_data.file_uri", "file_uri is required")


def _check_config(config: Json) -> None:
    for name, (shown, lowest, highest) in _RANGES.items():
        value = config.get(name)
        if value is not None and not lowest <= value <= highest:
            raise _field(f"generation_config.{shown}", f"{shown} must be in the range [{lowest}, {highest}].")
    if len(config.get("stopSequences") or ()) > _MOST_STOPS:
        raise _field("generation_config.stop_sequences", f"must have at most {_MOST_STOPS} elements.")
    if config.get("logprobs") is not None and not config.get("responseLogprobs"):
        raise InvalidRequest("Logprobs is not supported when response_logprobs is not set to true.")
    _check_format(config)
    _check_thinking(config_of(config, "thinkingConfig"))


def _check_format(config: Json) -> None:
    mime = config.get("responseMimeType", "")
    if mime and mime not in _MIME_TYPES:
        raise _field("generation_config.response_mime_type", f"allowed mimetypes are {', '.join(sorted(_MIME_TYPES))}")
    if "responseSchema" in config and "responseJsonSchema" in config:
        raise InvalidRequest(_TWO_SCHEMAS)
    if ("responseSchema" in config or "responseJsonSchema" in config) and mime in ("", "text/plain"):
        raise InvalidRequest(_SCHEMA_WITHOUT_JSON)
    if "responseSchema" in config:
        check_schema(config["responseSchema"], "generation_config.response_schema")


def _check_thinking(config: Json) -> None:
    if "thinkingBudget" in config and "thinkingLevel" in config:
        raise InvalidRequest(_BOTH_THINKING)
    budget = config.get("thinkingBudget", 0)
    if not _BUDGETS[0] <= budget <= _BUDGETS[1]:
        raise InvalidRequest(
            f"The thinking budget {budget} is invalid. Please choose a value between 0 and {_BUDGETS[1]}."
        )


def _check_tools(request: Json) -> None:
    names: set[str] = set()
    for number, tool in enumerate(objects_in(request, "tools")):
        for position, declared in enumerate(objects_in(tool, "functionDeclarations")):
            place = f"tools[{number}].function_declarations[{position}]"
            name = declared.get("name", "")
            if not _NAME.fullmatch(name):
                raise _field(f"{place}.name", _NAME_RULE)
            if name in names:
                raise InvalidRequest(f"Duplicate function declaration found: {name}")
            names.add(name)
            _check_parameters(declared, place)
    _check_tool_config(config_of(config_of(request, "toolConfig"), "functionCallingConfig"), names)


def _check_parameters(declared: Json, place: str) -> None:
    if "parameters" in declared and "parametersJsonSchema" in declared:
        raise InvalidRequest(f"{place}: only one of parameters and parameters_json_schema may be set.")
    if "parametersJsonSchema" in declared and not isinstance(declared["parametersJsonSchema"], dict):
        raise _field(f"{place}.parameters_json_schema", "must be an object")
    if "parameters" in declared:
        if declared["parameters"].get("type") != "OBJECT":
            raise _field(f"{place}.parameters", "parameters schema should be of type OBJECT.")
        check_schema(declared["parameters"], f"{place}.parameters")


def check_schema(schema: Json, place: str) -> None:
    """InvalidRequest for the first thing in ``schema`` that Google's OpenAPI subset doesn't have."""
    kind = schema.get("type", "TYPE_UNSPECIFIED")
    properties: dict[str, Any] = schema.get("properties") or {}
    if kind == "TYPE_UNSPECIFIED" and not schema.get("anyOf") and not schema.get("ref"):
        raise _field(place, "schema must have a type or any_of")
    if kind == "OBJECT" and not properties and "additionalProperties" not in schema:
        raise _field(f"{place}.properties", "should be non-empty for OBJECT type")
    if kind == "ARRAY" and not schema.get("items"):
        raise _field(f"{place}.items", "missing field.")
    if schema.get("enum") and kind != "STRING":
        raise _field(f"{place}.enum", "only allowed for STRING type")
    if any(value == "" for value in schema.get("enum") or ()):
        raise _field(f"{place}.enum[{schema['enum'].index('')}]", "cannot be empty")
    if kind == "STRING" and schema.get("format", "enum") not in _FORMATS:
        raise _field(f"{place}.format", "only 'enum' and 'date-time' are supported for STRING type")
    for position, name in enumerate(schema.get("required") or ()):
        if name not in properties:
            raise _field(f"{place}.required[{position}]", "property is not defined")
    for name, inner in properties.items():
        check_schema(inner, f"{place}.properties[{name}]")
    for position, inner in enumerate(schema.get("anyOf") or ()):
        check_schema(inner, f"{place}.any_of[{position}]")
    if schema.get("items"):
        check_schema(schema["items"], f"{place}.items")


def _check_tool_config(config: Json, names: set[str]) -> None:
    mode = config.get("mode", "MODE_UNSPECIFIED")
    if mode in ("ANY", "VALIDATED") and not names:
        raise InvalidRequest("Function calling config is set without function_declarations.")
    allowed = config.get("allowedFunctionNames") or []
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise InvalidRequest("Allowed function names should only be set when function calling mode is ANY.")
    for name in allowed:
        if name not in names:
            raise InvalidRequest(f"Allowed function name {name} is not found in function_declarations.")


def _check_turns(contents: list[Json]) -> None:
    """Calls come after the user or results; results right after calls, one for each."""
    calls: list[Json] = []
    before = ""
    for content in contents:
        parts = objects_in(content, "parts")
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        called = [part["functionCall"] for part in parts if "functionCall" in part]
        if called and before in ("", "model"):
            raise InvalidRequest(_CALL_PLACE)
        if results and not calls:
            raise InvalidRequest(_RESULT_PLACE)
        if len(results) != len(calls):
            raise InvalidRequest(_RESULT_COUNT)
        _check_pairs(calls, results)
        calls = called
        before = content.get("role", "user")


def _check_pairs(calls: list[Json], results: list[Json]) -> None:
    ids = {call["id"] for call in calls if call.get("id")}
    for result in results:
        if result.get("id") and ids and result["id"] not in ids:
            raise InvalidRequest(f"Function response id {result['id']} does not match any function call id.")
    if sorted(call["name"] for call in calls) != sorted(result["name"] for result in results):
        raise InvalidRequest("Please ensure that function response names match the names of the function calls.")


def check_model(request: Json, *, old: bool) -> None:
    """Raise InvalidRequest for what only models of an ``old`` family refuse: function calls beside other features."""
    if not old or not declarations(request):
        return
    if config_of(request).get("responseMimeType") == "application/json":
        raise InvalidRequest("Function calling with a response mime type: 'application/json' is unsupported")
    if any(name in tool for tool in objects_in(request, "tools") for name in ("googleSearch", "codeExecution")):
        raise InvalidRequest("Tool use with function calling is unsupported")
