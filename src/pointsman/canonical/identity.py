"""Identifiers that an answer needs and its upstream did not give: derived from the request's own, never drawn."""

from collections.abc import Callable
from hashlib import blake2s
from typing import Any, Final

import msgspec

from pointsman.canonical.usage import TokenUsage

METADATA: Final = "openrouter_metadata"  # where OpenRouter's clients find how a request was routed
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_LETTERS: Final = bytes(ord(_ALPHABET[byte % len(_ALPHABET)]) for byte in range(256))  # of each byte


class Costs(msgspec.Struct, frozen=True):
    """What a call costs, in nano-USD: what is charged for it, and what its upstream takes. ``byok``: the upstream bills
    the caller itself, and the charge is a fee.
    """

    charged: int
    upstream: int
    byok: bool = False


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the outside tells translation about a call: the request's id and its time in seconds since 1970.

    ``aside`` gives members that some clients are told beside the answer: who gave it, and how it was found; ``costs``
    what it costs when it has used so much, None where nobody knows.
    """

    request_id: str
    created: int
    aside: Callable[[], dict[str, Any]] | None = None
    costs: Callable[[TokenUsage], Costs | None] | None = None

    def told(self) -> dict[str, Any]:
        """The members beside the answer, when the client asked how its request was routed; else none."""
        found = self.aside() if self.aside is not None else {}
        return found if METADATA in found else {}

    def derive(self, prefix: str, number: int = 0, length: int = 24) -> str:
        """``prefix`` and ``length`` letters and digits, always the same for the same request and number."""
        digest = blake2s(f"{self.request_id}/{prefix}/{number}".encode()).digest()
        return prefix + digest[:length].translate(_LETTERS).decode("ascii")
