"""Ids of Anthropic's form: a prefix, ``_01`` and 22 letters and digits."""

import hashlib
from typing import Final

_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"


def block_id(prefix: str, serial: str, position: int) -> str:
    """The id of something at ``position`` of the answer ``serial``; the same for the same two."""
    digest = hashlib.sha256(f"{serial} {position}".encode()).digest()
    return f"{prefix}_01" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:22])
