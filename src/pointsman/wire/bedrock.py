"""Amazon Bedrock's Converse JSON: formats of media, reasons, usage, citations.

Source: docs.aws.amazon.com/bedrock/latest/APIReference (Converse, ConverseStream), as of 2026-11.
"""

import re
from types import MappingProxyType
from typing import Any, Final

from pointsman.canonical.parts import Citation
from pointsman.canonical.response import FinishReason
from pointsman.canonical.usage import TokenUsage

WIRE: Final = "bedrock"
API: Final = "Bedrock"
MAX_TOKENS: Final = 2**40  # no bill is larger, and no column overflows
MAX_NAME: Final = 64  # characters of a tool's name and of a call's id
MAX_METADATA: Final = 16

IMAGE_FORMATS: Final = MappingProxyType(
    {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
)
DOCUMENT_FORMATS: Final = MappingProxyType(
    {
        "application/pdf": "pdf",
        "text/csv": "csv",
        "application/msword": "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.ms-excel": "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "text/html": "html",
        "text/plain": "txt",
        "text/markdown": "md",
    }
)
VIDEO_FORMATS: Final = MappingProxyType(
    {
        "video/x-matroska": "mkv",
        "video/quicktime": "mov",
        "video/mp4": "mp4",
        "video/webm": "webm",
        "video/x-flv": "flv",
        "video/mpeg": "mpeg",
        "video/x-ms-wmv": "wmv",
        "video/3gpp": "three_gp",
    }
)
AUDIO_FORMATS: Final = frozenset(
    ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg", "mpga", "pcm", "webm")
)
REASONS: Final = MappingProxyType(
    {
        "end_turn": FinishReason.STOP,
        "stop_sequence": FinishReason.STOP_SEQUENCE,
        "max_tokens": FinishReason.LENGTH,
        "tool_use": FinishReason.TOOL_CALLS,
        "guardrail_intervened": FinishReason.CONTENT_FILTER,
        "content_filtered": FinishReason.CONTENT_FILTER,
        "malformed_tool_use": FinishReason.MALFORMED_CALL,
        "malformed_model_output": FinishReason.ERROR,
        "model_context_window_exceeded": FinishReason.CONTEXT_LENGTH,
    }
)
NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def read_usage(found: Any) -> TokenUsage | None:
    """``usage``, whose ``inputTokens`` leave out what was read from and written to the cache. Odd figures count 0."""
    if not isinstance(found, dict) or "inputTokens" not in found:
        return None
    read, written = (_count(found.get(name)) for name in ("cacheReadInputTokens", "cacheWriteInputTokens"))
    details = found.get("cacheDetails")
    hours = [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    hour = sum(_count(one.get("inputTokens")) for one in hours if one.get("ttl") == "1h")
    return TokenUsage(
        input_tokens=_count(found.get("inputTokens")) + read + written,
        output_tokens=_count(found.get("outputTokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(hour, written),
    )


def read_citation(found: Any) -> Citation | None:
    """A citation; None for what is none. ``start`` and ``end`` are places in the source, and stay in ``native``."""
    if not isinstance(found, dict):
        return None
    location = found.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    url = web.get("url") if isinstance(web, dict) else None
    contents = found.get("sourceContent")
    texts = [one.get("text") for one in contents if isinstance(one, dict)] if isinstance(contents, list) else []
    cited = "".join(text for text in texts if isinstance(text, str))
    source, title = found.get("source"), found.get("title")
    return Citation(
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        cited_text=cited or None,
        file_id=source if isinstance(source, str) else None,
        wire=WIRE,
        native=found,
    )


def _count(value: Any) -> int:
    if type(value) is float and abs(value) < MAX_TOKENS:
        value = int(value)
    return max(0, min(value, MAX_TOKENS)) if type(value) is int else 0
