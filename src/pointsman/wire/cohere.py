"""Cohere's v2 chat JSON: limits, reasons, usage, citations, log probabilities.

Source: the API reference at docs.cohere.com/reference/chat and chat-stream, as of 2026-11.
"""

from types import MappingProxyType
from typing import Any, Final

from pointsman.canonical.parts import Citation
from pointsman.canonical.response import FinishReason, TokenLogprob
from pointsman.canonical.usage import TokenUsage

WIRE: Final = "cohere"
API: Final = "Cohere"
CHAT_PATH: Final = "/v2/chat"
MAX_STOPS: Final = 5
MAX_TOKENS: Final = 2**40  # no bill is larger, and no column overflows

# Our option: its name at Cohere, the least and the most that it takes.
NUMBERS: Final = MappingProxyType(
    {
        "temperature": ("temperature", 0, 1),
        "top_p": ("p", 0.01, 0.99),
        "top_k": ("k", 0, 500),
        "frequency_penalty": ("frequency_penalty", 0, 1),
        "presence_penalty": ("presence_penalty", 0, 1),
        "seed": ("seed", 0, 2**63 - 1),
    }
)
REASONS: Final = MappingProxyType(
    {
        "COMPLETE": FinishReason.STOP,
        "STOP_SEQUENCE": FinishReason.STOP_SEQUENCE,
        "MAX_TOKENS": FinishReason.LENGTH,
        "TOOL_CALL": FinishReason.TOOL_CALLS,
        "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
        "ERROR_LIMIT": FinishReason.CONTEXT_LENGTH,
    }
)
# Reasons that say that the answer is not whole.
BROKEN: Final = frozenset(("ERROR", "TIMEOUT", "USER_CANCEL"))


def read_usage(found: Any) -> TokenUsage | None:
    """``usage``: what is billed, or what was counted where nothing is said of bills. Odd figures count as nothing."""
    if not isinstance(found, dict):
        return None
    counted = found.get("billed_units")
    if not isinstance(counted, dict) or "input_tokens" not in counted:
        counted = found.get("tokens")
    if not isinstance(counted, dict):
        return None
    read = _count(counted.get("input_tokens"))
    cached = min(_count(found.get("cached_tokens")), read)
    return TokenUsage(input_tokens=read, output_tokens=_count(counted.get("output_tokens")), cache_read_tokens=cached)


def usage_beyond(found: Any) -> dict[str, Any]:
    """What ``usage`` says beyond tokens (a search is billed by the piece), as members of an answer."""
    told: dict[str, Any] = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        if name == "billed_units" and isinstance(value, dict):
            value = {unit: count for unit, count in value.items() if unit not in ("input_tokens", "output_tokens")}
        if value and name not in ("tokens", "cached_tokens"):
            told[name] = value
    return {"usage": told} if told else {}


def read_citations(found: Any) -> list[Citation]:
    """One citation for each of its sources; the first has the citation as Cohere wrote it."""
    if not isinstance(found, dict):
        return []
    sources = found.get("sources")
    cited = [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    return [
        Citation(
            url=_text(document, "url"),
            title=_text(document, "title"),
            cited_text=_text(document, "text") or _text(document, "snippet"),
            file_id=_text(source, "id"),
            start=_offset(found.get("start")),
            end=_offset(found.get("end")),
            wire=WIRE,
            native=found if number == 0 else None,
        )
        for number, source in enumerate(cited or [{}])
        for document in [source.get("document") or source.get("tool_output") or {}]
    ]


def read_logprobs(found: Any) -> list[TokenLogprob] | None:
    """Log probabilities of pieces of text, each the sum of its tokens'; None when there are none."""
    items = found if isinstance(found, list) else [found]
    tokens = []
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("text"), str):
            continue
        values = item.get("logprobs")
        if isinstance(values, list) and all(type(value) in (int, float) for value in values):
            tokens.append(TokenLogprob(item["text"], float(sum(values))))
    return tokens or None


def _count(value: Any) -> int:
    if type(value) is float and abs(value) < MAX_TOKENS:
        value = int(value)
    return max(0, min(value, MAX_TOKENS)) if type(value) is int else 0


def _offset(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _text(holder: Any, name: str) -> str | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, str) else None
