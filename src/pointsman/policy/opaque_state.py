"""The vault of opaque state: what a model's maker wants back unchanged, and clients often strip.

Thinking signatures, thought signatures, encrypted reasoning and reasoning text that has to be echoed are kept when an
answer passes, under the ids of the tool calls in that answer, or under the conversation when there are none. When a
request comes whose assistant turns lack state, it is put back. State goes back to its maker only: for any other it
stays here, with a note.

Memory comes first. A store, when there is one, has what other workers and nodes kept, and what was kept before a
restart; it is asked only where state was possible and memory knows nothing.

Names are keyed hashes over the workspace and the id or conversation, so no tenant can reach another's state, and
nothing readable is a name.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import AnyPart, ToolResultPart
from pointsman.canonical.request import Message, Request
from pointsman.policy.opaque_turns import (
    Answerer,
    Names,
    Turn,
    has_calls,
    has_state,
    lookups,
    put_back,
    read_turn,
    take_out,
)

MAX_BYTES: Final = 32 * 1024 * 1024
MAX_ENTRY_BYTES: Final = 1024 * 1024
KEEP_SECONDS: Final = 24 * 3600.0
MAX_STRIPPED: Final = 256  # turns of one request that are looked up in the store: the newest
MAX_NAMES: Final = 16  # of one turn, asked for
MAX_BARREN: Final = 50_000  # names that are known to have no state
BARREN_SECONDS: Final = 600.0
UNSURE_SECONDS: Final = 2.0  # the newest turn's state may still be on its way into the store
PAUSES: Final = (0.02, 0.05)  # seconds in which another worker's write arrives
RESTORED: Final = "the model's own reasoning state, kept by the gateway"
UNREAD: Final = "its reasoning state, if any is kept, could not be read from the database"


class Kept(msgspec.Struct, frozen=True):
    """A stored entry, and for how many seconds from now it lives."""

    data: bytes
    seconds: float


class Store(Protocol):
    """Where entries are shared and outlive the process (policy/state_store.py)."""

    def put(self, workspace_id: str, key: bytes, data: bytes) -> None:
        """Take an entry in, to be written later. Never waits, never fails."""
        ...

    async def find(self, workspace_id: str, keys: Sequence[bytes]) -> Mapping[bytes, Kept] | None:
        """The entries of these keys; None when they could not be read in time. Never fails."""
        ...


class Stripped(msgspec.Struct, frozen=True):
    """An assistant turn that may have lost its state, of which memory knows nothing."""

    message: Message
    path: str
    keys: list[bytes]
    newest: bool  # the calls in it are just answered: without its state, the upstream may refuse the request


class Vault:
    """State of recent answers, in memory: bounded in bytes and in time, the oldest goes first.

    ``secret`` makes names unguessable, and must be the same for all that share a ``store``.
    """

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        *,
        keep_seconds: float = KEEP_SECONDS,
        max_entry_bytes: int = MAX_ENTRY_BYTES,
        secret: bytes = b"",
        store: Store | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._max_entry_bytes = max_entry_bytes
        self._secret = secret
        self._store = store
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()  # the end of its time, the turn
        self._barren: OrderedDict[bytes, float] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, workspace_id: str, request: Request, answerer: Answerer, parts: list[AnyPart], now: float) -> None:
        """Keep the state of an answer to ``request``. ``now`` is monotonic, in seconds."""
        turn = read_turn(parts, answerer.maker)
        if turn is None:
            self._keep_none(workspace_id, request, answerer, parts, now)
            return
        data = _encode(turn)
        keys = Names(self._secret, workspace_id, request).of(parts, len(request.messages))
        if not keys or len(data) > self._max_entry_bytes:
            return
        for key in keys:
            self._put(key, data, now + self._keep_seconds)
        if self._store is not None:
            self._store.put(workspace_id, keys[0], data)  # under one name: calls of a turn come back together

    def _keep_none(
        self, workspace_id: str, request: Request, answerer: Answerer, parts: list[AnyPart], now: float
    ) -> None:
        """Remember that this answer had no state, so that nobody looks for it."""
        if self._store is not None and lookups(request, answerer.wire).of(parts):
            for key in Names(self._secret, workspace_id, request).of(parts, len(request.messages))[:1]:
                self._mark_barren(key, now + BARREN_SECONDS)

    def restore(
        self, workspace_id: str, request: Request, answerer: Answerer, now: float, fidelity: Fidelity
    ) -> list[Stripped]:
        """Put back what the request's assistant turns lack of the state that ``answerer`` gave.

        What a client carries itself stays, unless memory knows that another maker gave it: that is taken out.
        ``request.messages`` gets new messages for those that change: the old ones may be needed for another answerer.
        Gives the turns that `recall` should look up in the store; mostly none.
        """
        if self._store is None and not self._entries:
            return []
        wanted = lookups(request, answerer.wire)
        names = Names(self._secret, workspace_id, request)
        stripped: list[Stripped] = []
        for number, message in enumerate(request.messages):
            if message.role != "assistant" or not (wanted.texts or has_calls(message.parts)):
                continue  # calls are worth a look into memory at any rate
            keys = names.of(message.parts, number)
            path = message.path or f"messages[{number}]"
            turn = self._find(keys, now)
            if has_state(message.parts, answerer.wire):
                if turn is not None and turn.maker != answerer.maker:
                    _take_out(_own_copy(request, number), path, turn, fidelity)
            elif turn is not None:
                _give(_own_copy(request, number), path, turn, answerer, fidelity)
            elif self._store is not None and keys and wanted.of(message.parts) and self._barren.get(keys[0], 0.0) < now:
                newest = wanted.texts and _is_answered_now(request, number)
                stripped.append(Stripped(_own_copy(request, number), path, keys, newest))
        return stripped[-MAX_STRIPPED:]

    async def recall(
        self, workspace_id: str, stripped: list[Stripped], answerer: Answerer, now: float, fidelity: Fidelity
    ) -> None:
        """Look the turns up in the store and put their state back. What can't be read in time is noted."""
        found = await self._look_up(workspace_id, stripped)
        for one in stripped:
            if found is None:
                fidelity.approximated(one.path, UNREAD)
                continue
            kept = _first(found, one.keys)
            turn = None if kept is None else _decode(kept.data)
            if kept is None or turn is None:
                self._mark_barren(one.keys[0], now + (UNSURE_SECONDS if one.newest else BARREN_SECONDS))
                continue
            for key in one.keys:
                self._put(key, kept.data, now + min(kept.seconds, self._keep_seconds))
            _give(one.message, one.path, turn, answerer, fidelity)

    async def _look_up(self, workspace_id: str, stripped: list[Stripped]) -> Mapping[bytes, Kept] | None:
        """What the store has; it is asked again for the newest turn, which another worker may be writing just now."""
        assert self._store is not None, "nothing is looked up without a store"
        names = [key for one in stripped for key in one.keys[:MAX_NAMES]]
        found = await self._store.find(workspace_id, names)
        if found is None or not stripped[-1].newest:
            return found
        keys = stripped[-1].keys[:MAX_NAMES]
        for pause in PAUSES:
            if _first(found, keys) is not None:
                break
            await asyncio.sleep(pause)
            more = await self._store.find(workspace_id, keys)
            found = found if more is None else {**found, **more}
        return found

    def _find(self, keys: Iterable[bytes], now: float) -> Turn | None:
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and now <= entry[0]:
                self._entries.move_to_end(key)
                return _decode(entry[1])
        return None

    def _put(self, key: bytes, data: bytes, until: float) -> None:
        self._barren.pop(key, None)
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= len(old[1]) + len(key)
        self._entries[key] = (until, data)
        self.bytes += len(data) + len(key)
        while self.bytes > self._max_bytes:
            gone, (_, lost) = self._entries.popitem(last=False)
            self.bytes -= len(lost) + len(gone)

    def _mark_barren(self, key: bytes, until: float) -> None:
        self._barren[key] = until
        self._barren.move_to_end(key)
        if len(self._barren) > MAX_BARREN:
            self._barren.popitem(last=False)


