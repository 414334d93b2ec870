"""The audit log's rows and the chain that holds them together (docs/audit.md). Pure: no key, no clock, no database.

Each row's hash is SHA-256 over the row before it and its own content, so that whoever has the rows can check them. Its
seal, which needs the installation's key, is made of the hash elsewhere (identity/audit_trail.py).
"""

import hashlib
import re
from typing import Any, Final, Literal

import msgspec

Outcome = Literal["success", "refused", "failed"]
Source = Literal["api", "cli", "server"]
START: Final = bytes(32)  # what the first row has in place of the hash of the row before
MOST_TEXT: Final = 200
MOST_FIELDS: Final = 40
_DOMAIN: Final = b"pointsman audit row 1\0"
# Names of members whose values are or hold secrets, as all contracts write them. Rather one too many than one missed.
_SECRET: Final = re.compile(
    r"key|secret|token|passw|passphrase|credential|code|verifier|cookie|auth|header|proxy|private|certificate|signature"
    r"|note|name|description",
    re.IGNORECASE,
)
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,39}")  # no digits: credentials have some
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did. ``at`` in microseconds since 1970 UTC.

    ``credential_id`` names the key, session or (of ``cli``) the user of the machine; ``address`` is where it came from.
    ``object_id`` is an id, or ``~`` and a keyed mark of what a caller wrote where an id belongs and nothing was found.
    ``fields`` are the names of what was sent, ``digest`` a keyed hash of it without what may be secret.
    ``status`` is that of HTTP, or a command's exit code. ``count``: how many such there were, where not all are kept.
    """

    at: int
    source: Source
    action: str
    outcome: Outcome
    status: int
    object_kind: str = ""
    object_id: str | None = None
    account_id: str | None = None
    user_id: str | None = None
    credential_id: str | None = None
    credential_kind: str | None = None
    address: str | None = None
    request_id: str | None = None
    fields: tuple[str, ...] = ()
    digest: str | None = None
    count: int = 1


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Where a row stands in the chain. ``key_id`` names the master key whose audit key made the ``seal``."""

    sequence: int
    key_id: str
    previous: bytes
    hash: bytes
    seal: bytes


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An entry in its place."""

    entry: Entry
    link: Link


def row_hash(sequence: int, key_id: str, previous: bytes, entry: Entry) -> bytes:
    """32 bytes that stand for this entry at this place behind that row."""
    return hashlib.sha256(_DOMAIN + previous + _encode((sequence, key_id, entry))).digest()


def shown(row: Row) -> dict[str, Any]:
    """A row as programs read it, with all that its hash is made of."""
    link = row.link
    chain = {"previous": link.previous.hex(), "hash": link.hash.hex(), "seal": link.seal.hex()}
    return {"sequence": link.sequence, **msgspec.structs.asdict(row.entry), "key_id": link.key_id, **chain}


def plain(text: str | None, limit: int = MOST_TEXT) -> str | None:
    """``text`` as it may stand in a row: printable, not longer than ``limit``; None for none."""
    if not text:
        return None
    return "".join(letter if letter.isprintable() else "?" for letter in text[:limit])


def field_names(body: Any) -> tuple[str, ...]:
    """The members of a JSON object that look like names, in order; what else was written there is left out."""
    if not isinstance(body, dict):
        return ()
    return tuple(sorted(name for name in body if _FIELD.fullmatch(name)))[:MOST_FIELDS]


def without_secrets(value: Any, depth: int = 8) -> Any:
    """A JSON value without the members that may hold secrets, by their names; deeper than ``depth`` nothing."""
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {name: without_secrets(one, depth - 1) for name, one in value.items() if not _SECRET.search(name)}
    if isinstance(value, list):
        return [without_secrets(one, depth - 1) for one in value]
    return value


def digest_input(body: Any) -> bytes:
    """What a row's digest is made of: the same for equal values, in whatever order their members are written."""
    return _encode(without_secrets(body))
