"""Large JSON with its long strings taken out, so that decoders need not walk through a picture or a document.

A decoder looks at each byte of a string; finding its end takes a sixteenth of that. What is left decodes to the same,
and `Shortened.whole` gives a value back as it came.
"""

from typing import Final

import msgspec

LONG_BYTES: Final = 4096
_FREE_QUOTES: Final = 64
_BYTES_PER_QUOTE: Final = 4096  # with more quotes in a body the decoder is faster
_QUOTE: Final = b'"'
_BACKSLASH: Final = 0x5C
_MARK: Final = b"\xff"  # in no UTF-8, so in nothing that came


class Shortened:
    """``text``: a JSON text with a mark in the place of the content of each long string."""

    __slots__ = ("_body", "_places", "text")

    def __init__(self, body: bytes, places: list[tuple[int, int]]) -> None:
        view = self._body = memoryview(body)
        self._places = places
        parts: list[bytes | memoryview] = []
        done = 0
        for number, (start, end) in enumerate(places):
            parts += (view[done:start], b"%b%d%b" % (_MARK, number, _MARK))
            done = end
        parts.append(view[done:])
        self.text = b"".join(parts)

    def whole(self, value: msgspec.Raw) -> msgspec.Raw:
        """A value of ``text`` as it came, without a copy."""
        held = bytes(value)
        first, last = held.find(_MARK), held.rfind(_MARK)
        if first < 0:
            return value
        first_place = self._places[int(held[first + 1 : held.find(_MARK, first + 1)])]
        last_place = self._places[int(held[held.rfind(_MARK, 0, last) + 1 : last])]
        return msgspec.Raw(self._body[first_place[0] - first : last_place[1] + len(held) - last - 1])


def shorten(body: bytes) -> Shortened | None:
    """A JSON text, which must be UTF-8, without its long strings; None when it has none, or too many strings.

    What has no line feed in it is not checked further: whatever else JSON forbids inside a string is not seen.
    """
    places = _find_long_strings(body)
    if not places or any(body.find(b"\n", start, end) >= 0 for start, end in places):
        return None
    return Shortened(body, places)


def _find_long_strings(body: bytes) -> list[tuple[int, int]] | None:
    """Beginning and end of the content of each long string; None when that would take too long, or one has no end."""
    find, left, position = body.find, _FREE_QUOTES + len(body) // _BYTES_PER_QUOTE, 0
    places: list[tuple[int, int]] = []
    while left > 0:
        start = find(_QUOTE, position) + 1
        if not start:
            return places
        end = find(_QUOTE, start)
        while end > 0 and body[end - 1] == _BACKSLASH and _is_escaped(body, end) and left > 0:
            left -= 1
            end = find(_QUOTE, end + 1)
        if end < 0:
            return None
        if end - start >= LONG_BYTES:
            places.append((start, end))
        position = end + 1
        left -= 1
    return None


def _is_escaped(body: bytes, quote: int) -> bool:
    """Whether an odd number of backslashes stands before the quote."""
    before = quote - 1
    while body[before] == _BACKSLASH:  # ends at the string's own quote at the latest
        before -= 1
    return (quote - before) % 2 == 0
