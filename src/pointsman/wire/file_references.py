"""Which uploaded files a request names, whatever else it says.

It is read as suspiciously as it is passed on freely: members that are given twice are all looked at, and names that are
written with escapes count. What holds free words (a tool's arguments, schemas, metadata, citations of an earlier
answer) names no file to any upstream, and is left alone.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pointsman.canonical.parts import ToolResultPart
from pointsman.canonical.request import Request
from pointsman.errors import GatewayError, Kind

MAX_REFERENCES: Final = 500
_IDS: Final = frozenset(("file_id", "file_ids", "fileId", "fileIds"))
_URIS: Final = frozenset(("fileUri", "file_uri"))
_WORDS: Final = re.compile(rb"file_?(?:[iI]d|[uU]ri)").search  # a third of the time that two plain searches take
# An escape that could hide a letter of those names.
_HIDDEN: Final = re.compile(rb"\\u00(?:5[fF5]|6[4569cC]|7[235]|49)")
_FREE: Final = frozenset(
    (
        "annotations", "args", "citations", "input_schema", "logprobs", "metadata", "parameters",
        "parametersJsonSchema", "responseJsonSchema", "responseSchema", "results", "schema",
    )
)  # fmt: skip
# Types of objects whose ``input`` is a tool's arguments, and of those that tell what a tool has made.
_CALLS: Final = frozenset(("tool_use", "server_tool_use", "mcp_tool_use"))
_MADE: Final = frozenset(("code_execution_output", "bash_code_execution_output"))
_GEMINI_HOST: Final = "generativelanguage"
_FILE_PATH: Final = re.compile(r"(?:^|/)files/([^/:?#]+)")
_OTHER_HOST: Final = re.compile(r".*/v\d\w*/files/([^/:?#]+)(?::\w+)?/?")


def may_name_files(body: bytes) -> bool:
    """A quick look; False is certain."""
    return _WORDS(body) is not None or (b"\\u00" in body and _HIDDEN.search(body) is not None)


def named_files(body: bytes, wire: str) -> tuple[str, ...]:
    """The ids of the files that a JSON body names; for Gemini's API without the word before the slash.

    A form names none. Raises GatewayError(INVALID_REQUEST) for too many, and for a body that can't be read: what can't
    be read here may be read by the upstream.
    """
    if not body.lstrip().startswith((b"{", b"[")):
        return ()
    try:
        root = json.loads(body, object_pairs_hook=Pairs, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise GatewayError(Kind.INVALID_REQUEST, "the request names a file and is not valid JSON") from None
    wanted = _URIS if wire == "gemini" else _IDS
    found: dict[str, None] = {}
    for value in _values(root, wanted):
        reference = gemini_file(value) if wire == "gemini" else value
        if reference:
            found[reference] = None
        if len(found) > MAX_REFERENCES:
            raise GatewayError(Kind.INVALID_REQUEST, f"more than {MAX_REFERENCES} files are named")
    return tuple(found)


def gemini_file(uri: str) -> str | None:
    """The name of the file of the Gemini API that an address means; None for any other address.

    What can't be told for certain is taken as a file's name, which nobody will own.
    """
    try:
        parts = urlsplit(uri.strip())
        host = (parts.hostname or "").lower()
    except ValueError:
        return uri
    if parts.scheme.lower() == "gs":
        return None
    path = unquote(unquote(parts.path))
    if parts.scheme and host and _GEMINI_HOST not in unquote(host):
        other = _OTHER_HOST.fullmatch(path)  # of a host that speaks Google's API
        return other[1] if other is not None else None
    found = _FILE_PATH.search(path)
    return found[1] if found is not None else uri


def addresses_in(request: Request) -> list[str]:
    """The addresses of pictures, sounds, films and documents in a request in our own words."""
    found: list[str] = []
    for message in request.messages:
        for part in message.parts:
            for one in part.content if isinstance(part, ToolResultPart) else (part,):
                source = getattr(one, "source", None)
                if source is not None and source.url is not None:
                    found.append(source.url)
    return found


class Pairs(list[tuple[str, Any]]):
    """An object's members in order, equal ones included."""


def _values(root: Any, wanted: frozenset[str]) -> Iterator[str]:
    pending: list[Any] = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, Pairs):
            types = [inner for name, inner in value if name == "type" and isinstance(inner, str)]
            if len(types) == 1 and types[0] in _MADE:
                continue
            free = len(types) == 1 and types[0] in _CALLS
            for name, inner in value:
                if name in wanted:
                    yield from _texts(inner)
                if name in _FREE or (free and name == "input"):
                    continue
                if name == "functionResponse" and isinstance(inner, Pairs):
                    pending.append(Pairs(pair for pair in inner if pair[0] != "response"))
                else:
                    pending.append(inner)
        elif isinstance(value, list):
            pending.extend(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and not isinstance(value, Pairs):
        yield from (one for one in value if isinstance(one, str))
