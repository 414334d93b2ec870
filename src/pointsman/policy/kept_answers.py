"""Answers to requests with an idempotency key, for all workers and nodes: in the database, sealed, for a while.

Memory comes first (shared_calls.py). A request whose key is not known there waits for the database for a bounded time;
without an answer of it the call is made.
"""

import hashlib
import hmac
from typing import Final

import msgspec

from pointsman.policy.opaque_state import Store
from pointsman.policy.shared_calls import Answer, Asking, Name, SharedCall, used_otherwise

PURPOSE: Final = "kept-answer"  # of the keys that seal and name (state_store.py)
SPACE: Final = "answers/"  # before a workspace's name: its answers have a number of their own


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is stored, with the digest of the request that it belongs to."""

    digest: bytes
    answer: Answer


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Entry).decode


class KeptAnswers:
    """Whole answers in a `Store`."""

    def __init__(self, store: Store, secret: bytes) -> None:
        """``secret`` hides the keys' names."""
        self._store = store
        self._secret = secret

    def keep(self, workspace_id: str, call: SharedCall) -> None:
        """Have an answer written, later. Never waits, never fails."""
        answer = call.answer()
        if answer is not None:
            self._store.put(SPACE + workspace_id, self._key(call.name), _encode(Entry(call.name.digest, answer)))

    async def find(self, workspace_id: str, asking: Asking, name: Name) -> tuple[SharedCall, float] | None:
        """The call that was answered under this name, and for how many seconds it is kept; None: none is known.

        Raises GatewayError(INVALID_REQUEST, 422) when its key was used for another request.
        """
        key = self._key(name)
        kept = (await self._store.find(SPACE + workspace_id, (key,)) or {}).get(key)
        if kept is None:
            return None
        try:
            entry = _decode(kept.data)
        except msgspec.DecodeError:  # of another version
            return None
        if entry.digest != name.digest:
            raise used_otherwise()
        return SharedCall.answered(asking, name, entry.answer), kept.seconds

    def _key(self, name: Name) -> bytes:
        key_id, path, key = name.text
        parts = (key_id.encode(), path, key)
        return hmac.new(self._secret, b"".join(b"%d:%b" % (len(one), one) for one in parts), hashlib.sha256).digest()
