"""Anthropic's list of models: pages, and one model by its id."""

from typing import Final
from urllib.parse import parse_qs

from .anthropic_checks import InvalidRequest, Json

_LEAST, _USUAL, _MOST = 1, 20, 1000
_YES: Final = {"supported": True}
_CAPABILITIES: Final[Json] = {
    **dict.fromkeys(("batch", "citations", "code_execution", "image_input", "pdf_input", "structured_outputs"), _YES),
    "context_management": {
        "supported": True,
        **dict.fromkeys(("clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112"), _YES),
    },
    "effort": {"supported": True, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), _YES)},
    "server_tools": {"supported": True, "code_execution": _YES, "web_search": _YES},
    "thinking": {
        "supported": True,
        "types": dict.fromkeys(("adaptive", "between_tools", "disabled", "enabled"), _YES),
    },
}


def model_info(name: str, context_tokens: int, output_tokens: int) -> Json:
    """One model as Anthropic describes it; sizes in tokens."""
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "line": None,
        "deprecated_at": None,
        "retires_at": None,
        "max_input_tokens": context_tokens,
        "max_tokens": output_tokens,
        "capabilities": _CAPABILITIES,
    }


def page_of(models: list[Json], query: str) -> Json:
    """The page of ``models`` that the query string asks for; InvalidRequest for a wrong query."""
    asked = {name: found[-1] for name, found in parse_qs(query).items()}
    limit = _limit(asked.get("limit"))
    names = [model["id"] for model in models]
    if (after := asked.get("after_id")) is not None:
        models = models[_position(names, after, "after_id") + 1 :]
    if (before := asked.get("before_id")) is not None:
        models = models[: _position(names, before, "before_id")]
        page, more = models[-limit:], len(models) > limit
    else:
        page, more = models[:limit], len(models) > limit
    ends = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"data": page, "has_more": more, "first_id": ends[0], "last_id": ends[1]}


def _limit(text: str | None) -> int:
    if text is None:
        return _USUAL
    if not text.isdecimal():
        raise InvalidRequest("limit: Input should be a valid integer, unable to parse string as an integer")
    if not _LEAST <= int(text) <= _MOST:
        edge = f"greater than or equal to {_LEAST}" if int(text) < _LEAST else f"less than or equal to {_MOST}"
        raise InvalidRequest(f"limit: Input should be {edge}")
    return int(text)


def _position(names: list[str], name: str, parameter: str) -> int:
    if name not in names:
        raise InvalidRequest(f"{parameter}: no model has the id {name}")
    return names.index(name)
