"""Header lines that an operator adds to every request of a connection: which may be added, and how they are written."""

import re
from collections.abc import Mapping
from typing import Final

from pointsman.errors import ConfigError

MAX_HEADERS: Final = 16
MAX_VALUE: Final = 4096  # characters
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # a token of RFC 9110 5.6.2
_VALUE: Final = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")
# What says where a message ends, belongs to one hop (RFC 9110 7.6.1), shows the credential, or is the format's own.
REFUSED: Final = frozenset(
    ("accept", "accept-encoding", "anthropic-version", "api-key", "authorization", "connection", "content-encoding",
     "content-length", "content-type", "cookie", "date", "expect", "forwarded", "host", "keep-alive", "range", "te",
     "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "x-api-key", "x-goog-api-key")
)  # fmt: skip
REFUSED_PREFIXES: Final = ("proxy-", "sec-", "x-amz-")


def check_headers(headers: Mapping[str, str], place: str) -> None:
    """Whether they may stand in every request; raises ConfigError that names the header and never its value."""
    if len(headers) > MAX_HEADERS:
        raise ConfigError(f"{place}: {MAX_HEADERS} headers at most")
    names = [name.lower() for name in headers]
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{place}: a header's name must be 1 to 100 letters, digits or '-'")
        if name.lower() in REFUSED or name.lower().startswith(REFUSED_PREFIXES) or names.count(name.lower()) > 1:
            raise ConfigError(f"{place}.{name}: is the gateway's own, or there twice")
        if len(value) > MAX_VALUE or not _VALUE.fullmatch(value):
            raise ConfigError(f"{place}.{name}: must be visible ASCII characters, {MAX_VALUE} at most")


def insert_lines(head: bytes, headers: tuple[tuple[str, str], ...]) -> bytes:
    """A request's head with more header lines behind its first line."""
    first, end, rest = head.partition(b"\r\n")
    return first + end + "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1") + rest
