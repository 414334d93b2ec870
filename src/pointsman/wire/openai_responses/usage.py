"""Usage of a response."""

from typing import Any, Final

from pointsman.canonical.parts import Extra
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError
from pointsman.wire.members import Members

# What a response's usage has beyond our words: its own members, xAI's and OpenRouter's.
USAGE_MEMBERS: Final = (
    "input_tokens_details", "output_tokens_details", "num_sources_used", "num_server_side_tools_used",
    "cost_in_usd_ticks", "cost", "cost_details", "is_byok",
)  # fmt: skip
_COUNTED: Final = frozenset(("cached_tokens", "cache_write_tokens", "reasoning_tokens", "text_tokens"))


def usage_beyond(response: Members) -> Extra:
    """What the usage of a response says and `TokenUsage` doesn't, by its names."""
    usage = response.value.get("usage")
    if not isinstance(usage, dict):
        return {}
    found: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            value = {inner: one for inner, one in value.items() if inner not in _COUNTED and one}
        if value and name not in ("input_tokens", "output_tokens", "total_tokens"):
            found[name] = value
    return {"usage": found} if found else {}


def read_usage(response: Members) -> TokenUsage | None:
    """The usage of a response; None when there is none or nobody can make sense of it: figures never cost an answer."""
    value = response.value.get("usage")
    response.ignore("usage")
    if not isinstance(value, dict):
        return None
    usage = Members(value)
    try:
        given, made = usage.integer("input_tokens", 0), usage.integer("output_tokens", 0)
        details, hidden = usage.object("input_tokens_details"), usage.object("output_tokens_details")
        read = (details.integer("cached_tokens", 0) if details else 0) or 0
        written = (details.integer("cache_write_tokens", 0) if details else 0) or 0
        reasoning = (hidden.integer("reasoning_tokens", 0) if hidden else 0) or 0
    except GatewayError:
        return None
    if given is None or made is None:
        return None
    return TokenUsage(
        input_tokens=given,
        output_tokens=made,
        cache_read_tokens=min(read, given),
        cache_write_tokens=min(written, given - min(read, given)),
        reasoning_tokens=min(reasoning, made),
    )


def write_usage(usage: TokenUsage) -> Extra:
    """The usage object."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
