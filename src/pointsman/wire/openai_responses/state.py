"""Other APIs' reasoning state in a place that a Responses client keeps: inside ``encrypted_content``.

A client that asks for encrypted reasoning sends it back with the next turn. What stands in it is its business to carry,
not to read: so the signature of another API goes there whole, with the text that it signs.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, Literal

import msgspec

from pointsman.canonical.parts import Opaque, ReasoningPart
from pointsman.wire.openai_responses import WIRE

PREFIX: Final = "pm1."


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What an envelope holds; the order of the fields is its format."""

    origin: str
    kind: Literal["signature", "redacted", "encrypted", "thought_signature", "reasoning_content"]
    data: str
    id: str | None
    text: str


_decoder: Final = msgspec.json.Decoder(Sealed)
_encode: Final = msgspec.json.Encoder().encode


def write_state(part: ReasoningPart, text: str) -> str | None:
    """The ``encrypted_content`` of a reasoning part whose visible text is ``text``; None when it has no state."""
    opaque = part.opaque
    if opaque is None:
        return None
    if opaque.origin == WIRE:
        return opaque.data
    sealed = Sealed(opaque.origin, opaque.kind, opaque.data, opaque.id, text)
    return PREFIX + urlsafe_b64encode(_encode(sealed)).decode()


def read_state(content: str, item_id: str | None) -> tuple[Opaque, str]:
    """The state in an ``encrypted_content``, and the text that goes with it (empty for OpenAI's own)."""
    if content.startswith(PREFIX):
        try:
            sealed = _decoder.decode(urlsafe_b64decode(content[len(PREFIX) :].encode()))
        except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
            pass
        else:
            return Opaque(origin=sealed.origin, kind=sealed.kind, data=sealed.data, id=sealed.id), sealed.text
    return Opaque(origin=WIRE, kind="encrypted", data=content, id=item_id), ""
