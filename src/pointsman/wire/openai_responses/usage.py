"""Usage of a response."""

from pointsman.canonical.parts import Extra
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError
from pointsman.wire.members import Members


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