_encode: Final = msgspec.msgpack.Encoder().encode
_turn: Final = msgspec.msgpack.Decoder(Turn)


def _decode(data: bytes) -> Turn | None:
    """None for what another version of the program wrote."""
    try:
        return _turn.decode(data)
    except msgspec.DecodeError:
        return None


def _own_copy(request: Request, number: int) -> Message:
    """A message of the request, and its parts, in place of the same that others may hold."""
    message = request.messages[number]
    parts: list[AnyPart] = [msgspec.structs.replace(part) for part in message.parts]
    copied = request.messages[number] = msgspec.structs.replace(message, parts=parts)
    return copied


def _give(message: Message, path: str, turn: Turn, answerer: Answerer, fidelity: Fidelity) -> None:
    """Put state back, unless the client has carried it itself or somebody else made it."""
    if has_state(message.parts, turn.origin):
        return
    if turn.maker != answerer.maker:
        fidelity.approximated(
            path, f"without the reasoning state kept with it, which only its maker reads: {turn.maker}"
        )
    elif put_back(message, turn):
        fidelity.synthesised(path, RESTORED)


def _take_out(message: Message, path: str, turn: Turn, fidelity: Fidelity) -> None:
    """Remove state that a client has carried to somebody who did not make it, and would refuse it."""
    for part in take_out(message, turn):
        fidelity.dropped(part.path or path, f"reasoning state that only its maker reads: {turn.maker}")


def _first(found: Mapping[bytes, Kept], keys: list[bytes]) -> Kept | None:
    return next((found[key] for key in keys if key in found), None)


def _is_answered_now(request: Request, number: int) -> bool:
    """Whether only tools' results stand behind this turn."""
    messages = request.messages
    behind = (messages[place] for place in range(number + 1, len(messages)))
    return number + 1 < len(messages) and all(
        message.role == "user" and any(isinstance(part, ToolResultPart) for part in message.parts) for message in behind
    )
