"""Embedding vectors and relevance scores that mean something: texts that share words point in similar directions."""

import array
import base64
import hashlib
import math
import re
from collections.abc import Sequence
from typing import Final

_WORD: Final = re.compile(r"\w+")
_SPREAD: Final = 8  # places of a vector that one word touches


def vector_of(text: str, dimensions: int) -> list[float]:
    """A unit vector of ``dimensions`` 32-bit floats: the same text always has the same one."""
    sums = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        digest = hashlib.blake2b(word.encode(), digest_size=4 * _SPREAD).digest()
        for start in range(0, len(digest), 4):
            number = int.from_bytes(digest[start : start + 4], "little")
            sums[(number >> 1) % dimensions] += 1.0 if number & 1 else -1.0
    length = math.sqrt(sum(value * value for value in sums))
    if length == 0:
        sums[0] = length = 1.0
    return list(array.array("f", (value / length for value in sums)))


def packed(vector: Sequence[float]) -> str:
    """The vector as base64 of little-endian 32-bit floats, as the APIs send it."""
    values = array.array("f", vector)
    if values.itemsize != 4:
        raise RuntimeError("this platform has no 32-bit float arrays")
    return base64.b64encode(values.tobytes()).decode()


def relevance(query: str, document: str) -> float:
    """How well a document fits a query, from 0 to 1."""
    pairs = zip(vector_of(query, 256), vector_of(document, 256), strict=True)
    return round(max(0.0, min(1.0, sum(one * other for one, other in pairs))), 6)


def ranking(query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
    """Each document's index and relevance, the best first, equal ones in their order."""
    scores = [(index, relevance(query, document)) for index, document in enumerate(documents)]
    return sorted(scores, key=lambda row: -row[1])


def tokens_in(texts: Sequence[str]) -> int:
    """A stable count of tokens: one per four characters, at least one a text."""
    return sum(max(1, -(-len(text) // 4)) for text in texts)
