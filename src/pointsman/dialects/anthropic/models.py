"""Anthropic's lists of models and counts of tokens, as clients read them."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

_UNTOLD: Final = "1970-01-01T00:00:00Z"  # what Anthropic says of a model whose release it doesn't know

_encode: Final = msgspec.json.Encoder().encode


def write_models(models: Sequence[str], *, has_more: bool = False) -> bytes:
    """One page of models by their names at the gateway."""
    first, last = (models[0], models[-1]) if models else (None, None)
    page = {"data": [_model(name) for name in models], "has_more": has_more, "first_id": first, "last_id": last}
    return _encode(page)


def write_model(model: str) -> bytes:
    """One model."""
    return _encode(_model(model))


def write_count_response(tokens: int) -> bytes:
    """The answer to a request to count tokens."""
    return _encode({"input_tokens": tokens})


def _model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _UNTOLD, "lifecycle": "active"}
