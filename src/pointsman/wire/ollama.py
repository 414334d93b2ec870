"""Ollama's JSON as clients and upstreams share it: options, thinking levels, times, log probabilities, reasons.

Source: the API reference at docs.ollama.com/api and the server's own types, as of 2026-11.
"""

import re
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from pointsman.canonical.response import FinishReason, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.wire.members import Members

WIRE: Final = "ollama"
CHAT_PATH: Final = "/api/chat"
GENERATE_PATH: Final = "/api/generate"
NDJSON: Final = b"application/x-ndjson"
MAX_TOP_LOGPROBS: Final = 20
MAX_TOKENS: Final = 2**40  # no bill is larger, and no column overflows

# Our option: its name in Ollama's ``options``. ``num_predict`` and ``stop`` need more than a name.
NUMBERS: Final = MappingProxyType(
    {
        "temperature": "temperature",
        "top_p": "top_p",
        "min_p": "min_p",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
        "repetition_penalty": "repeat_penalty",
    }
)
WHOLE_NUMBERS: Final = MappingProxyType({"top_k": "top_k", "seed": "seed"})
# Our option: its path in a request, where the names differ.
PATHS: Final = MappingProxyType(
    {
        "max_output_tokens": "options.num_predict",
        "stop": "options.stop",
        "output_format": "format",
        "reasoning": "think",
        **{ours: f"options.{theirs}" for ours, theirs in {**NUMBERS, **WHOLE_NUMBERS}.items()},
    }
)
# A generate request has its text here; the marker by which a provider knows it.
GENERATE_PATHS: Final = MappingProxyType({**PATHS, "messages": "prompt"})
# What an answer says beyond our words, which only an Ollama upstream can know: times in nanoseconds, the deprecated
# encoding of the conversation, and where a model really ran.
OWN_MEMBERS: Final = frozenset(
    (
        "total_duration",
        "load_duration",
        "prompt_eval_duration",
        "eval_duration",
        "context",
        "remote_model",
        "remote_host",
    )
)
LEVELS: Final = ("low", "medium", "high")

_TIME: Final = re.compile(r"(?P<seconds>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(?P<zone>Z|[+-]\d\d:\d\d)")
_DONE: Final = MappingProxyType(
    {
        "stop": FinishReason.STOP,
        "length": FinishReason.LENGTH,
        "content_filter": FinishReason.CONTENT_FILTER,
        "refusal": FinishReason.REFUSAL,
        "pause": FinishReason.PAUSE,
    }
)
_REASONS: Final = MappingProxyType(
    {
        FinishReason.LENGTH: "length",
        FinishReason.CONTEXT_LENGTH: "length",
        FinishReason.CONTENT_FILTER: "content_filter",
        FinishReason.REFUSAL: "refusal",
        FinishReason.PAUSE: "pause",
    }
)


def finish_reason(done_reason: str | None, called: bool) -> FinishReason:
    """Our word for ``done_reason``; Ollama ends with "stop" where it called tools, and older versions gave none."""
    reason = _DONE.get(done_reason or "stop", FinishReason.STOP)
    return FinishReason.TOOL_CALLS if called and reason is FinishReason.STOP else reason


def done_reason(reason: FinishReason | None) -> str:
    """Ollama's word, "stop" for every natural end."""
    return "stop" if reason is None else _REASONS.get(reason, "stop")


def read_time(text: str | None) -> int | None:
    """Seconds since 1970 of a time in RFC 3339 with up to nanoseconds; None when it is none."""
    found = _TIME.fullmatch(text) if text else None
    if found is None:
        return None
    try:
        return int(datetime.fromisoformat(found["seconds"] + found["zone"].replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        return None


def write_time(seconds: int) -> str:
    """Seconds since 1970 as Ollama writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_usage(members: Members) -> TokenUsage | None:
    """The counts of an answer's last object; None when there are none. Odd figures count as nothing."""
    counts = [members.raw("prompt_eval_count"), members.raw("eval_count")]
    if counts == [None, None]:
        return None
    read, written = (_count(value) for value in counts)
    return TokenUsage(input_tokens=read, output_tokens=written)


def write_usage(usage: TokenUsage | None) -> dict[str, int]:
    """The counts as members."""
    if usage is None:
        return {}
    return {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}


def read_logprobs(found: Any) -> list[TokenLogprob] | None:
    """``logprobs`` of an answer; None when there are none or they are none that can be read."""
    if not isinstance(found, list) or not found:
        return None
    tokens = [_logprob(one) for one in found if isinstance(one, dict)]
    return [token for token in tokens if token is not None] or None


def write_logprobs(tokens: list[TokenLogprob]) -> list[dict[str, Any]]:
    """Log probabilities as Ollama has them."""
    found = []
    for token in tokens:
        one: dict[str, Any] = {"token": token.token, "logprob": token.logprob}
        if token.bytes is not None:
            one["bytes"] = token.bytes
        if token.top is not None:
            one["top_logprobs"] = write_logprobs(token.top)
        found.append(one)
    return found


def _count(value: Any) -> int:
    if type(value) is float and abs(value) < MAX_TOKENS:
        value = int(value)
    return max(0, min(value, MAX_TOKENS)) if type(value) is int else 0


def _logprob(one: dict[str, Any]) -> TokenLogprob | None:
    token, logprob, spelled = one.get("token"), one.get("logprob"), one.get("bytes")
    if not isinstance(token, str) or type(logprob) not in (int, float):
        return None
    spelled = spelled if isinstance(spelled, list) and all(type(byte) is int for byte in spelled) else None
    return TokenLogprob(token, float(logprob or 0), spelled, read_logprobs(one.get("top_logprobs")))
