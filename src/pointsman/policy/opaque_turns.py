"""What an answer holds of opaque state, how it is named, and how it goes back into a turn that lacks it."""

from hashlib import blake2s
from typing import Final

import msgspec

from pointsman.canonical.parts import AnyPart, Opaque, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, Request

NAME_BYTES: Final = 20
_WITHOUT_IDS: Final = frozenset(("ollama",))  # APIs of clients whose tool calls have no ids
_SIGNED_WHEN_ASKED: Final = frozenset(("anthropic", "bedrock"))  # no thoughts unasked, and none wanted back then
_STATELESS: Final = frozenset(("openai.completions", "ollama", "cohere"))
# Makers with many names: state that one of their hosts made is understood by the others.
_DOMAINS: Final = (".amazonaws.com", ".googleapis.com")


class Answerer(msgspec.Struct, frozen=True):
    """Who answers a request: the API that it speaks, and ``maker``, who alone can read the state that it gives."""

    wire: str
    maker: str


class Thought(msgspec.Struct, frozen=True, array_like=True):
    """Reasoning as it stood in an answer, before the visible part number ``before``."""

    before: int
    text: str
    summary: list[str] | None
    opaque: Opaque | None


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """What one answer held of opaque state.

    ``maker`` as in `Answerer`, ``origin`` as in `Opaque`. ``shape`` has a letter for each text (t) and call (c);
    ``visible`` is the state on these, by their number.
    """

    maker: str
    origin: str
    shape: str
    thoughts: list[Thought]
    visible: dict[int, Opaque]


class Lookups(msgspec.Struct, frozen=True):
    """Which turns can have lost state that is of use: those with calls, those of text alone."""

    calls: bool
    texts: bool

    def of(self, parts: list[AnyPart]) -> bool:
        """Whether this turn can have."""
        return self.calls if has_calls(parts) else self.texts


_encode: Final = msgspec.msgpack.Encoder().encode
NO_LOOKUPS: Final = Lookups(False, False)


def make_answerer(wire: str, host: str, port: int, connection_id: str) -> Answerer:
    """Who answers at this address.

    Encrypted reasoning of OpenAI's Responses belongs to an account: there the connection is the maker.
    """
    if wire == "openai.responses":
        return Answerer(wire, f"{wire} {connection_id}")
    for domain in _DOMAINS:
        if host.endswith(domain):
            return Answerer(wire, f"{wire} {domain[1:]}")
    return Answerer(wire, f"{wire} {host}:{port}")


def lookups(request: Request, wire: str) -> Lookups:
    """Where state can have been, and is of use: models that were told not to think, or can't, want none back."""
    asked = request.reasoning
    off = asked is not None and (asked.enabled is False or asked.effort == "none")
    thinks = asked is not None and not off
    if wire in _STATELESS or (wire in _SIGNED_WHEN_ASKED and not thinks):
        return NO_LOOKUPS
    return Lookups(True, thinks or (wire == "gemini" and not off))


def read_turn(parts: list[AnyPart], maker: str) -> Turn | None:
    """The opaque state in an answer's parts; None when there is none."""
    origin: str | None = None
    thoughts: list[Thought] = []
    visible: dict[int, Opaque] = {}
    shape = ""
    for part in parts:
        if part.opaque is not None:
            origin = origin or part.opaque.origin
        if isinstance(part, ReasoningPart):
            thoughts.append(Thought(len(shape), part.text, part.summary, part.opaque))
        elif is_visible(part):
            if part.opaque is not None:
                visible[len(shape)] = part.opaque
            shape += _letter(part)
    return Turn(maker, origin, shape, thoughts, visible) if origin is not None else None


def put_back(message: Message, turn: Turn) -> bool:
    """Set the state where it stood; False when the client has changed the turn so that it fits no more."""
    shown = [part for part in message.parts if is_visible(part)]
    if turn.visible and "".join(map(_letter, shown)) != turn.shape:
        return False
    for number, opaque in turn.visible.items():
        shown[number].opaque = opaque
    kept = [part for part in message.parts if not isinstance(part, ReasoningPart)]
    rebuilt: list[AnyPart] = []
    waiting = list(turn.thoughts)
    number = 0
    for part in kept:
        if is_visible(part):
            while waiting and waiting[0].before <= number:
                rebuilt.append(_reasoning(waiting.pop(0), message.path))
            number += 1
        rebuilt.append(part)
    message.parts = [*rebuilt, *(_reasoning(thought, message.path) for thought in waiting)]
    return True


