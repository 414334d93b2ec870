"""Embeddings in our own words: texts in, vectors out."""

import array
import base64
import binascii
import sys
from typing import Any, Final, Literal

import msgspec

from pointsman.canonical.usage import TokenUsage

Purpose = Literal["query", "document", "classification", "clustering", "similarity", "code_query", "question", "fact"]
Inputs = list[str] | list[list[int]] | list[dict[str, Any]]

# What clients of the different APIs call a purpose, in lower case with underscores.
PURPOSES: Final[dict[str, Purpose]] = {
    "query": "query",
    "search_query": "query",
    "retrieval_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "retrieval_document": "document",
    "retrieval_passage": "document",
    "classification": "classification",
    "clustering": "clustering",
    "separation": "clustering",
    "semantic_similarity": "similarity",
    "text_matching": "similarity",
    "similarity": "similarity",
    "code_retrieval_query": "code_query",
    "question_answering": "question",
    "fact_verification": "fact",
}


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """Texts to embed, or their tokens, or objects that only the client's own API knows. None: not given.

    ``extra`` holds what has no word here, by the client's names; ``path`` gives those of what has.
    """

    wire: str
    model: str
    inputs: Inputs
    dimensions: int | None = None
    encoding: Literal["float", "base64"] | None = None
    purpose: Purpose | None = None
    truncate: bool | None = None
    user: str | None = None
    paths: dict[str, str] = {}
    extra: dict[str, Any] = {}

    @property
    def stream(self) -> bool:
        """Vectors are never streamed."""
        return False

    def path(self, option: str) -> str:
        """The client's own name of a member."""
        return self.paths.get(option, option)


class Embeddings(msgspec.Struct, kw_only=True):
    """One vector per input, in the order of the inputs: numbers, or base64 of little-endian 32-bit floats."""

    vectors: list[list[float]] | list[str]
    model: str | None = None
    usage: TokenUsage | None = None


def purpose_of(text: str) -> Purpose | None:
    """The purpose that a client's word means, whichever API the word is from; None for others."""
    return PURPOSES.get(text.lower().replace(".", "_").replace("-", "_"))


def pack(vector: list[float]) -> str:
    """A vector as base64 of little-endian 32-bit floats. Raises ValueError for numbers beyond 32-bit floats."""
    try:
        values = array.array("f", vector)
    except (OverflowError, TypeError):
        raise ValueError("not a vector of 32-bit floats") from None
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode("ascii")


def unpack(text: str) -> list[float]:
    """The numbers in `pack`'s text. Raises ValueError when it is none."""
    try:
        values = array.array("f", base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("not base64 of 32-bit floats") from None
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
