"""A client's JSON body on its way to an upstream of the same API: values byte for byte, each member once.

Of members with one name the last is kept, as by all that read requests here, names written with escapes included. So an
upstream is asked for what was checked, limited and counted, whichever of them its own parser would take.
"""

from collections.abc import Iterable
from contextlib import suppress
from itertools import product
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.wire.json_faults import describe
from pointsman.wire.long_strings import shorten

LARGE_BODY_BYTES: Final = 64 * 1024
MODEL: Final = "model"
_OTHER_MODELS: Final = frozenset(map("".join, product(*zip("model", "MODEL", strict=True)))) - {MODEL}

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


def read_members(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of a body that a decoder has walked through before: long strings of a large one are stepped over.

    Raises GatewayError(INVALID_REQUEST) when it is no JSON object.
    """
    if len(body) >= LARGE_BODY_BYTES and (short := shorten(body)) is not None:
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):  # a member's name may be long, too
            return {name: short.whole(value) for name, value in _members.decode(short.text).items()}
    try:
        return _members.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise describe(error, body) from None


def with_model(body: bytes, model: str) -> bytes:
    """A body whose ``model`` is this one. Raises GatewayError(INVALID_REQUEST) when it is no JSON object."""
    members = read_members(body)
    members[MODEL] = msgspec.Raw(_encode(model))
    return _encode(members)


def refuse_other_models(names: Iterable[str]) -> None:
    """Raise GatewayError(INVALID_REQUEST) when one of a body's members is ``Model``, or the like.

    Parsers of Go and .NET take capital and small letters for the same: an upstream could be asked for another model
    than the one that was read here.
    """
    if not _OTHER_MODELS.isdisjoint(names):
        raise GatewayError(Kind.INVALID_REQUEST, "'model' is written in other letters, too", param=MODEL)
