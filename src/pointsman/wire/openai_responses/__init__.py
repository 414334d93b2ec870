"""The OpenAI Responses API's JSON and our own words for it, for both who serves it and who calls it.

Source: the API's reference and the types of OpenAI's Python SDK 3.54, as of 2026-11.
"""

from typing import Final

WIRE: Final = "openai.responses"
ENCRYPTED: Final = "reasoning.encrypted_content"  # of ``include``: give the hidden reasoning to the caller
LOGPROBS: Final = "message.output_text.logprobs"
# Items that the client's side makes; all others that have no words of our own are the model's.
CLIENT_ITEMS: Final = frozenset(
    (
        "computer_call_output", "local_shell_call_output", "shell_call_output", "apply_patch_call_output",
        "mcp_approval_response", "tool_search_output", "additional_tools", "configuration_update",
        "compaction_trigger",
    )
)  # fmt: skip
# Items that answers are made of besides messages, calls and reasoning: only this API knows them.
CALL_KINDS: Final = {"function_call": "function", "custom_tool_call": "custom"}
RESULT_KINDS: Final = {"function_call_output": "function", "custom_tool_call_output": "custom"}
# What a response says beyond its request's settings and our words.
RESPONSE_MEMBERS: Final = (
    "conversation", "input_transformations", "moderation", "prompt_cache_diagnostics", "tool_usage",
)  # fmt: skip
_OURS: Final = "pm"  # OpenAI's own ids go on in hexadecimal


def own_id(prefix: str) -> str:
    """What ids of items begin with that the gateway made: their makers' API has never heard of them."""
    return f"{prefix}_{_OURS}"


def is_own_id(identity: str) -> bool:
    """True for an id that the gateway made: it must not be sent to an API that would look it up."""
    return identity.partition("_")[2].startswith(_OURS)


def flat_name(namespace: str | None, name: str) -> str:
    """The one name of a tool in a namespace, for APIs that have no namespaces: told apart, and reversible."""
    if namespace is None:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


def short_name(namespace: str | None, name: str) -> str:
    """What `flat_name` made of a tool's name, undone."""
    return name if namespace is None else name.removeprefix(flat_name(namespace, ""))
