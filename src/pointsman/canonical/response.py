"""A whole answer in our own words."""

from enum import StrEnum
from typing import Any

import msgspec

from pointsman.canonical.parts import AnyPart, Extra
from pointsman.canonical.usage import TokenUsage


class FinishReason(StrEnum):
    """Why a choice ended."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    CONTEXT_LENGTH = "context_length"  # the model's window is full
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"  # a server tool's turn was cut; the client sends the answer back to go on
    MALFORMED_CALL = "malformed_call"  # the model called a tool in a way nobody can read
    ERROR = "error"


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token's log probability and its rivals' at that place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top: "list[TokenLogprob] | None" = None


class Choice(msgspec.Struct, kw_only=True):
    """One of the answers. ``native_finish_reason`` is the upstream's own word."""

    index: int = 0
    parts: list[AnyPart] = []
    finish_reason: FinishReason | None = None
    native_finish_reason: str | None = None
    stop_sequence: str | None = None
    logprobs: list[TokenLogprob] | None = None
    extra: Extra | None = None


class Response(msgspec.Struct, kw_only=True):
    """A whole answer. ``usage`` is None when the upstream gave none. ``wire`` is the API that it came in, and
    ``extra`` what that API said beyond our words, by path. ``created`` is in seconds since 1970, None when not told.
    """

    wire: str
    id: str | None = None
    model: str | None = None
    created: int | None = None
    choices: list[Choice] = []
    usage: TokenUsage | None = None
    service_tier: str | None = None
    extra: dict[str, Any] = {}

    @property
    def finish_reason(self) -> str | None:
        """The first choice's, in our words."""
        reason = self.choices[0].finish_reason if self.choices else None
        return reason.value if reason is not None else None
