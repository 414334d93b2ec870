"""Amazon's event stream: binary messages with headers and two checksums. An incremental splitter and an encoder.

Source: docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html and the Smithy specification of
``application/vnd.amazon.eventstream``: lengths and CRC-32 are big-endian; the prelude is the lengths of message and
headers and its own checksum; the message's checksum covers everything before it.
"""

import struct
import zlib
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind

CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"
MAX_MESSAGE_BYTES: Final = 24 * 1024 * 1024  # what AWS promises to keep below
_PRELUDE: Final = struct.Struct(">II")
_CHECKSUM: Final = struct.Struct(">I")
_HEAD: Final = 12  # prelude and its checksum
_LEAST: Final = _HEAD + 4

# Types of header values: how many bytes follow, for those whose length is fixed.
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7


class EventMessage(msgspec.Struct, frozen=True, gc=False):
    """One message: its text headers (others are left out) and its payload."""

    headers: dict[str, str]
    payload: bytes


class EventStreamSplitter:
    """Bytes in any pieces to whole messages whose checksums hold.

    A wrong checksum or length, or a message without measure, sets ``error`` (UPSTREAM_ERROR): what comes after it has
    no meaning and is not looked at.
    """

    __slots__ = ("_held", "_limit", "error")

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.error: GatewayError | None = None
        self._held = bytearray()
        self._limit = max_message_bytes

    @property
    def pending(self) -> bool:
        """True when bytes of an unfinished message wait."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[EventMessage]:
        """The messages that ``data`` completes, those before an ``error`` too."""
        messages: list[EventMessage] = []
        if self.error is None:
            self._held += data
            try:
                self._take(messages)
            except GatewayError as error:
                self.error = error
        return messages

    def _take(self, messages: list[EventMessage]) -> None:
        held = self._held
        start = 0
        while len(held) - start >= _HEAD:
            length, headers = _PRELUDE.unpack_from(held, start)
            if zlib.crc32(held[start : start + 8]) != _CHECKSUM.unpack_from(held, start + 8)[0]:
                raise _broken("a head whose checksum is wrong")
            if not _LEAST + headers <= length <= self._limit:
                raise _broken("a message of an impossible length")
            if len(held) - start < length:
                break
            messages.append(_message(bytes(held[start : start + length]), headers))
            start += length
        if start:
            del held[:start]


def encode_message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message on the wire, its headers as text."""
    encoded = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _STRING, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = _PRELUDE.pack(_LEAST + len(encoded) + len(payload), len(encoded))
    body = prelude + _CHECKSUM.pack(zlib.crc32(prelude)) + encoded + payload
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _message(data: bytes, headers: int) -> EventMessage:
    if zlib.crc32(data[:-4]) != _CHECKSUM.unpack_from(data, len(data) - 4)[0]:
        raise _broken("a message whose checksum is wrong")
    return EventMessage(_headers(data[_HEAD : _HEAD + headers]), data[_HEAD + headers : -4])


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name, kind = data[at + 1 : name_end].decode(), data[name_end]
            at = name_end + 1
            if kind in (_BYTES, _STRING):
                length = int.from_bytes(data[at : at + 2], "big")
                value = data[at + 2 : at + 2 + length]
                at += 2 + length
                if kind == _STRING:
                    found[name] = value.decode()
            else:
                at += _FIXED[kind]
    except (IndexError, KeyError, UnicodeDecodeError):
        raise _broken("headers that can't be read") from None
    if at != len(data):
        raise _broken("headers that can't be read")
    return found


def _broken(what: str) -> GatewayError:
    return GatewayError(Kind.UPSTREAM_ERROR, f"the upstream's event stream has {what}")
