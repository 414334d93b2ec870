"""Anthropic's usage object, whose ``input_tokens`` are only those that no cache had or took."""

from typing import Any, Final

from pointsman.canonical.parts import Extra
from pointsman.canonical.usage import TokenUsage
from pointsman.wire.anthropic import STANDARD_TIERS
from pointsman.wire.members import MAX_WHOLE, Members

_MOST: Final = MAX_WHOLE // 4  # so that sums stay whole numbers of 64 bits


def read_usage(usage: Members) -> TokenUsage | None:
    """The figures; None when there are none that can be read. One odd figure must not cost a good answer."""
    written = _figure(usage, "cache_creation_input_tokens")
    split = usage.raw("cache_creation")
    parts = split if isinstance(split, dict) else {}
    hour = _whole(parts.get("ephemeral_1h_input_tokens"))
    minutes = _whole(parts.get("ephemeral_5m_input_tokens"))
    written = max(written, hour + minutes)
    read = _figure(usage, "cache_read_input_tokens")
    plain, output = _figure(usage, "input_tokens"), _figure(usage, "output_tokens")
    details = usage.raw("output_tokens_details")
    thought = _whole(details.get("thinking_tokens")) if isinstance(details, dict) else 0
    if not any((written, read, plain, output)):
        return None
    return TokenUsage(
        input_tokens=plain + read + written,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        reasoning_tokens=min(thought, output),
    )


def read_extra(usage: Members) -> Extra:
    """What a usage object says beyond figures, by path: ``usage.server_tool_use``."""
    usage.ignore("service_tier")
    if usage.value.get("inference_geo") == "not_available":
        usage.ignore("inference_geo")  # says nothing
    return {f"usage.{name}": value for name, value in (usage.rest() or {}).items()}


def read_tier(usage: Members) -> str | None:
    """The tier that an answer was given in, in our words."""
    tier = usage.raw("service_tier")
    return STANDARD_TIERS.get(tier, tier) if isinstance(tier, str) else None


def write_usage(usage: TokenUsage) -> dict[str, Any]:
    """Anthropic's object for our figures."""
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": max(0, usage.cache_write_tokens - usage.cache_write_1h_tokens),
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _figure(usage: Members, name: str) -> int:
    return _whole(usage.raw(name))


def _whole(value: object) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    return min(value, _MOST) if type(value) is int and value > 0 else 0
