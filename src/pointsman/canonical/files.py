"""Uploaded files as the gateway knows them: not their content, only what their upstream told of them."""

from typing import Any

import msgspec

Told = dict[str, Any]  # an upstream's own object of a file, in its own words


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream told of a file. ``id`` is the upstream's, without the word before a slash (``files/abc`` is
    ``abc``); ``size_bytes`` is None where it was not told; ``expires_at`` is in microseconds since 1970 UTC.
    """

    id: str
    told: Told
    size_bytes: int | None = None
    purpose: str | None = None
    expires_at: int | None = None


class FileQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which files a list shall have: at most ``limit``, behind the file ``after`` or before the file ``before``; only
    those of ``purpose``, or of ``ids``.
    """

    limit: int
    after: str | None = None
    before: str | None = None
    newest_first: bool = True
    purpose: str | None = None
    ids: tuple[str, ...] | None = None


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list; ``more``: it goes on behind the last."""

    files: tuple[StoredFile, ...]
    more: bool
