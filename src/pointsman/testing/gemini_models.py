"""Google's lists of models, page by page, in the forms of the Gemini API and of Vertex AI."""

import base64
import binascii
from typing import Final

from .gemini_request import InvalidRequest, Json

_MOST: Final = 1000
_USUAL: Final = 50


def gemini_model(name: str) -> Json:
    """A model as the Gemini API shows it."""
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "description": "A simulated model.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": True,
    }


def vertex_model(name: str) -> Json:
    """A publisher's model as Vertex AI shows it."""
    return {
        "name": f"publishers/google/models/{name}",
        "versionId": "default",
        "openSourceCategory": "PROPRIETARY",
        "launchStage": "GA",
        "publisherModelTemplate": f"projects/{{project}}/locations/{{location}}/publishers/google/models/{name}",
    }


def gemini_list(models: tuple[str, ...], query: dict[str, str]) -> Json:
    """One page of the Gemini API's models; InvalidRequest for a wrong page size or token."""
    names, following = _page(models, query)
    return {"models": [gemini_model(name) for name in names], **following}


def vertex_list(models: tuple[str, ...], query: dict[str, str]) -> Json:
    """One page of Vertex AI's publisher models; InvalidRequest for a wrong page size or token."""
    names, following = _page(models, query)
    return {"publisherModels": [vertex_model(name) for name in names], **following}


def _page(models: tuple[str, ...], query: dict[str, str]) -> tuple[tuple[str, ...], Json]:
    size = query.get("pageSize") or query.get("page_size") or str(_USUAL)
    if not size.isascii() or not size.isdigit():
        raise InvalidRequest(f"Invalid value at 'page_size' (TYPE_INT32), \"{size}\"")
    start = _start(query.get("pageToken") or query.get("page_token") or "")
    end = start + (min(int(size), _MOST) or _USUAL)
    following = {"nextPageToken": base64.b64encode(b"%d" % end).decode()} if end < len(models) else {}
    return models[start:end], following


def _start(token: str) -> int:
    try:
        return int(base64.b64decode(token, validate=True)) if token else 0
    except (binascii.Error, ValueError):
        raise InvalidRequest("Page token is not valid.") from None
