"""Refuses JSON that would become a great many objects: each of two bytes costs a reader fifty times that in memory, and
its time is the time of all who wait for the event loop.
"""

import re
from typing import Final

from pointsman.errors import GatewayError, Kind

LARGE_BYTES: Final = 1024 * 1024  # less can't cost much
# Objects and lists: what reads the members of every one takes half a second for so many. A conversation of a million
# tokens has some thousands, its tools included.
MOST_OBJECTS: Final = 250_000
MOST_VALUES: Final = 1_000_000  # of lists and objects together, by their commas: half a second as well
MOST_QUOTES: Final = 1_000_000  # with more, brackets in strings are not told from others
_JSON: Final = re.compile(rb"[\s\0\xef\xbb\xbf\xfe\xff]*[{\[]").match  # as UTF-16 too, which some readers take


def refuse_wide(body: bytes) -> None:
    """Raise GatewayError(TOO_LARGE) when a body is JSON of too many objects, lists or values. Those that a string seems
    to hold are none.
    """
    if len(body) < LARGE_BYTES or _JSON(body) is None or not _is_wide(body) or not _is_wide(_without_strings(body)):
        return
    message = f"the JSON body holds more than {MOST_OBJECTS} objects and lists, or {MOST_VALUES} values"
    raise GatewayError(Kind.TOO_LARGE, message)


def _is_wide(text: bytes) -> bool:
    return text.count(b"{") + text.count(b"[") > MOST_OBJECTS or text.count(b",") >= MOST_VALUES


def _without_strings(body: bytes) -> bytes:
    """The text between the strings; all of it when there are too many."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') > MOST_QUOTES:
        return body
    return b"".join(body.split(b'"')[::2])
