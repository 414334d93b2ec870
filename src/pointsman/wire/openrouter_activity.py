"""OpenRouter's row of an account's activity: sums of one UTC day, model and endpoint. Amounts in dollars."""

import msgspec


class ActivityItem(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "input_tokens": "prompt_tokens",
        "output_tokens": "completion_tokens",
        "cache_read_tokens": "cached_tokens",
        "byok_usage": "byok_usage_inference",
    },
):
    """One row. ``workspace_id`` only where workspaces are kept apart."""

    date: str
    model: str
    model_permaslug: str
    endpoint_id: str
    provider_name: str
    usage: float
    byok_usage: float
    requests: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_read_tokens: int
    workspace_id: str | None = None
