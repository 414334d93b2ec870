"""Anthropic's ``/v1/files``: platform.claude.com/docs/en/api/beta/files. Lists go on by a page's token (newer clients)
or by the id of a file (older ones).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from pointsman.canonical.files import FilePage, FileQuery
from pointsman.dialects.anthropic.errors import render_error, render_limits
from pointsman.dialects.files.queries import number_in, read_token, write_token
from pointsman.errors import GatewayError, Kind

__all__ = ["NAME", "WIRE", "read_query", "render_error", "render_limits", "write_page"]

NAME: Final = "anthropic.files"
WIRE: Final = "anthropic"
MOST, USUAL, MOST_IDS = 1000, 20, 100
_PAGE: Final = "page_"
_encode: Final = msgspec.json.Encoder().encode


def read_query(query: Sequence[tuple[str, str]]) -> FileQuery:
    """The list that is asked for. Raises GatewayError(INVALID_REQUEST) that names the member at fault."""
    told = dict(query)
    ids = tuple(dict.fromkeys(value for name, value in query if name in ("ids", "ids[]")))
    if len(ids) > MOST_IDS:
        raise GatewayError(Kind.INVALID_REQUEST, f"'ids' may have {MOST_IDS} entries", param="ids")
    page = told.get("page")
    if ids and (page or "limit" in told):
        raise GatewayError(Kind.INVALID_REQUEST, "'ids' goes with neither 'page' nor 'limit'", param="ids")
    if page and not page.startswith(_PAGE):
        raise GatewayError(Kind.INVALID_REQUEST, "'page' is no page's token", param="page")
    after = read_token(page.removeprefix(_PAGE), "page") if page else told.get("after_id")
    return FileQuery(
        limit=MOST_IDS if ids else number_in(told, "limit", default=USUAL, most=MOST),
        after=after or None,
        before=told.get("before_id") or None,
        ids=ids or None,
    )


def write_page(page: FilePage) -> bytes:
    """The list as Anthropic has it, in its newer and its older words."""
    files = page.files
    return _encode(
        {
            "data": [file.told for file in files],
            "first_id": files[0].id if files else None,
            "last_id": files[-1].id if files else None,
            "has_more": page.more,
            "next_page": _PAGE + write_token(files[-1].id) if page.more and files else None,
        }
    )
