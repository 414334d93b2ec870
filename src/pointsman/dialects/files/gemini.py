"""The Gemini API's ``/v1beta/files``: ai.google.dev/api/files."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pointsman.canonical.files import FilePage, FileQuery
from pointsman.dialects.files.queries import number_in, read_token, write_token
from pointsman.dialects.gemini.errors import render_error, render_limits

__all__ = ["NAME", "WIRE", "read_query", "render_error", "render_limits", "write_page"]

NAME: Final = "gemini.files"
WIRE: Final = "gemini"
MOST, USUAL = 100, 10
_encode: Final = msgspec.json.Encoder().encode


def read_query(query: Sequence[tuple[str, str]]) -> FileQuery:
    """The list that is asked for. Raises GatewayError(INVALID_REQUEST) that names the member at fault."""
    told = dict(query)
    token = told.get("pageToken")
    return FileQuery(
        limit=number_in(told, "pageSize", default=USUAL, most=MOST),
        after=read_token(token, "pageToken") if token else None,
    )


def write_page(page: FilePage) -> bytes:
    """The list as Google has it: members without a value are left out."""
    made: dict[str, Any] = {}
    if page.files:
        made["files"] = [file.told for file in page.files]
    if page.more and page.files:
        made["nextPageToken"] = write_token(page.files[-1].id)
    return _encode(made)
