"""OpenAI's lists for the Responses API: parameters, item types and their members, content and tool types."""

from typing import Any, Final

from .openai_request import InvalidRequest, check_type

ARGUMENTS: Final = frozenset(
    [
        "access_programs",
        "background",
        "background_options",
        "client_metadata",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
TYPES: Final[dict[str, tuple[type, ...]]] = {
    "model": (str,),
    "input": (str, list),
    "instructions": (str,),
    "tools": (list,),
    "tool_choice": (str, dict),
    "text": (dict,),
    "reasoning": (dict,),
    "include": (list,),
    "metadata": (dict,),
    "stream": (bool,),
    "store": (bool,),
    "background": (bool,),
    "parallel_tool_calls": (bool,),
    "stream_options": (dict,),
    "service_tier": (str,),
    "previous_response_id": (str,),
    "truncation": (str,),
}
# name: (lowest, highest, only whole numbers)
RANGES: Final[dict[str, tuple[int, int | None, bool]]] = {
    "max_output_tokens": (16, None, True),
    "max_tool_calls": (1, None, True),
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "top_logprobs": (0, 20, True),
}
INCLUDABLE: Final = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
ROLES: Final = ("assistant", "system", "developer", "user")
CONTENT_TYPES: Final = ("input_text", "input_image", "output_text", "refusal", "input_file", "input_audio")
ITEM_TYPES: Final = (
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "item_reference",
    "file_search_call",
    "web_search_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "code_interpreter_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "tool_search_call",
    "tool_search_output",
    "additional_tools",
    "configuration_update",
    "compaction",
    "compaction_trigger",
    "program",
    "program_output",
)
ITEM_FIELDS: Final[dict[str, frozenset[str]]] = {
    "message": frozenset(("type", "role", "content", "id", "status", "phase")),
    "function_call": frozenset(
        ("type", "call_id", "name", "arguments", "id", "status", "namespace", "caller", "async")
    ),
    "function_call_output": frozenset(
        ("type", "call_id", "output", "id", "status", "name", "namespace", "caller")
    ),
    "custom_tool_call": frozenset(("type", "call_id", "name", "input", "id", "status", "namespace", "caller", "async")),
    "custom_tool_call_output": frozenset(("type", "call_id", "output", "id", "status", "caller")),
    "reasoning": frozenset(("type", "id", "summary", "content", "encrypted_content", "status")),
    "item_reference": frozenset(("type", "id")),
}  # fmt: skip
PART_FIELDS: Final[dict[str, frozenset[str]]] = {
    "input_text": frozenset(("type", "text", "prompt_cache_breakpoint")),
    "input_image": frozenset(("type", "image_url", "file_id", "detail", "prompt_cache_breakpoint")),
    "input_file": frozenset(
        ("type", "file_data", "file_id", "file_url", "filename", "detail", "prompt_cache_breakpoint")
    ),
    "input_audio": frozenset(("type", "input_audio")),
    "output_text": frozenset(("type", "text", "annotations", "logprobs")),
    "refusal": frozenset(("type", "refusal")),
}
TOOL_TYPES: Final = (
    "function",
    "custom",
    "namespace",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "file_search",
    "computer",
    "computer_use_preview",
    "code_interpreter",
    "image_generation",
    "mcp",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
    "programmatic_tool_calling",
)
_CALLABLE: Final = ("type", "name", "description", "allowed_callers", "async", "defer_loading")
TOOL_FIELDS: Final[dict[str, frozenset[str]]] = {
    "function": frozenset((*_CALLABLE, "parameters", "strict", "output_schema")),
    "custom": frozenset((*_CALLABLE, "format")),
    "namespace": frozenset(("type", "name", "description", "tools")),
}
# What ids of items begin with.
ID_PREFIXES: Final = {"message": "msg", "function_call": "fc", "custom_tool_call": "ctc", "reasoning": "rs"}


def check_range(name: str, value: Any, lowest: int, highest: int | None, whole: bool) -> None:
    """Raise InvalidRequest unless ``value`` is a number of the kind and between the bounds."""
    check_type(value, name, *((int,) if whole else (float, int)))
    kind = "integer" if whole else "decimal"
    if value < lowest:
        words = f"{kind} below minimum value. Expected a value >= {lowest}, but got {value} instead."
        raise InvalidRequest(f"Invalid '{name}': {words}", name, f"{kind}_below_min_value")
    if highest is not None and value > highest:
        words = f"{kind} above maximum value. Expected a value <= {highest}, but got {value} instead."
        raise InvalidRequest(f"Invalid '{name}': {words}", name, f"{kind}_above_max_value")


def missing(name: str) -> InvalidRequest:
    """A parameter that has to be there is not."""
    return InvalidRequest(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def unknown(name: str) -> InvalidRequest:
    """A parameter that OpenAI does not have."""
    return InvalidRequest(f"Unknown parameter: '{name}'.", name, "unknown_parameter")


def unsupported(value: object, supported: tuple[str, ...], name: str) -> InvalidRequest:
    """A word that is none of those that may stand there."""
    words = ", ".join(f"'{one}'" for one in supported[:-1])
    message = f"Invalid value: '{value}'. Supported values are: {words}, and '{supported[-1]}'."
    return InvalidRequest(message, name, "invalid_value")
