"""The settings of what is kept of calls for later ones: answers, reasoning state, uploaded files."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class AnswerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[answers]``: answers kept for requests that come again with their ``Idempotency-Key`` (docs/failover.md)."""

    keep_seconds: Seconds = 3600.0
    memory_bytes: Count = 32 * 1024 * 1024
    max_entry_bytes: Count = 4 * 1024 * 1024
    durable: bool = True
    max_per_workspace: Count = 2000


class ResponseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[responses]``: what is kept of the Responses API (docs/decisions/0009-websockets.md)."""

    keep: bool = True
    retention_days: Count = 30
    max_bytes: Count = 4 * 1024 * 1024
    max_per_workspace: Count = 10_000


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[vault]``: reasoning state kept for clients that do not hand it back (docs/translation.md)."""

    durable: bool = True
    retention_hours: Count = 24
    memory_bytes: Count = 32 * 1024 * 1024
    max_entry_bytes: Count = 1024 * 1024
    max_per_workspace: Count = 20_000
    max_bytes: Count = 1024 * 1024 * 1024
    read_timeout_seconds: Seconds = 0.25


class FileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[files]``: uploads that pass to an upstream. Sizes in bytes."""

    max_bytes: Count = 64 * 1024 * 1024
    allow_unknown: bool = False