def take_out(message: Message, turn: Turn) -> list[AnyPart]:
    """Remove the state that ``turn`` holds too from a message; gives the parts that had it."""
    foreign = {opaque.data for opaque in turn.visible.values()}
    foreign |= {thought.opaque.data for thought in turn.thoughts if thought.opaque is not None}
    found = [part for part in message.parts if part.opaque is not None and part.opaque.data in foreign]
    for part in found:
        part.opaque = None
    message.parts = [part for part in message.parts if not _is_empty_thought(part)]
    return found


def has_state(parts: list[AnyPart], origin: str) -> bool:
    """Whether a turn holds state of the API ``origin``."""
    return any(part.opaque is not None and part.opaque.origin == origin for part in parts)


def has_calls(parts: list[AnyPart]) -> bool:
    """Whether a turn calls tools."""
    return any(isinstance(part, ToolCallPart) for part in parts)


def is_visible(part: AnyPart) -> bool:
    """Whether a part counts among a turn's texts and calls: many clients send an empty text beside calls."""
    return isinstance(part, ToolCallPart) or (isinstance(part, TextPart) and bool(part.text or part.opaque))


class Names:
    """The names of a conversation's turns: keyed hashes over the workspace and a call's id, or over all that was said.

    The conversation counts where there is no id, so that one end user's thoughts never come up in another's
    conversation because both were answered "Done.". Instructions don't count: clients put the time into them.
    """

    def __init__(self, secret: bytes, workspace_id: str, request: Request) -> None:
        """``secret``: up to 32 bytes without which nobody can tell what a name stands for."""
        self._secret = secret
        self._workspace = workspace_id
        self._messages = request.messages
        self._ids = request.wire not in _WITHOUT_IDS
        self._said = blake2s(_text(f"{workspace_id}\0said"), key=secret, digest_size=NAME_BYTES)
        self._read = 0  # messages in it

    def of(self, parts: list[AnyPart], number: int) -> list[bytes]:
        """The names of the turn ``parts`` before which ``number`` messages stand; ask in the order of turns."""
        calls = [part.id for part in parts if isinstance(part, ToolCallPart)]
        if calls and self._ids:
            return [self._named("call", call) for call in calls]
        if not calls and not any(isinstance(part, TextPart) and part.text.strip() for part in parts):
            return []
        for message in self._messages[self._read : number]:
            if message.role in ("user", "assistant"):
                self._said.update(_saying(message.role, message.parts))
        self._read = max(self._read, number)
        whole = self._said.copy()
        whole.update(_saying("assistant", parts))
        return [whole.digest()]

    def _named(self, kind: str, value: str) -> bytes:
        data = _text(f"{self._workspace}\0{kind}\0{value}")
        return blake2s(data, key=self._secret, digest_size=NAME_BYTES).digest()


def _saying(role: str, parts: list[AnyPart]) -> bytes:
    """What a message says, calls and is told by tools, however its arguments are spaced and ordered."""
    said, calls, results = "", [], []
    for part in parts:
        if isinstance(part, TextPart):
            said += part.text
        elif isinstance(part, ToolCallPart):
            calls.append((part.name, _ordered(part.arguments)))
        elif isinstance(part, ToolResultPart):
            results.append("".join(inner.text for inner in part.content if isinstance(inner, TextPart)).strip())
    said = said.strip()
    if not said and not calls and not results:
        return b""
    try:
        return _encode((role, said, calls, results))
    except UnicodeEncodeError:  # half a surrogate pair, which not every JSON reader refuses
        return repr((role, said, calls, results)).encode("ascii", "backslashreplace")


def _ordered(arguments: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments or "{}"), order="sorted").decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return arguments


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _letter(part: AnyPart) -> str:
    return "c" if isinstance(part, ToolCallPart) else "t"


def _is_empty_thought(part: AnyPart) -> bool:
    return isinstance(part, ReasoningPart) and not (part.text or part.summary or part.opaque)


def _reasoning(thought: Thought, path: str) -> ReasoningPart:
    return ReasoningPart(text=thought.text, summary=thought.summary, opaque=thought.opaque, path=path)
