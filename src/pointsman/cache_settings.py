"""The settings of the response cache: a part of pointsman.toml (settings.py reads it)."""

from typing import Annotated, Final, Literal

import msgspec

MAX_TTL_SECONDS: Final = 86_400  # OpenRouter's longest; no entry lives longer
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Ttl = Annotated[int, msgspec.Meta(ge=1, le=MAX_TTL_SECONDS)]


class SemanticSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[cache.semantic]``: answers to questions that mean the same (docs/cache.md)."""

    enabled: bool = False
    threshold: Share = 0.95
    max_temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.3
    max_characters: Count = 1000
    max_questions: Count = 5000
    timeout_seconds: Seconds = 0.25


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[cache]``: answers given again to requests that are the same (docs/cache.md)."""

    mode: Literal["off", "asked", "on"] = "asked"
    ttl_seconds: Ttl = 300
    scope: Literal["workspace", "key"] = "workspace"
    memory_bytes: Count = 32 * 1024 * 1024
    memory_seconds: Seconds = 30.0
    max_entry_bytes: Count = 1024 * 1024
    durable: bool = True
    max_per_workspace: Count = 2000
    semantic: SemanticSettings = SemanticSettings()
