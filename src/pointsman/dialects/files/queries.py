"""What the queries of all files APIs have: numbers within bounds, words of a choice, tokens of pages."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence

from pointsman.errors import GatewayError, Kind


def number_in(query: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """A number from 1 to ``most``. Raises GatewayError(INVALID_REQUEST)."""
    text = query.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must be a number from 1 to {most}", param=name)
    return int(text)


def one_of(query: Mapping[str, str], name: str, choice: Sequence[str]) -> str:
    """One of the words; the first when it isn't given. Raises GatewayError(INVALID_REQUEST)."""
    word = query.get(name) or choice[0]
    if word not in choice:
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must be one of: {', '.join(choice)}", param=name)
    return word


def write_token(file_id: str) -> str:
    """A page's token: the name of the last file before it, in letters that can stand in an address."""
    return urlsafe_b64encode(file_id.encode()).decode().rstrip("=")


def read_token(token: str, name: str) -> str:
    """The name in a page's token. Raises GatewayError(INVALID_REQUEST)."""
    try:
        return urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' is no page's token", param=name) from None
