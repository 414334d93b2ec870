"""OpenAI's ``/v1/files``: platform.openai.com/docs/api-reference/files."""

from collections.abc import Sequence
from typing import Final

import msgspec

from pointsman.canonical.files import FilePage, FileQuery
from pointsman.dialects.files.queries import number_in, one_of
from pointsman.dialects.openai_errors import render_error, render_limits

__all__ = ["NAME", "WIRE", "read_query", "render_error", "render_limits", "write_page"]

NAME: Final = "openai.files"
WIRE: Final = "openai"
MOST: Final = 10_000
_encode: Final = msgspec.json.Encoder().encode


def read_query(query: Sequence[tuple[str, str]]) -> FileQuery:
    """The list that is asked for. Raises GatewayError(INVALID_REQUEST) that names the member at fault."""
    told = dict(query)
    return FileQuery(
        limit=number_in(told, "limit", default=MOST, most=MOST),
        after=told.get("after") or None,
        newest_first=one_of(told, "order", ("desc", "asc")) == "desc",
        purpose=told.get("purpose") or None,
    )


def write_page(page: FilePage) -> bytes:
    """The list as OpenAI has it."""
    files = page.files
    return _encode(
        {
            "object": "list",
            "data": [file.told for file in files],
            "first_id": files[0].id if files else None,
            "last_id": files[-1].id if files else None,
            "has_more": page.more,
        }
    )
