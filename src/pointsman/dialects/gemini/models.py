"""The Gemini API's lists of models and counts of tokens, as clients read them."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

_METHODS: Final = ("generateContent", "countTokens")

_encode: Final = msgspec.json.Encoder().encode


def write_models(models: Iterable[str], next_page_token: str | None = None) -> bytes:
    """One page of models by their names at the gateway."""
    page: dict[str, Any] = {"models": [_model(name) for name in models]}
    if next_page_token is not None:
        page["nextPageToken"] = next_page_token
    return _encode(page)


def write_model(model: str) -> bytes:
    """One model."""
    return _encode(_model(model))


def write_count_response(tokens: int) -> bytes:
    """The answer to countTokens."""
    return _encode({"totalTokens": tokens})


def _model(name: str) -> dict[str, Any]:
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": list(_METHODS)}
