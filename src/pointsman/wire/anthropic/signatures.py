"""Other APIs' hidden reasoning in the form of Anthropic's, so that Anthropic's clients carry it.

Clients send thinking blocks back as they came, signature and all. What another API wants back (encrypted reasoning,
thought signatures) is put into the signature under a mark of ours, and found there when the block returns. A block
with the mark is never sent to Anthropic.
"""

import base64
import binascii
from typing import Final

import msgspec

from pointsman.canonical.parts import Opaque
from pointsman.wire.anthropic import WIRE

MARK: Final = "pointsman.1."

_KINDS: Final = ("signature", "redacted", "encrypted", "thought_signature", "reasoning_content")


class _Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    origin: str = ""
    kind: str = ""
    data: str = ""
    id: str | None = None


_encode: Final = msgspec.json.Encoder().encode
_carried: Final = msgspec.json.Decoder(_Carried)


def wrap(opaque: Opaque | None) -> str:
    """What stands in a signature's place for reasoning that Anthropic did not make. It is never empty."""
    held = _Carried() if opaque is None else _Carried(opaque.origin, opaque.kind, opaque.data, opaque.id)
    return MARK + base64.b64encode(_encode(held)).decode()


def unwrap(text: str, kind: str) -> Opaque | None:
    """The opaque state in a signature or in redacted data (``kind``): Anthropic's own, or what `wrap` put there."""
    if not text:
        return None
    if not text.startswith(MARK):
        return Opaque(origin=WIRE, kind="redacted" if kind == "redacted" else "signature", data=text)
    try:
        held = _carried.decode(base64.b64decode(text[len(MARK) :], validate=True))
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return None  # cut or changed on its way: of use to nobody
    if held.kind not in _KINDS or not held.origin:
        return None
    return Opaque(origin=held.origin, kind=held.kind, data=held.data, id=held.id)  # type: ignore[arg-type]
