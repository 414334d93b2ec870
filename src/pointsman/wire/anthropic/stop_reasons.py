"""Why an answer ended, in Anthropic's words and in ours."""

from types import MappingProxyType
from typing import Final

from pointsman.canonical.response import FinishReason

_PAIRS: Final = (
    ("end_turn", FinishReason.STOP),
    ("stop_sequence", FinishReason.STOP_SEQUENCE),
    ("max_tokens", FinishReason.LENGTH),
    ("model_context_window_exceeded", FinishReason.CONTEXT_LENGTH),
    ("tool_use", FinishReason.TOOL_CALLS),
    ("refusal", FinishReason.REFUSAL),
    ("pause_turn", FinishReason.PAUSE),
)
READ: Final = MappingProxyType(dict(_PAIRS))
# Anthropic calls every answer that it would not give a refusal.
WRITE: Final = MappingProxyType({reason: word for word, reason in _PAIRS} | {FinishReason.CONTENT_FILTER: "refusal"})


def read(word: str) -> FinishReason:
    """Our word; one that is unknown, or ``compaction``, is an end that asks for nothing."""
    return READ.get(word, FinishReason.STOP)
