"""Which conversation a request belongs to, told by digests: no word of it can be read from them.

The first message of the user does not tell conversations apart, since agents begin each of theirs alike. So the key,
the system text, the tools, the first message of the user and the first answer are taken together; before there is an
answer a request is the beginning of a conversation, and goes where every new one goes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.canonical.parts import AnyPart, TextPart, ToolCallPart
from pointsman.canonical.request import Request

SESSION_HEADERS: Final = (b"x-session-id", b"x_session_id", b"x-omniroute-session", b"session-id", b"session_id")
MAX_SESSION: Final = 256  # bytes of a client's own name for a conversation
DIGEST_BYTES: Final = 16


class Conversation(NamedTuple):
    """``known``: the digests under which it may have been kept, the surest first. ``kept``: under which to keep it."""

    known: tuple[str, ...]
    kept: str


def conversation_of(key_id: str, headers: Mapping[bytes, bytes], request: Request | None) -> Conversation | None:
    """The conversation of a request; None when it can't be told."""
    for name in SESSION_HEADERS:
        session = headers.get(name)
        if session:
            digest = _digest("session", key_id, session[:MAX_SESSION].hex())
            return Conversation((digest,), digest)
    if request is None:
        return None
    system, first, answer = _opening(request)
    if first is None:
        return None
    tools = sorted(tool.name for tool in request.tools)
    start = _digest("start", key_id, system, "\0".join(tools), first)
    if answer is None:
        return Conversation((), start)
    opened = _digest("opened", start, answer)
    return Conversation((opened, start), opened)


def fields_request(fields: Mapping[str, msgspec.Raw] | None) -> Request | None:
    """As much of a request on OpenAI's raw lane as its conversation is told by; None for what can't be read."""
    if fields is None or "messages" not in fields:
        return None
    from pointsman.canonical.halves import ClientCall
    from pointsman.dialects import openai_chat
    from pointsman.errors import GatewayError

    try:
        kept: dict[str, Any] = {"model": "any", "messages": _first_messages(fields["messages"])}
        if "tools" in fields:
            kept["tools"] = fields["tools"]
        return openai_chat.read_request(msgspec.json.encode(kept), ClientCall())
    except (GatewayError, msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _first_messages(messages: msgspec.Raw) -> list[msgspec.Raw]:
    """Up to the first answer; what comes after it tells nothing, and may be long."""
    kept: list[msgspec.Raw] = []
    for message in msgspec.json.decode(messages, type=list[msgspec.Raw]):
        kept.append(message)
        if msgspec.json.decode(message, type=_Speaker).role == "assistant":
            break
    return kept


class _Speaker(msgspec.Struct):
    role: str = ""


def _opening(request: Request) -> tuple[str, str | None, str | None]:
    """The system text, the user's first words, and what was answered to them."""
    system: list[str] = []
    first: str | None = None
    for message in request.messages:
        if message.role in ("system", "developer"):
            if first is None:
                system.append(_text(message.parts))
        elif message.role == "user":
            first = _text(message.parts) if first is None else first
        elif first is not None:
            return "\0".join(system), first, _text(message.parts)
    return "\0".join(system), first, None


def _text(parts: Iterable[AnyPart]) -> str:
    found = []
    for part in parts:
        if isinstance(part, TextPart):
            found.append(part.text)
        elif isinstance(part, ToolCallPart):
            found.append(part.name + part.arguments)
    return "\0".join(found)


def _digest(*texts: str) -> str:
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(data) + data)
    return state.hexdigest()
