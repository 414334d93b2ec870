"""The vault of opaque state: what a model's maker wants back unchanged, and clients often strip.

Thinking signatures, thought signatures, encrypted reasoning and reasoning text that has to be echoed are kept when an
answer passes, under the ids of the tool calls in that answer, or under its text when there are none; under what it
said and called, too, for clients whose API has no ids. When a request
comes whose assistant turns lack the state of the API they now go to, it is put back. State of another API than the
one a request goes to stays where it is: providers drop it with a note.

Keys are hashes over the workspace and the id or text, so no tenant can reach another's state, and nothing readable
is a key.
"""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2s
from typing import Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import AnyPart, Opaque, ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.request import Message, Request

MAX_BYTES: Final = 32 * 1024 * 1024
MAX_ENTRY_BYTES: Final = 1024 * 1024
KEEP_SECONDS: Final = 24 * 3600.0
_WITHOUT_IDS: Final = frozenset(("ollama",))  # APIs of clients whose tool calls have no ids


class Thought(msgspec.Struct, frozen=True, array_like=True):
    """Reasoning as it stood in an answer, before the visible part number ``before``."""

    before: int
    text: str
    summary: list[str] | None
    opaque: Opaque | None


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """What one answer held of opaque state. ``visible`` is the state on its texts and calls, by their number."""

    origin: str
    thoughts: list[Thought]
    visible: dict[int, Opaque]


_encode: Final = msgspec.msgpack.Encoder().encode
_turn: Final = msgspec.msgpack.Decoder(Turn)


class Vault:
    """State of recent answers, in memory: bounded in bytes and in time, the oldest goes first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, workspace_id: str, parts: list[AnyPart], now: float) -> None:
        """Keep an answer's state. ``now`` is monotonic, in seconds."""
        turn = read_turn(parts)
        if turn is None:
            return
        data = _encode(turn)
        if len(data) > MAX_ENTRY_BYTES:
            return
        for key in keys_of(workspace_id, parts):
            self._put(key, data, now)
        if any(isinstance(part, ToolCallPart) for part in parts):
            self._put(_content_key(workspace_id, parts), data, now)

    def restore(self, workspace_id: str, request: Request, wire: str, now: float, fidelity: Fidelity) -> None:
        """Put back what the request's assistant turns lack of the state of the API ``wire``."""
        if not self._entries:
            return
        for number, message in enumerate(request.messages):
            if message.role != "assistant" or _has_state(message.parts, wire):
                continue
            keys = keys_of(workspace_id, message.parts)
            if request.wire in _WITHOUT_IDS:
                keys.append(_content_key(workspace_id, message.parts))
            turn = self._find(keys, now)
            if turn is not None and turn.origin == wire and _put_back(message, turn):
                path = message.path or f"messages[{number}]"
                fidelity.synthesised(path, "the model's own reasoning state, kept by the gateway")

    def _find(self, keys: Iterable[bytes], now: float) -> Turn | None:
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and now - entry[0] <= KEEP_SECONDS:
                self._entries.move_to_end(key)
                return _turn.decode(entry[1])
        return None

    def _put(self, key: bytes, data: bytes, now: float) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= len(old[1]) + len(key)
        self._entries[key] = (now, data)
        self.bytes += len(data) + len(key)
        while self.bytes > self._max_bytes:
            gone, (_, lost) = self._entries.popitem(last=False)
            self.bytes -= len(lost) + len(gone)


def read_turn(parts: list[AnyPart]) -> Turn | None:
    """The opaque state in an answer's parts; None when there is none."""
    origin: str | None = None
    thoughts: list[Thought] = []
    visible: dict[int, Opaque] = {}
    number = 0
    for part in parts:
        if part.opaque is not None:
            origin = origin or part.opaque.origin
        if isinstance(part, ReasoningPart):
            thoughts.append(Thought(number, part.text, part.summary, part.opaque))
        elif _is_visible(part):
            if part.opaque is not None:
                visible[number] = part.opaque
            number += 1
    return Turn(origin, thoughts, visible) if origin is not None else None


def keys_of(workspace_id: str, parts: list[AnyPart]) -> list[bytes]:
    """The names under which an answer's state is kept: one for each tool call, or one for its text."""
    calls = [part.id for part in parts if isinstance(part, ToolCallPart)]
    if calls:
        return [_key(workspace_id, "call", call) for call in calls]
    text = "".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    return [_key(workspace_id, "text", text)] if text else []


def _content_key(workspace_id: str, parts: list[AnyPart]) -> bytes:
    """A name for an answer by what it says and calls, however its arguments are spaced and ordered."""
    said = "".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    calls = [(part.name, _ordered(part.arguments)) for part in parts if isinstance(part, ToolCallPart)]
    return _key(workspace_id, "content", msgspec.json.encode([said, calls]).decode())


def _ordered(arguments: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments or "{}"), order="sorted").decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return arguments


def _key(workspace_id: str, kind: str, value: str) -> bytes:
    return blake2s(f"{workspace_id}\0{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _has_state(parts: list[AnyPart], wire: str) -> bool:
    return any(part.opaque is not None and part.opaque.origin == wire for part in parts)


def _is_visible(part: AnyPart) -> bool:
    """Whether a part counts among a turn's texts and calls: many clients send an empty text beside calls."""
    return isinstance(part, ToolCallPart) or (isinstance(part, TextPart) and bool(part.text or part.opaque))


def _put_back(message: Message, turn: Turn) -> bool:
    """Set the state where it stood; False when the client has changed the turn so that it fits no more."""
    shown = [part for part in message.parts if _is_visible(part)]
    if any(number >= len(shown) for number in turn.visible):
        return False
    for number, opaque in turn.visible.items():
        shown[number].opaque = opaque
    kept = [part for part in message.parts if not isinstance(part, ReasoningPart)]
    rebuilt: list[AnyPart] = []
    waiting = list(turn.thoughts)
    number = 0
    for part in kept:
        if _is_visible(part):
            while waiting and waiting[0].before <= number:
                rebuilt.append(_reasoning(waiting.pop(0), message.path))
            number += 1
        rebuilt.append(part)
    message.parts = [*rebuilt, *(_reasoning(thought, message.path) for thought in waiting)]
    return True


def _reasoning(thought: Thought, path: str) -> ReasoningPart:
    return ReasoningPart(text=thought.text, summary=thought.summary, opaque=thought.opaque, path=path)
