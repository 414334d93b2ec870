"""Keys' ids as UUIDs, for the API whose clients read them as such: the same 112 bits in another form (RFC 9562 5.8)."""

import re
from typing import Final

_ID: Final = re.compile(r"key_[0-9a-f]{28}")
_UUID: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-8([0-9a-f]{3})-8([0-9a-f]{3})-([0-9a-f]{10})00")


def uuid_of(key_id: str) -> str:
    """A key's id as a UUID of version 8; an id of another form as it is."""
    if _ID.fullmatch(key_id) is None:
        return key_id
    digits = key_id.removeprefix("key_")
    return f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-8{digits[15:18]}-{digits[18:]}00"


def key_id_of(uuid: str) -> str:
    """The id that `uuid_of` made it from; any other text as it is."""
    found = _UUID.fullmatch(uuid.lower())
    return "key_" + "".join(found.groups()) if found is not None else uuid
