"""Aliases with ``*`` in their names, which stand for any text: of those that fit, the longest is meant."""

from collections.abc import Mapping
from typing import Final

STAR: Final = "*"


class AliasPatterns:
    """The patterns of a catalogue. A ``*`` in what one stands for is the text that its own first ``*`` stood for."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self.meanings: Final = dict(
            sorted(patterns.items(), key=lambda pair: (-len(pair[0].replace(STAR, "")), pair[0]))
        )
        self._ranked = [(name.split(STAR), meaning) for name, meaning in self.meanings.items()]

    def meaning(self, name: str) -> str | None:
        """What a name stands for; None when no pattern fits."""
        for pieces, meaning in self._ranked:
            text = _first_text(pieces, name)
            if text is not None:
                return meaning.replace(STAR, text)
        return None


def _first_text(pieces: list[str], name: str) -> str | None:
    """What the first star stands for; None when the name doesn't fit. Takes time by the name's length, not its square:
    names come from callers.
    """
    first, *middle, last = pieces
    end = len(name) - len(last)
    if end < len(first) or not name.startswith(first) or not name.endswith(last):
        return None
    at, first_end = len(first), end
    for number, piece in enumerate(middle):
        found = name.find(piece, at, end)
        if found < 0:
            return None
        if number == 0:
            first_end = found
        at = found + len(piece)
    return name[len(first) : first_end]
